"""Functions of jax.numpy and jax.lax, one small program each: name -> (function, arguments).

    python functions.py TESSERA FOLDER [NAME ...]

exports each with random shardings over a 2 x 2 mesh, runs it by `tessera hlo run`, and compares the
results with JAX's. Ends with 1 where one differs or fails. What Tessera does not have must be refused
by name (UNSUPPORTED).
"""
import argparse
import os
import pathlib
import subprocess
import sys

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P

jax.config.update("jax_default_matmul_precision", "highest")

FUNCTIONS = {}
UNSUPPORTED = {"fft": "opcode fft", "cholesky": "custom call lapack_spotrf_ffi"}
RANDOM = np.random.default_rng(0)


def reals(*shape):
    return jnp.asarray(RANDOM.normal(size=shape), jnp.float32)


def integers(bound, *shape):
    return jnp.asarray(RANDOM.integers(0, bound, shape), jnp.int32)


X, Y = reals(8, 12), reals(8, 12)
POSITIVE = jnp.abs(X) + 0.1
K, SMALL = integers(100, 8, 12), integers(7, 8, 12) + 1
KEY = jax.random.key_data(jax.random.key(3))
IMAGES = reals(4, 8, 8, 3)


def add(name, function, *arguments):
    FUNCTIONS[name] = (function, arguments)


def numpy_functions():
    for name in ("exp log1p expm1 sin cos tan tanh sign floor ceil round abs square negative cbrt arctan sinh cosh "
                 "arcsinh isnan isfinite isinf exp2 sinc signbit").split():
        add(name, getattr(jnp, name), X)
    for name in "log sqrt log2 log10 reciprocal".split():
        add(name, getattr(jnp, name), POSITIVE)
    add("arctanh", jnp.arctanh, POSITIVE * 0.3)
    add("arccosh", jnp.arccosh, POSITIVE + 1)
    for name in "arcsin arccos".split():
        add(name, getattr(jnp, name), jnp.tanh(X))
    for name in ("add subtract multiply maximum minimum arctan2 hypot logaddexp fmod remainder copysign nextafter "
                 "floor_divide").split():
        add(name, getattr(jnp, name), X, Y)
    add("power", jnp.power, POSITIVE, Y)
    for name in "erf erfc lgamma digamma".split():
        add(name, getattr(lax, name), POSITIVE)
    add("erf_inv", lax.erf_inv, jnp.tanh(X))
    for name in "bitwise_and bitwise_or bitwise_xor left_shift right_shift floor_divide remainder gcd".split():
        add("integer_" + name, getattr(jnp, name), K, SMALL)
    add("population_count", lax.population_count, K)
    add("clz", lax.clz, K)
    add("integer_overflow", lambda k: (k * 2147483647, k // 3, -k % 7), K)
    add("bytes", lambda k: (k.astype(jnp.uint8) * 3 + 250, k.astype(jnp.uint8) >> 2), K)
    add("casts", lambda x: (x.astype(jnp.int8), x.astype(jnp.uint8), (x * 1e3).astype(jnp.int16),
                            x.astype(jnp.bfloat16), x.astype(jnp.float16), x.astype(bool)), X)
    add("f8", lambda x: (x.astype(jnp.float8_e4m3fn).astype(jnp.float32),
                         x.astype(jnp.float8_e5m2).astype(jnp.float32)), X)
    add("bitcast", lambda x: (lax.bitcast_convert_type(x, jnp.int32), lax.bitcast_convert_type(x, jnp.uint8)), X)
    add("reduce_precision", lambda x: lax.reduce_precision(x, 5, 4), X)
    add("complex", lambda x, y: (jnp.abs(x + 1j * y), jnp.angle(x + 1j * y), jnp.conj(x + 1j * y).imag,
                                 jnp.exp(1j * x).real, ((x + 1j * y) * (y - 2j) / (3 + x * 1j)).imag), X, Y)
    add("complex_product", lambda x, y: jnp.abs((x + 1j * y) @ (y.T - 1j * x.T)), X, Y)
    add("fft", jnp.fft.fft, X)
    add("cholesky", lambda x: jnp.linalg.cholesky(x @ x.T + 8 * jnp.eye(8)), X)


def along_dims():
    add("cumsum", lambda x: jnp.cumsum(x, 1), X)
    add("cumprod", lambda x: jnp.cumprod(x, 0), X)
    add("cummax", lambda x: lax.cummax(x, 1), X)
    add("cumlogsumexp", lambda x: lax.cumlogsumexp(x, 1), X)
    add("cumsum_reversed", lambda x: lax.cumsum(x, 0, reverse=True), X)
    add("associative_scan", lambda x: lax.associative_scan(jnp.multiply, x, axis=0), X)
    add("sort", lambda x: (jnp.sort(x, 1), jnp.sort(x, 0), jnp.sort(x, 1, descending=True)), X)
    add("argsort", lambda x: jnp.argsort(x, 1), X)
    add("sort_by_two", lambda a, b: lax.sort((a, b), num_keys=2), SMALL, K)
    add("top_k", lambda x: lax.top_k(x, 3), X)
    add("argmax", lambda x: (jnp.argmax(x, 1), jnp.argmin(x, 0)), X)
    add("median", lambda x: jnp.median(x, 1), X)
    add("quantile", lambda x: jnp.quantile(x, 0.3, axis=0), X)
    add("moments", lambda x: (jnp.var(x, 1), jnp.std(x), jnp.mean(x, 0)), X)
    add("softmax", lambda x: (jax.nn.softmax(x), jax.nn.logsumexp(x, 0)), X)
    add("reductions", lambda x: (jnp.prod(x, 1), jnp.max(x), jnp.min(x, 0), jnp.any(x > 0, 1), jnp.all(x > -9)), X)
    add("trace", lambda x: (jnp.trace(x), jnp.linalg.norm(x), jnp.vdot(x, x)), X)
    add("histogram", lambda x: jnp.histogram(x, bins=5)[0], X)
    add("searchsorted", lambda a, v: jnp.searchsorted(jnp.sort(a), v), X[0], Y[0])
    add("unique", lambda k: jnp.unique(k, size=20, fill_value=-1), K)
    add("nonzero", lambda x: jnp.nonzero(x > 0.5, size=30, fill_value=0), X)
    add("digitize", lambda x: jnp.digitize(x, jnp.array([-1.0, 0, 1])), X)
    add("interp", lambda q: jnp.interp(q, jnp.arange(5.0), jnp.arange(5.0) ** 2), X)


def products():
    add("matmul", lambda a, b: a @ b.T, X, Y)
    add("einsum", lambda a, b: jnp.einsum("ij,ik->jk", a, b), X, Y)
    add("batched", lambda a, b: jnp.einsum("bij,bjk->bki", a, b), reals(4, 6, 8), reals(4, 8, 5))
    add("outer", jnp.outer, X[0], Y[1])
    add("integer_matmul", lambda a, b: a @ b.T, K, SMALL)
    add("bf16_matmul", lambda a, b: a.astype(jnp.bfloat16) @ b.T.astype(jnp.bfloat16), X, Y)
    add("ragged_dot", lambda a, b: lax.ragged_dot(a, b, jnp.array([3, 2, 3], jnp.int32)), X, reals(3, 12, 5))
    add("convolution", lambda a, b: lax.conv_general_dilated(
        a, b, (2, 1), [(1, 2), (0, 1)], lhs_dilation=(1, 2), rhs_dilation=(2, 1), feature_group_count=2),
        reals(4, 4, 9, 8), reals(6, 2, 3, 3))

    def convolve(groups):
        return jax.grad(lambda a, b: (lax.conv_general_dilated(
            a, b, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups) ** 2).sum(),
            argnums=(0, 1))

    add("convolution_gradients", convolve(1), IMAGES, reals(3, 3, 3, 8))
    add("grouped_convolution_gradients", convolve(4), reals(4, 8, 8, 4), reals(3, 3, 1, 8))
    add("convolve", lambda a, v: jax.vmap(lambda r: jnp.convolve(r, v, "same"))(a), X, reals(3))

    def pool(x, start, combine, padding):
        return lax.reduce_window(x, start, combine, (1, 3, 3, 1), (1, 2, 2, 1), padding)

    add("pools", lambda x: (pool(x, 0.0, lax.add, "SAME"), pool(x, -jnp.inf, lax.max, "VALID")), IMAGES)
    add("max_pool_gradient", jax.grad(lambda x: (pool(x, -jnp.inf, lax.max, "SAME") ** 2).sum()), IMAGES)
    add("mean_pool_gradient", jax.grad(lambda x: (pool(x, 0.0, lax.add, "SAME") ** 2).sum()), IMAGES)
    q = reals(2, 8, 4, 8)
    add("attention", lambda q: jax.nn.dot_product_attention(q, q, q, is_causal=True), q)
    add("attention_gradient", jax.grad(
        lambda q: (jax.nn.dot_product_attention(q, q * 2, q, is_causal=True) ** 2).sum()), q)


def indexing():
    add("rows", lambda x, i: x[i], X, integers(8, 5))
    add("take", lambda x, i: jnp.take(x, i, axis=1), X, integers(12, 3, 4))
    add("take_along_axis", lambda x, i: jnp.take_along_axis(x, i, 1), X, integers(12, 8, 3))
    add("elements", lambda x, i, j: x[i, j], X, integers(8, 6), integers(12, 6))
    add("from_the_end", lambda x, i: x[-i], X, integers(8, 5))
    add("fill_outside", lambda x, i: x.at[i].get(mode="fill", fill_value=-1.0), X, integers(20, 6))
    add("clip_outside", lambda x, i: x.at[i].get(mode="clip"), X, integers(20, 6))
    add("scatter_add", lambda x, i, u: x.at[i].add(u), X, integers(8, 5), reals(5, 12))
    add("scatter_set", lambda x, i, u: x.at[i].set(u), X, jnp.asarray([1, 4, 2], jnp.int32), reals(3, 12))
    add("scatter_max", lambda x, i, u: x.at[:, i].max(u), X, integers(12, 5), reals(8, 5))
    add("scatter_multiply", lambda x, i, u: x.at[i].multiply(u), X, integers(8, 5), reals(5, 12))
    add("scatter_drop", lambda x, i, u: x.at[i].min(u, mode="drop"), X, integers(20, 5), reals(5, 12))
    add("segment_sum", lambda x, i: jax.ops.segment_sum(x, i, 5), X, integers(5, 8))
    add("rows_gradient", jax.grad(lambda x, i: (x[i] ** 2).sum()), X, integers(8, 5))
    add("bincount", lambda k: jnp.bincount(k.ravel(), length=100), K)
    add("dynamic_slice", lambda x, i: lax.dynamic_slice(x, (i, i + 3), (3, 4)), X, jnp.int32(4))
    add("dynamic_update_slice", lambda x, u, i: lax.dynamic_update_slice(x, u, (i, i)), X, reals(2, 3), jnp.int32(9))
    add("dynamic_index", lambda x, i: lax.dynamic_index_in_dim(x, i, 1), X, jnp.int32(3))
    add("one_hot", lambda i: jax.nn.one_hot(i, 12), integers(12, 8))
    add("cross_entropy", lambda x, i: jax.value_and_grad(
        lambda x: -jnp.take_along_axis(jax.nn.log_softmax(x), i[:, None], 1).mean())(x), X, integers(12, 8))


def movement():
    add("pad", lambda x: lax.pad(x, 0.5, ((1, 2, 1), (-1, 3, 0))), X)
    add("pad_modes", lambda x: (jnp.pad(x, 2, mode="edge"), jnp.pad(x, 2, mode="reflect"), jnp.pad(x, 2, mode="wrap")), X)
    add("roll", lambda x: (jnp.roll(x, 3, 1), jnp.roll(x, -2, 0), jnp.flip(x), jnp.rot90(x)), X)
    add("concatenate", lambda x, y: (jnp.concatenate([x, y[:3]], 0), jnp.stack([x, y], 1), jnp.hstack([x, y])), X, Y)
    add("tile", lambda x: (jnp.tile(x, (2, 3)), jnp.repeat(x, 2, 1)), X)
    add("slice", lambda x: (x[1:7:2, ::3], x[::-1, 2:9]), X)
    add("triangles", lambda x: (jnp.tril(x), jnp.triu(x, 1), jnp.diag(x[:8, :8]), jnp.eye(8) @ x), X)
    add("reshape", lambda x: (x.reshape(4, 2, 3, 4).transpose(2, 0, 3, 1), x.reshape(-1), x.T.reshape(8, 12)), X)
    add("split", lambda x: jnp.split(x, 3, 1), X)
    add("where", lambda x, y: (jnp.where(x > y, x, 0.0), jnp.clip(x, -0.5, 0.5)), X, Y)
    add("select_n", lambda k, x, y: lax.select_n(k % 3, x, y, x * y), K, X, Y)


def control_flow():
    add("scan", lambda x: lax.scan(lambda c, r: (c * 0.5 + r, c.sum()), jnp.zeros(12), x), X)
    add("while_loop", lambda x: lax.while_loop(
        lambda s: s[1] < s[0].sum(), lambda s: (s[0] * 0.9, s[1] + 1), (jnp.abs(x), 0)), X)
    add("fori_loop", lambda x: lax.fori_loop(0, 5, lambda i, c: c + x[i], jnp.zeros(12)), X)
    add("cond", lambda x: lax.cond(x.sum() > 0, lambda v: v * 2, lambda v: v - 1, x), X)
    add("switch", lambda x, i: lax.switch(i, [jnp.sin, jnp.cos, lambda v: v.T.reshape(8, 12)], x), X, jnp.int32(2))
    add("map", lambda x: lax.map(lambda r: r @ r, x), X)
    add("scan_gradient", jax.grad(lambda w: lax.scan(
        lambda c, r: (jnp.tanh(c @ w + r), None), jnp.zeros(12), X)[0].sum()), reals(12, 12))
    add("checkpoint", jax.grad(lambda w: jax.checkpoint(lambda w: jnp.sin(jnp.sin(X @ w)))(w).sum()), reals(12, 12))
    add("cond_of_rows", jax.vmap(lambda r: lax.cond(r[0] > 0, jnp.sin, jnp.cos, r)), X)


def gradients():
    add("logsumexp_gradient", jax.grad(jax.nn.logsumexp), X)
    add("cumsum_gradient", jax.grad(lambda x: (jnp.cumsum(x, 1) ** 2).sum()), X)
    add("sort_gradient", jax.grad(lambda x: (jnp.sort(x, 1) * jnp.arange(12)).sum()), X)
    add("prod_gradient", jax.grad(lambda x: jnp.prod(x, 1).sum()), X)
    add("max_gradient", jax.grad(lambda x: jnp.max(x, 1).sum()), X)
    add("hessian_vector", lambda x, y: jax.jvp(jax.grad(lambda v: jnp.sum(jnp.sin(v) * v ** 2)), (x,), (y,))[1], X, Y)
    add("layer_norm", lambda x: (x - x.mean(-1, keepdims=True)) * lax.rsqrt(x.var(-1, keepdims=True) + 1e-5), X)
    add("activations", lambda x: (jax.nn.gelu(x), jax.nn.gelu(x, False), jax.nn.silu(x), jax.nn.elu(x),
                                  jax.nn.softplus(x), jax.nn.relu6(x), jax.nn.leaky_relu(x)), X)


def random_numbers():
    add("random", lambda k: (jax.random.normal(k, (8, 12)), jax.random.uniform(k, (5,)),
                             jax.random.bernoulli(k, 0.3, (8, 8)), jax.random.randint(k, (8,), 0, 100),
                             jax.random.permutation(k, 16), jax.random.categorical(k, X)), KEY)
    add("split_key", lambda k: jax.random.split(k, 4), KEY)
    add("distributions", lambda k: (jax.random.gumbel(k, (8,)), jax.random.truncated_normal(k, -1, 1, (8,)),
                                    jax.random.dirichlet(k, jnp.ones(4))), KEY)
    state = jnp.arange(4, dtype=jnp.uint32) + 7
    add("random_bits", lambda k: (lax.rng_bit_generator(k, (8, 12), jnp.uint32),
                                  lax.rng_bit_generator(k, (5, 3), jnp.uint16)), state)


def random_sharding(mesh, shape, rng):
    """Each dim over "a", "b", both or none, where they divide it and are free."""
    used, spec = set(), []
    for size in shape:
        axes = [(), ("a",), ("b",), ("a", "b")][rng.integers(4)]
        if used & set(axes) or size % 2 ** len(axes):
            axes = ()
        used |= set(axes)
        spec.append(axes or None)
    return NamedSharding(mesh, P(*spec))


def difference(actual, expected):
    """None where they agree, else what differs."""
    if actual.dtype.kind == "V":  # a dtype that NumPy itself lacks
        actual = actual.view(expected.dtype)
    if (actual.dtype, actual.shape) != (expected.dtype, expected.shape):
        return f"{actual.dtype}{actual.shape} instead of {expected.dtype}{expected.shape}"
    if expected.dtype.kind in "biu":
        wrong = int((actual != expected).sum())
        return f"{wrong} of {expected.size} integers differ" if wrong else None
    narrow = expected.dtype.itemsize <= 2
    actual, expected = actual.astype(np.complex128), expected.astype(np.complex128)
    finite = np.isfinite(expected)
    if not np.array_equal(actual[~finite], expected[~finite], equal_nan=True):
        return "NaN or inf elsewhere"
    largest = np.abs(expected[finite]).max(initial=0) or 1.0
    error = np.abs(actual[finite] - expected[finite]).max(initial=0) / largest
    return f"relative error {error:.1e}" if not error <= (3e-2 if narrow else 2e-5) else None


def run(program, folder, name, mesh, rng):
    function, arguments = FUNCTIONS[name]
    shardings = tuple(random_sharding(mesh, a.shape, rng) for a in arguments)
    folder.mkdir(parents=True, exist_ok=True)
    module = folder / "module.hlo"
    module.write_text(jax.jit(function, in_shardings=shardings, keep_unused=True)
                      .lower(*arguments).as_text(dialect="hlo"))
    for i, argument in enumerate(arguments):
        np.save(folder / f"input.{i}.npy", np.asarray(argument))
    command = [program, "hlo", "run", str(module), "--devices", "4", "--output-dir", str(folder)]
    if arguments:
        command += ["--input"] + [str(folder / f"input.{i}.npy") for i in range(len(arguments))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if name in UNSUPPORTED:
        refused = done.returncode == 2 and UNSUPPORTED[name] in done.stderr
        return None if refused else f"is not refused by name: exit {done.returncode}, {done.stderr.strip()}"
    if done.returncode != 0:
        return f"exit {done.returncode}: {done.stderr.strip()}"
    for i, expected in enumerate(jax.tree.leaves(jax.jit(function)(*arguments))):
        what = difference(np.load(folder / f"output.{i}.npy"), np.asarray(expected))
        if what:
            return f"output {i}: {what} (in {[str(s.spec) for s in shardings]})"
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tessera")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--seed", type=int, default=5)
    arguments = parser.parse_args()

    for family in (numpy_functions, along_dims, products, indexing, movement, control_flow, gradients, random_numbers):
        family()
    mesh = Mesh(np.array(jax.devices()[:4]).reshape(2, 2), ("a", "b"))
    rng = np.random.default_rng(arguments.seed)
    names = arguments.names or list(FUNCTIONS)
    failed = 0
    for name in names:
        what = run(arguments.tessera, arguments.folder / name, name, mesh, rng)
        if what:
            failed += 1
            print(f"{name}: {what}", flush=True)
    print(f"{len(names)} functions, {failed} differ (seed {arguments.seed})")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
