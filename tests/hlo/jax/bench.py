"""Step time of an exported training step: Tessera's over JAX's own, on the same CPU, in one run.

    python bench.py TESSERA [--steps 10] [--rounds 3]

The program is the dense decoder of train_steps.py, larger, without a mesh (JAX on one device) and
with data=2; the rounds of JAX and Tessera take turns.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np

import jax
from jax.sharding import Mesh

import train_steps

SIZES = dict(layers=4, embed=256, heads=8, mlp=1024, vocab=1024, batch=8, length=128)


def make(ranks):
    mesh = Mesh(np.array(jax.devices()[:ranks]).reshape(ranks, 1), ("data", "model"))
    step, state, batch, shardings = train_steps.dense(mesh, **SIZES)
    return jax.jit(step, in_shardings=shardings, out_shardings=(shardings[0], None), donate_argnums=0,
                   keep_unused=True), state, batch, shardings


def time_jax(ranks, steps):
    step, state, batch, shardings = make(ranks)
    state, batch = jax.device_put((state, batch), shardings)
    times = []
    for _ in range(steps + 2):
        begin = time.perf_counter()
        state, loss = step(state, batch)
        jax.block_until_ready((state, loss))
        times.append(time.perf_counter() - begin)
    return min(times[2:])


def time_tessera(program, folder, ranks, steps):
    command = [program, "hlo", "run", str(folder / "step.hlo"), "--steps", str(steps + 2), "--carry",
               "--json", "-", "--input", *sorted(map(str, folder.glob("input.*.npy")),
                                                 key=lambda n: int(n.split(".")[-2]))]
    if ranks > 1:
        command = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-np", str(ranks)] + command
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stdout}\n{done.stderr}")
    return json.loads(done.stdout)["step_seconds"]["best"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tessera")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()

    for ranks in (1, 2):
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            step, state, batch, _ = make(ranks)
            (folder / "step.hlo").write_text(step.lower(state, batch).as_text(dialect="hlo"))
            for i, leaf in enumerate(jax.tree.leaves((state, batch))):
                np.save(folder / f"input.{i}.npy", np.asarray(leaf))
            pairs = [(time_jax(ranks, arguments.steps),
                      time_tessera(arguments.tessera, folder, ranks, arguments.steps))
                     for _ in range(arguments.rounds)]
        theirs, ours = min(a for a, _ in pairs), min(b for _, b in pairs)
        ratio = statistics.median(b / a for a, b in pairs)
        print(f"{ranks} rank{'s' if ranks > 1 else ''}: JAX {theirs * 1e3:.1f} ms, Tessera {ours * 1e3:.1f} ms, "
              f"median ratio {ratio:.2f}", flush=True)


if __name__ == "__main__":
    main()
