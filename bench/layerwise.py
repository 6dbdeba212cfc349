"""Layer-wise reconstruction on 128 unlabelled samples: time, memory, and the same bytes at any number
of threads.

No other tool does this with look-up tables, so what stands beside it is K-Means with corrected
statistics, by the same command on the same samples. Seconds and peak memory are those of whole
processes, from start to file written; the least of the turns counts.
"""

import argparse
import filecmp
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "models"
SAMPLES = 128
MODELS = {"resnet20-bn": (32, 3), "mobilenetv2": (224, 90)}  # side, seconds allowed
MIB = 1 << 20
MEMORY_ALLOWED = 1024 * MIB


def main():
    options = parse_arguments()
    print(f"{options.bits} bit, {SAMPLES} samples, {options.threads} threads, least of "
          f"{options.turns} turns\n")
    print("| model | method | seconds | peak MiB | the same at 1 thread |\n|---|---|---|---|---|")
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        for name in options.only or MODELS:
            if not (SHARED / f"{name}.onnx").is_file():
                print(f"| {name} | skipped: no {name}.onnx |")
                continue
            failed |= not measure(options, name, Path(folder))
    return failed


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--command", type=Path, default=ROOT / "build" / "palettize")
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--only", nargs="*", choices=MODELS)
    return parser.parse_args()


def make_samples(path, side):
    images = np.random.default_rng(0).normal(size=(SAMPLES, 3, side, side))
    np.savez(path, image=images.astype(np.float32))


def measure(options, name, folder):
    """Prints the rows of a network; whether reconstruction kept to what is allowed."""
    side, allowed = MODELS[name]
    data = folder / f"{name}.npz"
    # In another process: what this one held counts as the memory of those that it starts.
    maker = multiprocessing.Process(target=make_samples, args=(data, side))
    maker.start()
    maker.join()

    def compress(method, threads, output):
        started = time.perf_counter()
        process = subprocess.Popen(
            [options.command, "compress", SHARED / f"{name}.onnx", "-o", output, "--nbits",
             str(options.bits), "--method", method, "--correct", "auto", "--data", data,
             "--threads", str(threads), "--quiet"])
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            sys.exit(f"{name}, {method}: status {status}")
        return time.perf_counter() - started, usage.ru_maxrss * 1024

    fits = True
    for method in ("kmeans", "layerwise"):
        output, single = folder / "all.onnx", folder / "single.onnx"
        turns = [compress(method, options.threads, output) for _ in range(options.turns)]
        seconds, peak = (min(numbers) for numbers in zip(*turns))
        compress(method, 1, single)
        same = filecmp.cmp(output, single, shallow=False)
        print(f"| {name} | {method} | {seconds:.1f} | {peak / MIB:.0f} | {'yes' if same else 'NO'} |",
              flush=True)
        fits &= same and (method == "kmeans" or (seconds <= allowed and peak <= MEMORY_ALLOWED))
    return fits


if __name__ == "__main__":
    sys.exit(main())
