"""Training steps in plain JAX, as its users write them, for the comparison with Tessera.

Each function returns (step, state, batches, shardings): step(state, batch) -> (state, loss), the
first state and batch, and a NamedSharding (or None) for each of their leaves.
"""
import numpy as np

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec as P

HIGHEST = jax.lax.Precision.HIGHEST


def adam(loss, learning_rate=1e-2, beta1=0.9, beta2=0.95, epsilon=1e-6):
    """One step of Adam on loss(params, batch); the state is (params, m, v, count)."""

    def step(state, batch):
        params, m, v, count = state
        value, grads = jax.value_and_grad(loss)(params, batch)
        count = count + 1
        m = jax.tree.map(lambda a, g: beta1 * a + (1 - beta1) * g, m, grads)
        v = jax.tree.map(lambda a, g: beta2 * a + (1 - beta2) * g * g, v, grads)
        c1 = 1 - beta1 ** count.astype(jnp.float32)
        c2 = 1 - beta2 ** count.astype(jnp.float32)
        params = jax.tree.map(
            lambda p, a, b: p - learning_rate * (a / c1) / (jnp.sqrt(b / c2) + epsilon), params, m, v)
        return (params, m, v, count), value

    return step


def with_adam_state(params, specs, mesh):
    def zeros():
        return jax.tree.map(jnp.zeros_like, params)

    shardings = jax.tree.map(lambda s: NamedSharding(mesh, s), specs, is_leaf=lambda s: isinstance(s, P))
    state = (params, zeros(), zeros(), jnp.zeros((), jnp.int32))
    return state, (shardings, shardings, shardings, NamedSharding(mesh, P()))


def normal(rng, *shape, scale=None):
    scale = scale or shape[0] ** -0.5
    return jnp.asarray(rng.normal(size=shape) * scale, jnp.float32)


# ---- A dense decoder ---------------------------------------------------------------------------

def rms_norm(x, weight):
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6) * weight


def rotary(x):
    """Positions as complex numbers, so that c64 is exercised: x [batch, length, heads, dim]."""
    length, dim = x.shape[1], x.shape[3]
    angles = jnp.outer(jnp.arange(length, dtype=jnp.float32),
                       10000.0 ** (-jnp.arange(dim // 2, dtype=jnp.float32) * 2 / dim))
    turn = jnp.exp(1j * angles.astype(jnp.complex64))[None, :, None, :]
    z = jax.lax.complex(x[..., 0::2], x[..., 1::2]) * turn
    return jnp.stack([jnp.real(z), jnp.imag(z)], -1).reshape(x.shape)


def attention(x, w, heads, constrain):
    batch, length, embed = x.shape
    q, k, v = (constrain(jnp.einsum("ble,ehd->blhd", x, w[n]), P("data", None, "model", None))
               for n in ("q", "k", "v"))
    q, k = rotary(q), rotary(k)
    scores = jnp.einsum("blhd,bmhd->bhlm", q, k) / np.sqrt(embed // heads)
    causal = jnp.tril(jnp.ones((length, length), bool))
    weights = jax.nn.softmax(jnp.where(causal, scores, -1e30), -1)
    return jnp.einsum("bhlm,bmhd,hde->ble", weights, v, w["o"])


def dense_block(x, w, heads, constrain):
    x = x + attention(rms_norm(x, w["norm1"]), w, heads, constrain)
    h = rms_norm(x, w["norm2"])
    h = constrain(jax.nn.gelu(h @ w["up"]), P("data", None, "model"))
    return constrain(x + h @ w["down"], P("data", None, None))


def dense_weights(rng, layers, embed, heads, mlp):
    d = embed // heads
    return dict(q=normal(rng, layers, embed, heads, d, scale=embed ** -0.5),
                k=normal(rng, layers, embed, heads, d, scale=embed ** -0.5),
                v=normal(rng, layers, embed, heads, d, scale=embed ** -0.5),
                o=normal(rng, layers, heads, d, embed, scale=embed ** -0.5),
                up=normal(rng, layers, embed, mlp, scale=embed ** -0.5),
                down=normal(rng, layers, mlp, embed, scale=mlp ** -0.5),
                norm1=jnp.ones((layers, embed)), norm2=jnp.ones((layers, embed)))


DENSE_SPECS = dict(q=P(None, "data", "model", None), k=P(None, "data", "model", None),
                   v=P(None, "data", "model", None), o=P(None, "model", None, "data"),
                   up=P(None, "data", "model"), down=P(None, "model", "data"),
                   norm1=P(None, None), norm2=P(None, None))


def next_token_loss(logits, targets):
    logits = jax.nn.log_softmax(logits, -1)
    return -jnp.mean(jnp.take_along_axis(logits, targets[..., None], -1))


def decoder(mesh, block, weights, specs, scanned, vocab=64, embed=32, batch=8, length=16, seed=0,
            head=lambda x, tables: x @ tables.T):
    rng = np.random.default_rng(seed)

    def constrain(x, spec):
        return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, spec))

    def loss(params, batch):
        inputs, targets = batch
        x = constrain(jnp.take(params["embed"], inputs, axis=0), P("data", None, None))
        if scanned:
            x, _ = jax.lax.scan(jax.checkpoint(lambda x, w: (block(x, w, constrain), None)), x,
                                params["blocks"])
        else:
            for i in range(jax.tree.leaves(params["blocks"])[0].shape[0]):
                x = block(x, jax.tree.map(lambda w: w[i], params["blocks"]), constrain)
        return next_token_loss(head(x, params["embed"]), targets)

    params = dict(embed=normal(rng, vocab, embed, scale=0.3), blocks=weights(rng))
    state, shardings = with_adam_state(params, dict(embed=P("model", None), blocks=specs), mesh)
    tokens = jnp.asarray(rng.integers(0, vocab, (batch, length + 1)), jnp.int32)
    batches = (tokens[:, :-1], tokens[:, 1:])
    row = NamedSharding(mesh, P("data", None))
    return adam(loss), state, batches, (shardings, (row, row))


def dense(mesh, scanned=False, layers=2, embed=32, heads=4, mlp=64, **sizes):
    return decoder(mesh, lambda x, w, c: dense_block(x, w, heads, c),
                   lambda rng: dense_weights(rng, layers, embed, heads, mlp), DENSE_SPECS, scanned,
                   embed=embed, **sizes)


# ---- A mixture of experts: capacity and einsums, as GShard ----------------------------------------

def expert_layer(x, w, constrain, capacity):
    batch, length, embed = x.shape
    experts = w["gate"].shape[1]
    gates = jax.nn.softmax(x @ w["gate"], -1)                       # [b, s, e]
    best = jnp.argmax(gates, -1)
    chosen = jax.nn.one_hot(best, experts, dtype=jnp.int32)         # [b, s, e]
    place = jnp.cumsum(chosen, 1) * chosen - 1                      # within the expert
    fits = (place >= 0) & (place < capacity)
    slots = jax.nn.one_hot(jnp.where(fits, place, -1), capacity)    # [b, s, e, c]
    combine = gates[..., None] * slots
    dispatch = slots.astype(x.dtype)
    taken = constrain(jnp.einsum("bsm,bsec->ebcm", x, dispatch), P("model", "data", None, None))
    hidden = jax.nn.relu(jnp.einsum("ebcm,emh->ebch", taken, w["in"]))
    given = constrain(jnp.einsum("ebch,ehm->ebcm", hidden, w["out"]), P("model", "data", None, None))
    return constrain(jnp.einsum("ebcm,bsec->bsm", given, combine), P("data", None, None))


def experts(mesh, scanned=False, layers=2, embed=32, heads=4, mlp=64, experts=4, capacity=8, **sizes):
    def block(x, w, constrain):
        x = x + attention(rms_norm(x, w["norm1"]), w, heads, constrain)
        return x + expert_layer(rms_norm(x, w["norm2"]), w, constrain, capacity)

    def weights(rng):
        w = dense_weights(rng, layers, embed, heads, mlp)
        del w["up"], w["down"]
        w["gate"] = normal(rng, layers, embed, experts, scale=embed ** -0.5)
        w["in"] = normal(rng, layers, experts, embed, mlp, scale=embed ** -0.5)
        w["out"] = normal(rng, layers, experts, mlp, embed, scale=mlp ** -0.5)
        return w

    specs = {k: v for k, v in DENSE_SPECS.items() if k not in ("up", "down")}
    specs |= {"gate": P(None, None, None), "in": P(None, "model", None, None),
              "out": P(None, "model", None, None)}
    return decoder(mesh, block, weights, specs, scanned, embed=embed, **sizes)


# ---- Convolutions over space ----------------------------------------------------------------------

def convolutional(mesh, batch=4, size=16, channels=8, classes=10, seed=0):
    rng = np.random.default_rng(seed)

    def conv(x, w, stride=1):
        return jax.lax.conv_general_dilated(x, w, (stride, stride), "SAME",
                                            dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def loss(params, batch):
        images, labels = batch
        x = jax.nn.relu(conv(images, params["c1"]))
        x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        x = jax.nn.relu(conv(x, params["c2"], stride=2))
        x = jax.lax.with_sharding_constraint(x, NamedSharding(mesh, P("data", "model", None, None)))
        logits = jnp.mean(x, (1, 2)) @ params["w"] + params["b"]
        chosen = jax.nn.one_hot(labels, classes)
        return -jnp.mean(jnp.sum(jax.nn.log_softmax(logits) * chosen, -1))

    params = dict(c1=normal(rng, 3, 3, 3, channels, scale=0.2), c2=normal(rng, 3, 3, channels, 2 * channels, scale=0.1),
                  w=normal(rng, 2 * channels, classes), b=jnp.zeros((classes,)))
    specs = dict(c1=P(), c2=P(None, None, None, "model"), w=P("model", None), b=P())
    state, shardings = with_adam_state(params, specs, mesh)
    batches = (normal(rng, batch, size, size, 3, scale=1.0), jnp.asarray(rng.integers(0, classes, batch), jnp.int32))
    over = (NamedSharding(mesh, P("data", "model", None, None)), NamedSharding(mesh, P("data")))
    return adam(loss), state, batches, (shardings, over)


PROGRAMS = {
    "dense": lambda mesh: dense(mesh),
    "dense_scanned": lambda mesh: dense(mesh, scanned=True),
    "experts": lambda mesh: experts(mesh),
    "experts_scanned": lambda mesh: experts(mesh, scanned=True),
    "convolutional": lambda mesh: convolutional(mesh),
}
