"""Throughput and peak memory of our engine beside onnxruntime's, on the same ONNX files.

Each contender is a process of its own with the same number of threads. They take turns, a part of
a second each, so that whatever else the machine does meets both; the median of the turns counts,
or with --best, for machines that others use as well, the best of them.
Peak memory is that of the whole process: onnxruntime's includes Python (tens of MiB), and is also
given without what Python with onnxruntime has before it loads a model.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "models"
MIB = 1 << 20
TURN_SECONDS = 0.7


def main():
    options = parse_arguments()
    if options.serve:  # this process is onnxruntime
        return serve(*options.serve)
    if options.export:
        name, path = options.export
        return EXPORTS[name](name, path)
    options.cache.mkdir(parents=True, exist_ok=True)
    print(f"{options.threads} threads, {options.turns} turns; samples a second, peak MiB\n")
    print(f"{'model':<16}{'batch':>6}{'ours':>10}{'onnxruntime':>13}{'ratio':>8}"
          f"{'ours MiB':>10}{'its MiB':>9}{'less start':>12}")
    for name, path, batch in models(options):
        if not path.exists():
            print(f"{name:<16} skipped: no {path.name}")
            continue
        measure(options, name, path, batch)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--throughput", type=Path, default=ROOT / "build" / "bench" / "throughput")
    parser.add_argument("--cache", type=Path, default=ROOT / "build" / "bench",
                        help="folder that keeps the exported networks")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--best", action="store_true", help="count the best turn of each")
    parser.add_argument("--only", nargs="*", help="names of models")
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--export", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def models(options):
    """(name, file, batch); torchvision's networks are exported on first use."""
    for name, batch in (("resnet50", 1), ("resnet50", 16), ("mobilenetv2", 1), ("resnet20", 128),
                        ("bert", 1), ("bert", 8)):
        if options.only and name not in options.only:
            continue
        path = SHARED / f"{name}.onnx"
        if name in EXPORTS:
            path = options.cache / f"{name}.onnx"
            if not path.exists():  # in another process: children inherit this one's peak memory
                subprocess.run([sys.executable, __file__, "--export", name, path], check=True)
        yield name, path, batch


def export_torchvision(name, path):
    import torch
    import torchvision
    torch.manual_seed(0)
    network = getattr(torchvision.models, name)(weights=None).eval()
    torch.onnx.export(network, torch.zeros(1, 3, 224, 224), str(path), input_names=["image"],
                      output_names=["logits"], dynamic_axes={"image": {0: "batch"}},
                      dynamo=False)


def export_bert(name, path):
    """An encoder of BERT-base's width and a third of its depth, on sequences of 128."""
    import torch

    class Bert(torch.nn.Module):
        def __init__(self, vocabulary=8000, width=768, heads=12, layers=4, length=128):
            super().__init__()
            self.tokens = torch.nn.Embedding(vocabulary, width)
            self.places = torch.nn.Parameter(torch.randn(1, length, width) * 0.02)
            self.norm = torch.nn.LayerNorm(width)
            self.blocks = torch.nn.ModuleList(Block(width, heads) for _ in range(layers))
            self.head = torch.nn.Linear(width, 2)

        def forward(self, tokens):
            x = self.norm(self.tokens(tokens) + self.places)
            for block in self.blocks:
                x = block(x)
            return self.head(x[:, 0])

    class Block(torch.nn.Module):
        def __init__(self, width, heads):
            super().__init__()
            self.heads = heads
            self.q, self.k, self.v, self.out = (torch.nn.Linear(width, width) for _ in range(4))
            self.norm1, self.norm2 = torch.nn.LayerNorm(width), torch.nn.LayerNorm(width)
            self.up, self.down = torch.nn.Linear(width, 4 * width), torch.nn.Linear(4 * width, width)

        def split(self, x):
            return x.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)

        def forward(self, x):
            q, k, v = self.split(self.q(x)), self.split(self.k(x)), self.split(self.v(x))
            scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
            mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(x.shape)
            x = self.norm1(x + self.out(mixed))
            return self.norm2(x + self.down(torch.nn.functional.gelu(self.up(x))))

    torch.manual_seed(0)
    torch.onnx.export(Bert().eval(), torch.zeros(1, 128, dtype=torch.int64), str(path),
                      input_names=["tokens"], output_names=["logits"],
                      dynamic_axes={"tokens": {0: "batch"}}, opset_version=17, dynamo=False)


EXPORTS = {"resnet50": export_torchvision, "bert": export_bert}


def measure(options, name, path, batch):
    ours = Contender([options.throughput, path, batch, options.threads])
    its = Contender([sys.executable, __file__, "--serve", path, batch, options.threads])
    contenders = (ours, its)
    for contender in contenders:
        contender.run(1)  # plans, and touches all memory
        contender.runs = max(1, round(TURN_SECONDS / max(contender.run(2) / 2, 1e-6)))
    speeds = {contender: [] for contender in contenders}
    for turn in range(options.turns):
        for contender in contenders if turn % 2 else contenders[::-1]:
            seconds = contender.run(contender.runs)
            speeds[contender].append(batch * contender.runs / seconds)
    count = max if options.best else statistics.median
    fast, other = (count(speeds[contender]) for contender in contenders)
    peak, (before, its_peak) = ours.stop()[0], its.stop()
    print(f"{name:<16}{batch:>6}{fast:>10.1f}{other:>13.1f}{fast / other:>8.2f}"
          f"{peak / MIB:>10.0f}{its_peak / MIB:>9.0f}{(its_peak - before) / MIB:>12.0f}", flush=True)


class Contender:
    def __init__(self, command):
        # As our command does for itself; onnxruntime's threads are its own.
        environment = {"GOMP_SPINCOUNT": "1000", **os.environ}
        self.process = subprocess.Popen([str(part) for part in command], text=True,
                                        env=environment,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.runs = 1

    def run(self, count):
        print(count, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"{' '.join(map(str, self.process.args))} failed")
        return float(answer)

    def stop(self):
        self.process.stdin.close()
        numbers = [int(number) for number in self.process.stdout.read().split()]
        self.process.wait()
        return numbers


def serve(model, batch, threads):
    import resource

    import numpy as np
    import onnxruntime

    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    before = peak()
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = int(threads)
    session = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
    feed = {}
    random = np.random.default_rng(0)
    for given in session.get_inputs():
        shape = [int(batch) if i == 0 else size if isinstance(size, int) else 128
                 for i, size in enumerate(given.shape)]
        if "int64" in given.type:
            feed[given.name] = random.integers(0, 100, shape)
        else:
            feed[given.name] = random.standard_normal(shape).astype(np.float32)
    for line in sys.stdin:
        started = time.perf_counter()
        for _ in range(int(line)):
            session.run(None, feed)
        print(time.perf_counter() - started, flush=True)
    print(before, peak())


if __name__ == "__main__":
    main()
