"""Fine-tuning with differentiable k-means: accuracy of the files it writes, and what a step costs.

    python bench/dkm_training.py accuracy MODEL --data cifar10.tar --bits 2 3 4 --seeds 0 1 2
    python bench/dkm_training.py step MODEL --data cifar10.tar --bits 4
    python bench/dkm_training.py peer resnet20-bn.onnx --data cifar10.tar --bits 2 3 4 --steps 100
    python bench/dkm_training.py interrupt MODEL --data cifar10.tar --bits 2 --limit 2000

accuracy  compresses with the default recipe, once for each seed, and scores the file that was
          written on the split `test`; mean and standard deviation.
step      the seconds of a training step with palettized weights beside those of one in which every
          weight stays as it is, each as often as --turns says, in turns; the least counts. Also the
          seconds that its threads had a processor, from runs of two lengths, which say more on a
          busy machine if OMP_WAIT_POLICY is passive.
peer      as many steps of batches of 128 as --steps says, over --epochs, by the command and by
          coremltools' DKMPalettizer on the same network in PyTorch (channels-last), one run of each
          for each number of bits, with the same number of threads. Ours is the whole command, from opening the file and decoding
          images to the written file, its start by layer-wise reconstruction and its questions to
          the float model included; of coremltools' it is prepare() and the steps, on random images
          that are in memory. Peak memory is that of the whole process, also less what it has before prepare().
          Needs PyTorch and coremltools, and resnet20.pt beside the model.
interrupt kills a run ten times, each at a random moment, lets it go on from its checkpoint, and
          compares the file with that of a run that was left alone.
"""

import argparse
import csv
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MIB = 1 << 20
KILLS = 10
BATCH = 128


def main():
    options = parse_arguments()
    if options.serve:  # this process is coremltools
        return serve(*options.serve)
    with tempfile.TemporaryDirectory() as folder:
        options.folder = Path(folder)
        return KINDS[options.what](options)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=list(KINDS))
    parser.add_argument("model", type=Path)
    parser.add_argument("--command", type=Path, default=ROOT / "build" / "palettize")
    parser.add_argument("--data", required=True)
    parser.add_argument("--mean", default="0.485,0.456,0.406")
    parser.add_argument("--std", default="0.229,0.224,0.225")
    parser.add_argument("--bits", nargs="+", default=["2"])
    parser.add_argument("--seeds", nargs="+", default=["0"])
    parser.add_argument("--epochs", default="2")
    parser.add_argument("--limit", default="0", help="samples to train on; 0: all")
    parser.add_argument("--threads", default="0")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--steps", type=int, default=100, help="peer: of each")
    parser.add_argument("--serve", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--least", type=float, help="accuracy: the mean that is asked for")
    parser.add_argument("--extra", default="", help="more options for compress, in one argument")
    return parser.parse_args()


def data_options(options, split):
    return ["--data", options.data, "--split", split, "--mean", options.mean, "--std", options.std]


def compress(options, out, *extra):
    limit = ["--limit", options.limit] if options.limit != "0" else []
    return [options.command, "compress", options.model, "-o", out, "--method", "dkm", "--quiet",
            "--epochs", options.epochs, "--threads", options.threads, *limit,
            *data_options(options, "train"), *options.extra.split(), *extra]


def run(command):
    """Seconds, peak MiB, and seconds on a processor."""
    started = time.monotonic()
    process = subprocess.Popen([str(part) for part in command])
    _, code, usage = os.wait4(process.pid, 0)
    if code:
        sys.exit(f"failed: {' '.join(str(part) for part in command)}")
    return (time.monotonic() - started, usage.ru_maxrss * 1024 / MIB,
            usage.ru_utime + usage.ru_stime)


def score(options, model):
    out = options.folder / "score.json"
    run([options.command, "eval", model, "--quiet", "--json", out, *data_options(options, "test")])
    return json.loads(out.read_text())["top1"]


def accuracy(options):
    print(f"{options.model.name}, {options.epochs} epochs; float {score(options, options.model):.2f}\n")
    print("| bits | top-1 of the file | mean | deviation | seconds | peak MiB |")
    print("|---|---|---|---|---|---|")
    enough = True
    for bits in options.bits:
        scores, seconds, peaks = [], [], []
        for seed in options.seeds:
            out = options.folder / f"{bits}-{seed}{options.model.suffix}"
            time_taken, peak, _ = run(compress(options, out, "--nbits", bits, "--seed", seed))
            scores.append(score(options, out))
            seconds.append(time_taken)
            peaks.append(peak)
        mean = statistics.mean(scores)
        deviation = statistics.stdev(scores) if len(scores) > 1 else 0
        enough = enough and (options.least is None or mean >= options.least)
        print(f"| {bits} | {' '.join(f'{s:.2f}' for s in scores)} | {mean:.2f} | {deviation:.2f} "
              f"| {statistics.mean(seconds):.0f} | {max(peaks):.0f} |", flush=True)
    return 0 if enough else 1


def step_seconds(log):
    """The least time between two lines of the log that are a few steps apart, for one step."""
    with open(log) as file:
        seconds = [float(row["seconds"]) for row in csv.DictReader(file)]
    apart = min(4, len(seconds) - 1)
    return min((b - a) / apart for a, b in zip(seconds, seconds[apart:]))


def step(options):
    log = options.folder / "log.csv"
    least, peaks, used = {}, {}, {}
    options.epochs = "1"
    steps = int(options.limit) // BATCH if options.limit != "0" else 16
    quick = ["--start", "kmeans", "--validation", "0", "--statistics", "0", "--log", log]
    kinds = {"plain": ["--nbits", options.bits[0], "--weight-threshold", "1000000000"]}
    kinds.update({f"{bits} bit": ["--nbits", bits] for bits in options.bits})
    for _ in range(options.turns):
        for kind, extra in kinds.items():
            for length in (steps // 2, steps):
                options.limit = str(length * BATCH)
                _, peaks[kind], processor = run(
                    compress(options, options.folder / "out.onnx", *quick, *extra))
                used[kind, length] = min(used.get((kind, length), 1e9), processor)
            least[kind] = min(least.get(kind, 1e9), step_seconds(log))
    print("| step | seconds | to plain | on a processor | to plain | peak MiB |")
    print("|---|---|---|---|---|---|")
    each = {kind: (used[kind, steps] - used[kind, steps // 2]) / (steps - steps // 2)
            for kind in kinds}
    for kind in kinds:
        print(f"| {kind} | {least[kind]:.4f} | {least[kind] / least['plain']:.3f} "
              f"| {each[kind]:.4f} | {each[kind] / each['plain']:.3f} | {peaks[kind]:.0f} |")
    return 0


def peer(options):
    options.limit = str(options.steps // int(options.epochs) * BATCH)
    threads = options.threads if options.threads != "0" else str(os.cpu_count())
    quick = ["--validation", "0", "--statistics", "0"]
    print(f"{options.steps} steps in {options.epochs} epochs, {threads} threads\n")
    print("| bits | ours, seconds | coremltools | ratio | ours, on a processor | coremltools | ratio "
          "| ours, peak MiB | coremltools | less start |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for bits in options.bits:
        seconds, peak, used = run(
            compress(options, options.folder / "out.onnx", "--nbits", bits, *quick))
        served = subprocess.run(
            [sys.executable, __file__, "peer", options.model, "--data", options.data, "--serve",
             options.model.parent, bits, str(options.steps), threads],
            check=True, text=True, stdout=subprocess.PIPE)
        its, its_used, its_peak, before = (float(part) for part in served.stdout.split()[-4:])
        print(f"| {bits} | {seconds:.1f} | {its:.1f} | {seconds / its:.2f} "
              f"| {used:.1f} | {its_used:.1f} | {used / its_used:.2f} "
              f"| {peak:.0f} | {its_peak:.0f} | {its_peak - before:.0f} |", flush=True)
    return 0


def serve(shared, bits, steps, threads):
    import resource

    import torch

    sys.path.insert(0, str(ROOT / "bench" / "results"))
    import networks

    networks.quiet_coremltools()
    from coremltools.optimize.torch.palettization import DKMPalettizer, DKMPalettizerConfig

    torch.set_num_threads(int(threads))
    model, _ = networks.load("resnet20", Path(shared).parent)
    images, labels = torch.randn(BATCH * 8, 3, 32, 32), torch.randint(10, (BATCH * 8,))
    images = images.contiguous(memory_format=torch.channels_last)
    model = model.to(memory_format=torch.channels_last)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MIB
    started, used = time.perf_counter(), time.process_time()
    config = DKMPalettizerConfig.from_dict({"global_config": {"n_bits": int(bits)}})
    palettizer = DKMPalettizer(model, config)
    network = palettizer.prepare().train()
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9)
    for number in range(int(steps)):
        at = number % 8 * BATCH
        loss = torch.nn.functional.cross_entropy(network(images[at:at + BATCH]),
                                                 labels[at:at + BATCH])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        palettizer.step()
    print(time.perf_counter() - started, time.process_time() - used,
          resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MIB, before)
    return 0


def interrupt(options):
    whole, cut = options.folder / "whole.onnx", options.folder / "cut.onnx"
    checkpoint = options.folder / "checkpoint"
    bits = ["--nbits", options.bits[0]]
    seconds, _, _ = run(compress(options, whole, *bits))
    saving = ["--checkpoint", checkpoint, "--checkpoint-steps", "1"]
    chance = random.Random(1)
    kills, same = 0, True
    while same and kills < KILLS:
        checkpoint.unlink(missing_ok=True)
        kills += run_interrupted(options, [*bits, *saving], cut, checkpoint, seconds, chance)
        same = whole.read_bytes() == cut.read_bytes()
    print(f"killed {kills} times; the file is {'the same' if same else 'another one'}")
    return 0 if same else 1


def run_interrupted(options, extra, out, checkpoint, seconds, chance):
    """Runs until the output is written; returns how often it was killed."""
    kills = 0
    while True:
        going_on = ["--resume", checkpoint] if checkpoint.exists() else []
        command = compress(options, out, *extra, *going_on)
        process = subprocess.Popen([str(part) for part in command])
        try:
            process.wait(timeout=chance.uniform(0.2, 0.6) * seconds if kills < KILLS else None)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            continue
        if process.returncode:
            sys.exit("a run that went on has failed")
        return kills


KINDS = {"accuracy": accuracy, "step": step, "peer": peer, "interrupt": interrupt}

if __name__ == "__main__":
    sys.exit(main())
