"""Sensitive k-means beside coremltools' SKMPalettizer: time and peak memory.

Both see the same 128 samples. Each contender is a process of its own with the same number of
threads; they take turns, and the least of the turns counts, so that what else the machine does
matters little. Ours are whole processes, from start to file written; of coremltools' only the
calls, without import.
"""

import argparse
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "models"
SAMPLES = 128
MODELS = {"resnet20": (32, 10), "mobilenetv2": (224, 1000)}  # side, classes


def main():
    options = parse_arguments()
    if options.serve:  # this process is coremltools
        return serve(options, *options.serve)
    print(f"{options.threads} threads, least of {options.turns} turns, {options.bits} bit, "
          f"{SAMPLES} samples\n")
    print("| model | what | ours, s | coremltools, s | share |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in options.only or MODELS:
            measure(options, name, Path(folder))


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--command", type=Path, default=ROOT / "build" / "palettize")
    parser.add_argument("--bits", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=MODELS)
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def make_samples(path, side, classes):
    random = np.random.default_rng(0)
    np.savez(path, image=random.normal(size=(SAMPLES, 3, side, side)).astype(np.float32),
             labels=random.integers(0, classes, SAMPLES))


def measure(options, name, folder):
    side, classes = MODELS[name]
    model, data = SHARED / f"{name}.onnx", folder / f"{name}.npz"
    if not model.is_file():
        print(f"| {name} | skipped: no {model.name} |")
        return
    # In another process: what this one held counts as the memory of those that it starts.
    maker = multiprocessing.Process(target=make_samples, args=(data, side, classes))
    maker.start()
    maker.join()
    saved = folder / "sensitivity.safetensors"
    common = [options.command, "compress", model, "-o", folder / "out.onnx", "--nbits",
              options.bits, "--method", "sensitive", "--threads", options.threads, "--quiet"]
    ours = {
        "sensitivities": [*common, "--data", data, "--samples", 0, "--shrinkage", 0,
                          "--save-sensitivity", saved],
        "clustering": [*common, "--load-sensitivity", saved, "--shrinkage", 0],
        "all, with the choice": [*common, "--data", data, "--samples", 0],
    }
    seconds, theirs, memory, their_memory = {}, {}, 0, 0
    for _ in range(options.turns):
        for what, command in ours.items():
            taken, peak = run(options, command)
            seconds[what] = min(taken, seconds.get(what, taken))
            memory = max(memory, peak)
        serving = [sys.executable, __file__, "--bits", options.bits, "--threads", options.threads,
                   "--serve", name, data]
        result = subprocess.run([*map(str, serving)], env=environment(options),
                                capture_output=True, text=True, check=True)
        answer = json.loads(result.stdout.splitlines()[-1])
        their_memory = max(their_memory, answer.pop("peak"))
        for what, taken in answer.items():
            theirs[what] = min(taken, theirs.get(what, taken))
    theirs["all, with the choice"] = sum(theirs.values())
    for what in ours:
        print(f"| {name} | {what} | {seconds[what]:.2f} | {theirs[what]:.2f} "
              f"| {seconds[what] / theirs[what]:.3f} |")
    print(f"| {name} | peak memory, MiB | {memory / 1024:.0f} | {their_memory / 1024:.0f} "
          f"| {memory / their_memory:.3f} |")


def environment(options):
    return {**os.environ, "OMP_NUM_THREADS": str(options.threads)}


def run(options, command):
    """Seconds, and the peak in KiB."""
    started = time.perf_counter()
    process = subprocess.Popen([*map(str, command)], env=environment(options))
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command} failed")
    return time.perf_counter() - started, usage.ru_maxrss


# ------------------------------------------------------------------ coremltools


def resnet20():
    import torch
    from torch import nn
    from torch.nn import functional

    class Block(nn.Module):
        def __init__(self, inputs, outputs, stride):
            super().__init__()
            self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(outputs)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(outputs)
            self.stride, self.more = stride, (outputs - inputs) // 2

        def forward(self, x):
            y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
            if self.more:
                x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.more, self.more))
            return functional.relu(x + y)

    class ResNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(16)
            for i, (inputs, width) in enumerate(((16, 16), (16, 32), (32, 64)), 1):
                blocks = [Block(inputs, width, width // inputs), Block(width, width, 1),
                          Block(width, width, 1)]
                setattr(self, f"layer{i}", nn.Sequential(*blocks))
            self.linear = nn.Linear(64, 10)

        def forward(self, x):
            x = functional.relu(self.bn1(self.conv1(x)))
            x = self.layer3(self.layer2(self.layer1(x)))
            return self.linear(x.mean((2, 3)))

    network = ResNet()
    network.load_state_dict(torch.load(SHARED / "resnet20.pt"))
    return network


def serve(options, name, path):
    import logging
    logging.disable(logging.WARNING)
    import torch
    import torchvision
    from coremltools.optimize.torch.palettization import SKMPalettizer, SKMPalettizerConfig
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    network = resnet20() if name == "resnet20" else torchvision.models.mobilenet_v2(weights=None)
    arrays = np.load(path)
    loader = [(torch.from_numpy(arrays["image"][i:i + 1]),
               torch.from_numpy(arrays["labels"][i:i + 1])) for i in range(SAMPLES)]
    config = SKMPalettizerConfig.from_dict(
        {"global_config": {"n_bits": options.bits}, "calibration_nsamples": SAMPLES})
    palettizer = SKMPalettizer(network.eval(), config)

    def loss(model, data):
        return torch.nn.functional.cross_entropy(model(data[0]), data[1])

    with tempfile.TemporaryDirectory() as folder:
        saved, started = f"{folder}/sensitivity.pt", time.perf_counter()
        palettizer.compute_sensitivity(loader, loss, saved)
        measured = time.perf_counter()
        palettizer.compress(sensitivity_path=saved)
        ended = time.perf_counter()
    print(json.dumps({"sensitivities": measured - started, "clustering": ended - measured,
                      "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))


if __name__ == "__main__":
    main()
