#!/usr/bin/env python3
"""GPT-2's training step by Tessera and by PyTorch, on the same GPU with the same shapes: tokens a second.

    tests/gpu/compare_pytorch.py [--size 124M|1.5B] [--batch 16] [--length 1024] [--steps 30]
                                 [--tessera PROGRAM] [--config FILE] [--json FILE]

PyTorch's side is what its users would write for speed: torch.compile, autocast to bf16, the flash kernel of
scaled_dot_product_attention, fused AdamW, gradients clipped by their norm, a table of 50304 rows (50257 padded), tied.
Tessera's is `tessera bench` with the same sizes. They take turns (Tessera, PyTorch, Tessera), each in a process of its
own; medians of the steps. Without PyTorch or a GPU it prints why it is skipped, and succeeds.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
SIZES = {"124M": dict(layers=12, embed=768, heads=12), "1.5B": dict(layers=48, embed=1600, heads=25)}
VOCABULARY = 50257
PADDED = 50304


def torch_tokens_per_second(size, batch, length, steps):
    import torch
    from torch import nn
    from torch.nn import functional as F
    from torch.nn.attention import SDPBackend, sdpa_kernel

    embed, heads = size["embed"], size["heads"]

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(embed), nn.LayerNorm(embed)
            self.qkv, self.out = nn.Linear(embed, 3 * embed), nn.Linear(embed, embed)
            self.up, self.down = nn.Linear(embed, 4 * embed), nn.Linear(4 * embed, embed)

        def forward(self, x):
            q, k, v = (y.view(*y.shape[:2], heads, -1).transpose(1, 2) for y in self.qkv(self.norm1(x)).chunk(3, -1))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(y.transpose(1, 2).reshape(x.shape))
            return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))

    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens, self.positions = nn.Embedding(PADDED, embed), nn.Embedding(length, embed)
            self.blocks = nn.ModuleList(Block() for _ in range(size["layers"]))
            self.norm = nn.LayerNorm(embed)
            nn.init.normal_(self.tokens.weight, std=0.02)

        def forward(self, tokens, targets):
            x = self.tokens(tokens) + self.positions.weight
            for block in self.blocks:
                x = block(x)
            return F.cross_entropy(F.linear(self.norm(x), self.tokens.weight).flatten(0, 1).float(), targets.flatten())

    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")
    model = Decoder().cuda()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    compiled = torch.compile(model)
    tokens, targets = (torch.randint(VOCABULARY, (batch, length), device="cuda") for _ in range(2))

    def step():
        with torch.autocast("cuda", torch.bfloat16), sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            loss = compiled(tokens, targets)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    for _ in range(5):
        step()
    seconds = []
    for _ in range(steps):
        torch.cuda.synchronize()
        start = time.perf_counter()
        step()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return batch * length / statistics.median(seconds)


def tessera_tokens_per_second(program, config, size, batch, length, steps):
    sets = {"model." + key: value for key, value in size.items()}
    sets |= {"model.context": length, "train.global_batch": batch, "train.microbatch": batch,
             "train.sequence_length": length, "train.compute_dtype": "bf16",
             "device.backend": "cuda", "device.autotune": "true"}
    with tempfile.TemporaryDirectory() as folder:
        report = os.path.join(folder, "bench.json")
        command = [program, "bench", config, "--mesh", "1", "--rounds", str(steps), "--json", report]
        for key, value in sets.items():
            command += ["--set", f"{key}={value}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        with open(report) as file:
            return json.load(file)["tokens_per_second_median"]


def reason_to_skip():
    try:
        import torch
    except ImportError:
        return "PyTorch is not installed"
    return "" if torch.cuda.is_available() else "PyTorch sees no GPU"


def first_of(*candidates):
    return next((str(path) for path in candidates if path and pathlib.Path(path).exists()), None)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="124M")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--json")
    # In the tree, or in the bundle, where this script lies in share/.
    parser.add_argument("--tessera", default=first_of(HERE / "../bin/tessera", HERE / "../../build/tessera",
                                                      shutil.which("tessera")))
    parser.add_argument("--config", default=first_of(HERE / "configs/gpt2-124m.textproto",
                                                     HERE / "../../launch/configs/gpt2-124m.textproto"))
    parser.add_argument("--only-torch", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    size = SIZES[options.size]
    work = (options.batch, options.length, options.steps)

    why = reason_to_skip()
    if not why and not (options.tessera and options.config):
        why = "no program tessera, or no configuration of GPT-2 (--tessera, --config)"
    if why:
        print(f"pytorch: skipped, {why}")
        return
    if options.only_torch:
        print(torch_tokens_per_second(size, *work))
        return

    ours = [tessera_tokens_per_second(options.tessera, options.config, size, *work)]
    worker = [sys.executable, __file__, "--only-torch"] + [
        f"--{key}={getattr(options, key)}" for key in ("size", "batch", "length", "steps", "tessera", "config")]
    theirs = float(subprocess.run(worker, check=True, capture_output=True, text=True).stdout.split()[-1])
    ours.append(tessera_tokens_per_second(options.tessera, options.config, size, *work))

    import torch
    ratio = statistics.mean(ours) / theirs
    name = f"GPT-2 {options.size}, batch {options.batch} x {options.length}"
    print(f"{'tokens/s: ' + name:52} {'Tessera':>14} {'PyTorch ' + torch.__version__.split('+')[0]:>15}  ratio")
    print(f"{torch.cuda.get_device_name():52} {' '.join(f'{x:.0f}' for x in ours):>14} {theirs:15.0f}  {ratio:.2f}")
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"case": name, "tessera": ours, "pytorch": theirs, "ratio": ratio,
                       "torch": torch.__version__, "gpu": torch.cuda.get_device_name()}, file, indent=1)


if __name__ == "__main__":
    main()
