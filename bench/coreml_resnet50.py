"""Our whole command against coremltools' palettize_weights, on ResNet50.

Ours is charged for everything: start, read, cluster, write. coremltools is charged for the
palettize_weights call alone, with one worker and with two; the ratio is against the faster of
the two. All contenders take turns in one run, and the median of the turns counts.
"""

import argparse
import logging
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MIB = 1 << 20
WORKERS = (1, 2)
RATIO_AT_4_BITS = 3.9


def main():
    options = parse_arguments()
    if options.reference:  # this process is one turn of coremltools
        return reference_turn(options)
    if options.export:  # this process only makes the network
        return export(options.export, options.opset)
    package = network(options.cache, options.opset)
    print(f"ResNet50, float16, {options.opset}, {size_of(package) / 1e6:.1f} MB, "
          f"{granularity(options)}, {options.turns} turns\n")
    print_header()
    broken = [promise for nbits in options.bits for promise in measure(options, package, nbits)]
    sys.exit("\n".join(["", *broken]) if broken else 0)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--command", type=Path, default=ROOT / "build" / "palettize")
    parser.add_argument("--cache", type=Path, default=ROOT / "build" / "bench",
                        help="folder that keeps the exported network")
    parser.add_argument("--opset", choices=("iOS16", "iOS18"), default="iOS18")
    parser.add_argument("--bits", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--group-size", type=int, help="per_grouped_channel (iOS18 only)")
    parser.add_argument("--threads", type=int, default=2, help="threads of our command")
    parser.add_argument("--turns", type=int, default=3, help="odd, so that a median exists")
    # One turn of coremltools, in a process of its own: package, bits, workers, output.
    parser.add_argument("--reference", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--export", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.group_size and options.opset != "iOS18":
        parser.error("--group-size needs --opset iOS18")
    return options


def granularity(options):
    return f"groups of {options.group_size}" if options.group_size else "one LUT a tensor"


def network(cache, opset):
    """The exported ResNet50.

    Another process makes it: a child's peak memory counts from what its parent held when it
    started, so this one, the parent of our command, must stay small.
    """
    path = cache / f"resnet50-{opset}.mlpackage"
    if path.is_dir():
        return path
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:  # appears whole or not at all
        unfinished = Path(folder) / path.name
        subprocess.run(
            [sys.executable, __file__, "--opset", opset, "--export", str(unfinished)], check=True)
        unfinished.rename(path)
    return path


def export(path, opset):
    """ResNet50 with random weights, the same ones every time."""
    ct = import_coremltools()
    import torch
    import torchvision

    torch.manual_seed(0)
    model = torchvision.models.resnet50(weights=None).eval()
    example = torch.zeros(1, 3, 224, 224)
    mlmodel = ct.convert(
        torch.jit.trace(model, example), convert_to="mlprogram",
        inputs=[ct.TensorType("image", example.shape)], outputs=[ct.TensorType("logits")],
        minimum_deployment_target=getattr(ct.target, opset),
        compute_precision=ct.precision.FLOAT16, skip_model_load=True,
    )
    mlmodel.save(str(path))


def measure(options, package, nbits):
    """Prints a row of the table; returns the promises it breaks."""
    with tempfile.TemporaryDirectory(dir=options.cache) as folder:
        ours_path, theirs_path = Path(folder) / "ours.mlpackage", Path(folder) / "theirs.mlpackage"
        ours, theirs = [], {workers: [] for workers in WORKERS}
        for _ in range(options.turns):
            ours.append(our_turn(options, package, nbits, ours_path))
            for workers in WORKERS:
                theirs[workers].append(
                    start_reference_turn(options, package, nbits, workers, theirs_path))
        return print_row(options, nbits, package, ours_path, theirs_path, ours, theirs)


def our_turn(options, package, nbits, output):
    """Runs our command; returns (wall seconds, peak resident bytes)."""
    shutil.rmtree(output, ignore_errors=True)
    arguments = [options.command, "compress", package, "-o", output, "--nbits", nbits,
                 "--threads", options.threads, "--quiet"]
    if options.group_size:
        arguments += ["--granularity", "per_grouped_channel", "--group-size", options.group_size]
    start = time.perf_counter()
    process = subprocess.Popen([str(argument) for argument in arguments])
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{options.command} failed with status {process.returncode}")
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in KiB on Linux
    return seconds, usage.ru_maxrss * unit


def start_reference_turn(options, package, nbits, workers, output):
    """coremltools in a fresh process, as ours is; returns the seconds inside the call."""
    shutil.rmtree(output, ignore_errors=True)
    arguments = [sys.executable, __file__, "--reference", package, nbits, workers, output]
    if options.group_size:
        arguments += ["--group-size", options.group_size]
    process = subprocess.run(
        [str(argument) for argument in arguments], stdout=subprocess.PIPE, text=True, check=True)
    return float(process.stdout)


def reference_turn(options):
    ct = import_coremltools()
    from coremltools.optimize import coreml as cto

    package, nbits, workers, output = options.reference
    grouped = {"granularity": "per_grouped_channel", "group_size": options.group_size}
    config = cto.OptimizationConfig(global_config=cto.OpPalettizerConfig(
        nbits=int(nbits), num_kmeans_workers=int(workers),
        **(grouped if options.group_size else {})))
    mlmodel = ct.models.MLModel(package, skip_model_load=True)
    start = time.perf_counter()
    palettized = cto.palettize_weights(mlmodel, config)
    seconds = time.perf_counter() - start
    palettized.save(output)
    print(seconds)


def import_coremltools():
    """Without its warnings about the parts that need macOS, and its progress bars."""
    logging.disable(logging.WARNING)
    os.environ["TQDM_DISABLE"] = "1"
    import coremltools

    return coremltools


def print_header():
    print("| bits | ratio, ours | ratio, coremltools | seconds, ours | coremltools, 1 worker "
          "| 2 workers | speed-up | peak memory, ours | allowed |")
    print("|---|---|---|---|---|---|---|---|---|")


def print_row(options, nbits, package, ours_path, theirs_path, ours, theirs):
    before = size_of(package)
    ratio, their_ratio = before / size_of(ours_path), before / size_of(theirs_path)
    seconds = statistics.median(second for second, _ in ours)
    one, two = (statistics.median(theirs[workers]) for workers in WORKERS)
    peak, allowed = max(memory for _, memory in ours), before * 1.3 + 64 * MIB
    print(f"| {nbits} | {ratio:.3f} | {their_ratio:.3f} | {seconds:.3f} | {one:.2f} | {two:.2f} "
          f"| {min(one, two) / seconds:.1f}x | {peak / MIB:.0f} MiB | {allowed / MIB:.0f} MiB |",
          flush=True)
    promises = {
        "our package is no larger than coremltools'": ratio >= their_ratio,
        "the ratio is at least 3.9":
            nbits != 4 or options.group_size or ratio >= RATIO_AT_4_BITS,
        "peak memory stays within what is allowed": peak <= allowed,
    }
    return [f"{nbits} bits: not true that {text}" for text, kept in promises.items() if not kept]


def size_of(package):
    return sum(path.stat().st_size for path in Path(package).rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
