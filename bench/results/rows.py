"""What the tables of docs/results.md consist of: networks, published figures, methods; and how our
figure of a row is measured."""

import hashlib
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
EXAMPLE = ROOT / "examples" / "fashion-mnist"

# ---------------------------------------------------------------- ratios


@dataclass(frozen=True)
class RatioNetwork:
    title: str
    model: str        # a file of shared/models, or what networks.py makes
    published: dict   # bits -> ratio in Core ML Tools' documentation


RATIO_NETWORKS = {
    "mobilenetv2": RatioNetwork(
        "MobileNetV2-1.0", "mobilenetv2-iOS16", {2: 5.92, 4: 3.38, 6: 2.54, 8: 1.97}),
    "mobilenetv3small": RatioNetwork(
        "MobileNetV3-small", "mobilenetv3small-iOS16", {2: 5.82, 4: 3.47, 6: 2.6, 8: 1.93}),
    "resnet50": RatioNetwork("ResNet50", "resnet50", {2: 7.63, 4: 3.9, 6: 2.65, 8: 1.99}),
    "centernet-resnet34": RatioNetwork(
        "CenterNet-ResNet34", "centernet-resnet34", {2: 7.71, 4: 3.94, 6: 2.65, 8: 2.0}),
}

# ---------------------------------------------------------------- accuracy

BITS = (2, 3, 4, 6, 8)
METHODS = ("kmeans", "sensitive", "layerwise", "dkm")
PEER_METHODS = ("kmeans", "sensitive", "dkm")  # what coremltools has
GROUP_SIZE = 8
SAMPLES = 128
TRIALS = {"kmeans": 1, "sensitive": 3, "layerwise": 3, "dkm": 3}
EPOCHS = {"resnet20": 2, "mobilenetv3small-cifar": 1, "fashion-mnist": 2}
IMAGENET = ["--mean", "0.485 0.456 0.406", "--std", "0.229 0.224 0.225"]


@dataclass(frozen=True)
class ScoredNetwork:
    title: str
    model: str              # what networks.py makes, or a path below the repository
    data: str               # below the shared folder, or below the repository
    options: list = field(default_factory=list)  # how images become inputs


SCORED_NETWORKS = {
    "resnet20": ScoredNetwork("ResNet20, CIFAR-10", "resnet20", "data/cifar10.tar", IMAGENET),
    "mobilenetv3small-cifar": ScoredNetwork(
        "MobileNetV3-small, CIFAR-10", "mobilenetv3small-cifar", "data/cifar10.tar", IMAGENET),
    "fashion-mnist": ScoredNetwork(
        "The example, Fashion-MNIST", "examples/fashion-mnist/fashion-mnist.mlpackage",
        "examples/fashion-mnist/data", ["--mean", "0.2860", "--std", "0.3530"]),
}

# Made by networks.py, whatever else has that name.
MADE = {"resnet50", "centernet-resnet34", "resnet20", "mobilenetv3small-cifar"}

# ---------------------------------------------------------------- names


def row_names():
    """ratio/NETWORK/BITS; NETWORK/float; NETWORK/METHOD/BITS, with /grouped where groups of
    channels have tables of their own."""
    names = [f"ratio/{network}/{nbits}" for network, one in RATIO_NETWORKS.items()
             for nbits in one.published]
    for network in SCORED_NETWORKS:
        names.append(f"{network}/float")
        for form in ("", "/grouped"):
            names += [f"{network}/{method}/{nbits}{form}" for method in METHODS for nbits in BITS]
    return names


def config_of(name):
    """The configuration of a row, as a file of this folder."""
    parts = name.split("/")
    if parts[0] == "ratio":
        return HERE / f"{parts[1]}-{parts[2]}.yaml"
    return HERE / f"{parts[2]}-bit{'-groups' if parts[-1] == 'grouped' else ''}.yaml"


# ---------------------------------------------------------------- running


class Bench:
    """The command, the models and the data."""

    def __init__(self, command, shared, work, torch_python):
        self.command, self.shared, self.work = Path(command), Path(shared), Path(work)
        self.torch_python = torch_python

    def model(self, name):
        """A package by its name; made where it is none of the files at hand."""
        for path in (ROOT / name, self.shared / "models" / f"{name}.mlpackage"):
            if path.suffix == ".mlpackage" and path.is_dir() and name not in MADE:
                return path
        path = self.work / f"{name}.mlpackage"
        if not path.is_dir():
            self.work.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.work) as folder:  # whole, or not at all
                made = Path(folder) / path.name
                subprocess.run([self.torch_python, HERE / "networks.py", name, made, "--shared",
                                self.shared], check=True)
                made.rename(path)
        return path

    def data(self, network):
        for path in (ROOT / network.data, self.shared / network.data):
            if path.exists():
                return path
        sys.exit(f"no {network.data} in {ROOT} or {self.shared}")

    def run(self, *arguments):
        process = subprocess.run([str(self.command), *map(str, arguments)], capture_output=True,
                                 text=True)
        if process.returncode:
            raise RuntimeError(process.stderr.strip() or f"status {process.returncode}")
        return process.stdout

    def compress(self, model, output, *options):
        report = output.with_suffix(".json")
        self.run("compress", model, "-o", output, *options, "--json", report, "--quiet")
        return json.loads(report.read_text())

    def score(self, model, network):
        return json.loads(self.run("eval", model, "--data", self.data(network), "--split", "test",
                                   *network.options, "--json", "-"))


def measure(bench, name):
    """Our figures of a row. Its trials wait in the bench's folder until it is complete."""
    parts = name.split("/")
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "out.mlpackage"
        if parts[0] == "ratio":
            return measure_ratio(bench, parts[1], int(parts[2]), output, config_of(name))
        network = SCORED_NETWORKS[parts[0]]
        if parts[1] == "float":
            return {"accuracy": [bench.score(bench.model(network.model), network)["top1"]]}
        return measure_accuracy(bench, name, output)


def measure_ratio(bench, network, nbits, output, config):
    model = bench.model(RATIO_NETWORKS[network].model)
    plain = bench.compress(model, output, "--nbits", nbits)
    chosen = bench.compress(model, output, "--config", config)
    return {"ratio": plain["ratio"], "seconds": plain["seconds"], "chosen": chosen["ratio"]}


def measure_accuracy(bench, name, output):
    kept = bench.work / "trials"
    kept.mkdir(parents=True, exist_ok=True)
    # A trial of another build, or with another configuration, is not one of this row.
    identity = hashlib.sha256(bench.command.read_bytes() + config_of(name).read_bytes())
    files = [kept / f"{name.replace('/', '-')}-{seed}-{identity.hexdigest()[:12]}.json"
             for seed in range(TRIALS[name.split("/")[1]])]
    for seed, file in enumerate(files):
        if not file.is_file():
            file.write_text(json.dumps(measure_trial(bench, name, seed, output)))
    trials = [json.loads(file.read_text()) for file in files]
    for file in files:
        file.unlink()
    return combine(trials)


def combine(trials):
    """The figures of a row: all accuracies, and of the others, as far as there are any, the
    largest; where training was cut short, the fewest steps, and of how many."""
    figures = {"accuracy": [one["accuracy"] for one in trials]} | {
        key: max(one[key] for one in trials)
        for key in ("ratio", "seconds", "peak_bytes") if key in trials[0]}
    short = [one["steps"] for one in trials if "steps" in one]
    return figures | ({"steps": min(short)} if short else {})


def measure_trial(bench, name, seed, output):
    part, method = name.split("/")[:2]
    network = SCORED_NETWORKS[part]
    options = ["--config", config_of(name)]
    if method != "kmeans":
        options += ["--method", method, "--data", bench.data(network), "--split", "train",
                    *network.options, "--seed", seed]
        options += (["--epochs", EPOCHS[part]] if method == "dkm" else ["--samples", SAMPLES])
    run = bench.compress(bench.model(network.model), output, *options)
    return {"accuracy": bench.score(output, network)["top1"], "ratio": run["ratio"],
            "seconds": run["seconds"], "peak_bytes": run["peak_bytes"]}
