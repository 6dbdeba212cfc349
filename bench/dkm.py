"""One layer of differentiable k-means, forward and backward: ours against coremltools' DKMPalettizer.

Each contender is a process of its own that makes the same float32 weights and the same gradient of
the palettized weights, and then takes steps: palettize the weights, lead the gradient back. The first
step includes finding the first centroids. Memory is what the largest resident set of the steps has
above that before them, palettized weights and gradients of the weights included. Ends with exit
status 1 where ours is not 50 times as fast, 1,000 times in the first step, with 1/50 of the memory,
at 2048 x 2048 (smaller layers are less hard on coremltools).
"""

import argparse
import ctypes
import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SPREAD = 0.02  # of the weights: what layers of this width have


def main():
    options = parse_arguments()
    if options.contender:
        print(json.dumps(CONTENDERS[options.contender](options)))
        return 0
    print("| weights | bits | threads | | ours | coremltools | ratio |")
    print("|---|---|---|---|---|---|---|", flush=True)
    failed = 0
    for size in options.size:
        for bits in options.bits:
            ours = run("ours", size, bits, options)
            peer = run("coremltools", size, bits, options)
            failed += report(size, bits, options, ours, peer)
    return 1 if failed else 0


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--library", type=Path, default=ROOT / "build" / "libpalettize.so")
    parser.add_argument("--size", type=int, nargs="+", default=[2048], help="rows and columns")
    parser.add_argument("--bits", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3, help="after the first, of coremltools")
    parser.add_argument("--timeout", type=float, default=1800,
                        help="seconds for all steps of coremltools")
    parser.add_argument("--contender", choices=("ours", "coremltools"), help=argparse.SUPPRESS)
    return parser.parse_args()


def run(contender, size, bits, options):
    """What the contender measured; None if it did not finish."""
    command = [sys.executable, __file__, "--contender", contender, "--size", str(size), "--bits",
               str(bits), "--threads", str(options.threads), "--steps", str(options.steps),
               "--library", str(options.library)]
    environment = dict(os.environ, OMP_NUM_THREADS=str(options.threads),
                       OMP_WAIT_POLICY="passive")
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment,
                              timeout=options.timeout)
    except subprocess.TimeoutExpired:
        return None
    if done.returncode != 0:
        if contender == "ours":
            sys.exit(done.stderr)
        print(f"coremltools ended with status {done.returncode}: "
              f"{done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def report(size, bits, options, ours, peer):
    failed = 0
    for key, name, unit, least in (("first", "first step", "s", 1000),
                                   ("later", "later steps", "s", 50),
                                   ("memory", "peak memory", "MiB", 50)):
        theirs = f"{peer[key]:.4g} {unit}" if peer else f"not done in {options.timeout:.0f} s"
        ratio = f"{peer[key] / ours[key]:.0f}" if peer else ""
        print(f"| {size} x {size} | {bits} | {options.threads} | {name} | {ours[key]:.4g} {unit} "
              f"| {theirs} | {ratio} |", flush=True)
        failed += bool(peer) and size >= 2048 and peer[key] < least * ours[key]
    return failed


# ---------------------------------------------------------------- contenders


def our_steps(options):
    import numpy as np

    weights, gradient = inputs(options.size[0])
    library = Library(options.library)
    layer = library.layer(weights.size, 1 << options.bits[0], options.threads)
    memory = Memory()
    palettized, result = np.empty_like(weights), np.empty_like(weights)

    def step():
        library.check(library.pal_dkm_forward(layer, pointer(weights), pointer(palettized)))
        library.check(library.pal_dkm_backward(layer, pointer(weights), pointer(gradient),
                                               pointer(result)))

    start = time.perf_counter()
    library.check(library.pal_dkm_start(layer, pointer(weights), None))
    step()
    first = time.perf_counter() - start
    return {"first": first, "later": best(step, options.steps), "memory": memory.peak()}


def their_steps(options):
    import warnings

    warnings.filterwarnings("ignore")
    import torch
    from coremltools.optimize.torch.palettization import (
        DKMPalettizer, DKMPalettizerConfig, ModuleDKMPalettizerConfig)

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    weights, gradient = (torch.from_numpy(x) for x in inputs(options.size[0]))
    linear = torch.nn.Linear(options.size[0], options.size[0], bias=False)
    linear.weight.data = weights
    config = DKMPalettizerConfig(
        global_config=ModuleDKMPalettizerConfig(n_bits=options.bits[0], milestone=0))
    palettizer = DKMPalettizer(torch.nn.Sequential(linear), config)
    layer = palettizer.prepare(inplace=True)[0]
    memory = Memory()

    def step():
        layer.weight.grad = None
        layer.weight_fake_quant(layer.weight).backward(gradient)

    start = time.perf_counter()
    step()
    first = time.perf_counter() - start
    assert layer.weight.grad.abs().sum() > 0
    return {"first": first, "later": best(step, options.steps), "memory": memory.peak()}


CONTENDERS = {"ours": our_steps, "coremltools": their_steps}


def inputs(size):
    import numpy as np

    random = np.random.default_rng(0)
    weights = (random.standard_normal((size, size)) * SPREAD).astype(np.float32)
    return weights, random.standard_normal((size, size)).astype(np.float32)


def best(step, turns):
    times = []
    for _ in range(turns):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return min(times)


class Memory:
    """Linux: the resident set from now on."""

    def __init__(self):
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak of before
        self.before = self.read("VmRSS")

    def peak(self):
        return (self.read("VmHWM") - self.before) / 1024

    @staticmethod
    def read(name):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1])
        raise KeyError(name)


def pointer(array):
    return ctypes.c_void_p(array.ctypes.data)


class Config(ctypes.Structure):
    """pal_dkm_config."""

    _fields_ = (
        [(name, ctypes.c_size_t) for name in ("outer", "groups", "channels", "inner")]
        + [("cluster_dim", ctypes.c_uint), ("clusters", ctypes.c_uint), ("mode", ctypes.c_int),
           ("tau", ctypes.c_double), ("relative_tau", ctypes.c_bool),
           ("iterations", ctypes.c_uint), ("epsilon", ctypes.c_double),
           ("zero_threshold", ctypes.c_double), ("enforce_zero", ctypes.c_bool),
           ("prune_threshold", ctypes.c_double), ("repair", ctypes.c_bool),
           ("weight_dtype", ctypes.c_int), ("lut_dtype", ctypes.c_int),
           ("scale", ctypes.c_void_p)]
        + [(name, ctypes.c_size_t)
           for name in ("scale_outer", "scale_channel", "scale_inner", "nodes")]
        + [("threads", ctypes.c_int)])


class Library:
    def __init__(self, path):
        if not path.exists():
            sys.exit(f"{path}: not there; make")
        self.functions = ctypes.CDLL(str(path))
        self.functions.pal_error_message.restype = ctypes.c_char_p
        self.functions.pal_dkm_defaults.restype = Config
        self.functions.pal_dkm_defaults.argtypes = [ctypes.c_size_t, ctypes.c_uint]

    def __getattr__(self, name):
        return getattr(self.functions, name)

    def check(self, status):
        if status != 0:
            sys.exit(self.functions.pal_error_message().decode())

    def layer(self, n, clusters, threads):
        config = self.functions.pal_dkm_defaults(n, clusters)
        config.threads = threads
        layer = ctypes.c_void_p()
        self.check(self.functions.pal_dkm_new(ctypes.byref(config), ctypes.byref(layer)))
        return layer


if __name__ == "__main__":
    sys.exit(main())
