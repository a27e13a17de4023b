"""Compares the outputs of two folders, output.I.npy each.

    python compare.py EXPECTED ACTUAL [--tolerance 1e-4]

The error of a tensor is its largest difference over its largest expected element; integers must be
equal. Ends with 1 where an output differs or is missing.
"""
import argparse
import pathlib
import sys

import numpy as np


def error(expected, actual):
    if expected.dtype != actual.dtype or expected.shape != actual.shape:
        return f"is {actual.dtype}{list(actual.shape)}, expected {expected.dtype}{list(expected.shape)}"
    if not np.issubdtype(expected.dtype, np.inexact):
        return 0.0 if np.array_equal(expected, actual) else np.inf
    if not np.array_equal(np.isfinite(expected), np.isfinite(actual)):
        return np.inf
    largest = np.max(np.abs(expected), initial=0)
    difference = np.max(np.abs(expected - actual), initial=0)
    return float(difference / largest) if largest > 0 else float(difference)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("expected", type=pathlib.Path)
    parser.add_argument("actual", type=pathlib.Path)
    parser.add_argument("--tolerance", type=float, default=1e-4)
    arguments = parser.parse_args()

    names = sorted((p.name for p in arguments.expected.glob("output.*.npy")), key=lambda n: int(n.split(".")[1]))
    if not names:
        sys.exit(f"no output.*.npy in {arguments.expected}")
    worst, failed = 0.0, 0
    for name in names:
        if not (arguments.actual / name).exists():
            print(f"{name}: missing in {arguments.actual}")
            failed += 1
            continue
        e = error(np.load(arguments.expected / name), np.load(arguments.actual / name))
        if isinstance(e, str) or e > arguments.tolerance:
            print(f"{name}: {e if isinstance(e, str) else f'relative error {e:.2e}'}")
            failed += 1
        if not isinstance(e, str):
            worst = max(worst, e)
    print(f"{len(names)} outputs, {failed} differ; largest relative error {worst:.2e}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
