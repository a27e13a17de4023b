"""Writes training steps as HLO text, their inputs, and what JAX gives after some steps.

    python export.py FOLDER [--steps 10] [NAME ...]

makes FOLDER/NAME/step.hlo, input.I.npy, and output.I.npy: the outputs of the last step, the state
fed back. The mesh is 2 x 2, of four virtual CPU devices.
"""
import argparse
import os
import pathlib

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np

import jax
from jax.sharding import Mesh

import train_steps

jax.config.update("jax_default_matmul_precision", "highest")


def export(name, folder, steps):
    mesh = Mesh(np.array(jax.devices()[:4]).reshape(2, 2), ("data", "model"))
    step, state, batch, shardings = train_steps.PROGRAMS[name](mesh)
    jitted = jax.jit(step, in_shardings=shardings, out_shardings=(shardings[0], None), donate_argnums=0,
                     keep_unused=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "step.hlo").write_text(jitted.lower(state, batch).as_text(dialect="hlo"))
    for i, leaf in enumerate(jax.tree.leaves((state, batch))):
        np.save(folder / f"input.{i}.npy", np.asarray(leaf))
    state, batch = jax.device_put((state, batch), shardings)
    for _ in range(steps):
        state, loss = jitted(state, batch)
    for i, leaf in enumerate(jax.tree.leaves((state, loss))):
        np.save(folder / f"output.{i}.npy", np.asarray(leaf))
    print(f"{name}: loss {float(loss):.6f} after {steps} steps")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("names", nargs="*", default=None)
    arguments = parser.parse_args()
    for name in arguments.names or train_steps.PROGRAMS:
        export(name, arguments.folder / name, arguments.steps)


if __name__ == "__main__":
    main()
