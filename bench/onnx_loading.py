"""What palettized weights cost onnxruntime: time and memory to make a session, time of a run.

A decoder like Llama of about 97 MB (float32, random weights) is palettized with several options.
Each file is loaded in a process of its own, the files in turns; the median counts. Memory is what
making the session adds to the process (Linux).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "interop"))
SIZES = {"layers": 2, "width": 1024, "heads": 16, "key_heads": 8, "inner": 2752, "vocabulary": 1000}
GROUPED = ("--granularity", "per_grouped_channel", "--group-size", 16)
VARIANTS = {"dense": None, **{f"{n} bit": ("--nbits", n) for n in (8, 6, 4, 3, 2, 1)},
            "4 bit, groups of 16": ("--nbits", 4, *GROUPED)}
MIB = 1 << 20
RUNS = 20


def main():
    options = parse_arguments()
    if options.load:
        print(json.dumps(load(options.load, options.threads)))
        return
    files = make_files(options)
    results = {name: [] for name in files}
    for _ in range(options.turns):
        for name, path in files.items():
            process = subprocess.run(
                [sys.executable, __file__, "--load", path, "--threads", str(options.threads)],
                check=True, capture_output=True, text=True)
            results[name].append(json.loads(process.stdout))
    print("| | file, MiB | load, s | peak, MiB | afterwards, MiB | one run, ms |")
    print("|---|---|---|---|---|---|")
    for name, path in files.items():
        seconds, peak, after, run = map(statistics.median, zip(*results[name]))
        print(f"| {name} | {path.stat().st_size / MIB:.1f} | {seconds:.2f} | {peak:.0f} "
              f"| {after:.0f} | {run:.1f} |")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--command", type=Path,
                        default=os.environ.get("PALETTIZE", ROOT / "build" / "palettize"))
    parser.add_argument("--cache", type=Path, default=ROOT / "build" / "bench")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--load", help=argparse.SUPPRESS)
    return parser.parse_args()


def make_files(options):
    import onnx
    import onnx_networks

    options.cache.mkdir(parents=True, exist_ok=True)
    files = {name: options.cache / f"llama-{name.replace(', ', '-').replace(' ', '-')}.onnx"
             for name in VARIANTS}
    model, _ = onnx_networks.llama(**SIZES)
    onnx.save(model, str(files["dense"]))
    for name, arguments in VARIANTS.items():
        if arguments:
            subprocess.run([options.command, "compress", files["dense"], "-o", files[name],
                            *map(str, arguments), "--quiet"], check=True)
    return files


def memory(field):
    """Of this process, in MiB: VmRSS now, VmHWM at most."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise KeyError(field)


def load(path, threads):
    """Seconds to load, MiB at most, MiB afterwards, milliseconds of a run."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    before, start = memory("VmRSS"), time.perf_counter()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    seconds = time.perf_counter() - start
    peak, after = memory("VmHWM") - before, memory("VmRSS") - before
    inputs = {"input_ids": np.arange(16).reshape(1, 16)}
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        session.run(None, inputs)
        times.append(time.perf_counter() - start)
    return seconds, peak, after, min(times) * 1e3


if __name__ == "__main__":
    main()
