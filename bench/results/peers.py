"""coremltools on the same networks and data: the other side of the tables.

    peers.py [--rows PATTERN ...] [--trials N] [--patience SECONDS] [--budget SECONDS] [--memory GIB]

Figures go to peers.json.

Ratios come from coremltools.optimize.coreml.palettize_weights on the same package. Accuracies come
from the palettizers of coremltools.optimize.torch on the same weights, scored in PyTorch; the ratio
there is that of the package that coremltools makes of the result. Each trial is a process of its
own, whose seconds are those of the palettizer, and whose peak of memory is that before anything is
scored or converted; images wait there as bytes. A trial that takes longer than --patience is
stopped, and the row says so. Training that does not fit into --budget is cut short: as many steps as
it has time for, the learning rate falling to zero along with it, and the row says how many. One that
asks for more than --memory, or that coremltools refuses, has no figures but that. Needs
bench/requirements.txt.
"""

import argparse
import fnmatch
import gzip
import json
import math
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from io import BytesIO
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import networks
import rows

PEERS = HERE / "peers.json"
BATCH = 128


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", default=["*"], help="names, or patterns of them")
    parser.add_argument("--shared", type=Path, default=rows.ROOT.parent / "shared")
    parser.add_argument("--work", type=Path, default=rows.ROOT / "build" / "results",
                        help="folder that keeps the exported networks")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--trials", type=int, help="at most so many, where a row has several")
    parser.add_argument("--patience", type=float, help="seconds for a trial; without it any")
    parser.add_argument("--budget", type=float, help="seconds for training; without it any")
    parser.add_argument("--memory", type=float, help="GiB for a trial; without it any")
    parser.add_argument("--trial", nargs=2, metavar=("ROW", "SEED"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    bench = rows.Bench("palettize", options.shared, options.work, sys.executable)
    if options.trial:  # this process is one trial
        print(json.dumps(trial(bench, options.trial[0], int(options.trial[1]), options)))
        return
    for name in rows.row_names():
        parts = name.split("/")
        if parts[0] != "ratio" and parts[1] not in (*rows.PEER_METHODS, "float"):
            continue
        if any(fnmatch.fnmatch(name, pattern) for pattern in options.rows):
            figures = measure(bench, name, options)
            known = json.loads(PEERS.read_text()) if PEERS.is_file() else {}
            known[name] = figures
            PEERS.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n")
            print(name, figures, flush=True)


def measure(bench, name, options):
    command = [sys.executable, __file__, "--shared", options.shared, "--work", options.work,
               "--threads", str(options.threads)]
    for limit in ("budget", "memory"):
        if getattr(options, limit):
            command += [f"--{limit}", str(getattr(options, limit))]
    trials = []
    for seed in range(min(rows.TRIALS.get(name.split("/")[1], 1), options.trials or sys.maxsize)):
        try:
            process = subprocess.run([*command, "--trial", name, str(seed)], check=True,
                                     stdout=subprocess.PIPE, text=True, timeout=options.patience)
        except subprocess.TimeoutExpired:
            return {"unfinished": options.patience}
        trials.append(json.loads(process.stdout.splitlines()[-1]))
        if "out_of_memory" in trials[-1] or "refused" in trials[-1]:
            return trials[-1]
    return trials[0] if name.startswith("ratio/") else rows.combine(trials)


def trial(bench, name, seed, options):
    limit = int((options.memory or 0) * (1 << 30))
    if limit:
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        return measure_trial(bench, name, seed, options)
    except (MemoryError, RuntimeError) as error:
        if limit and (isinstance(error, MemoryError) or "allocate memory" in str(error)):
            return {"out_of_memory": limit}
        raise
    except AssertionError as error:
        if "number of clusters" in str(error):  # more than a group has weights
            return {"refused": str(error)}
        raise


def measure_trial(bench, name, seed, options):
    if name.startswith("ratio/"):
        _, network, nbits = name.split("/")
        return palettize_package(bench.model(rows.RATIO_NETWORKS[network].model), int(nbits))
    import torch

    torch.set_num_threads(options.threads)
    network, method, *rest = name.split("/")
    model, shape = trained(network, bench)
    torch.manual_seed(seed)  # after the network's, which is always the same
    if method == "float":
        return {"accuracy": score(model, images(bench, network, "test"))}
    train = None if method == "kmeans" else images(bench, network, "train")
    group_size = rows.GROUP_SIZE if rest[-1] == "grouped" else None
    start = time.perf_counter()
    palettized, remarks = PALETTIZERS[method](model, int(rest[0]), group_size, train,
                                              rows.EPOCHS[network], options.budget)
    seconds = time.perf_counter() - start
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"accuracy": score(palettized, images(bench, network, "test")),
            "ratio": ratio_of(palettized, trained(network, bench)[0], shape),
            "seconds": seconds, "peak_bytes": peak, **remarks}


# ---------------------------------------------------------------- packages


def palettize_package(package, nbits):
    ct = networks.quiet_coremltools()
    from coremltools.optimize import coreml as cto

    model = ct.models.MLModel(str(package), skip_model_load=True)
    config = cto.OptimizationConfig(global_config=cto.OpPalettizerConfig(nbits=nbits))
    start = time.perf_counter()
    palettized = cto.palettize_weights(model, config)
    seconds = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.mlpackage"
        palettized.save(str(out))
        return {"ratio": size_of(package) / size_of(out), "seconds": seconds}


def size_of(package):
    return sum(path.stat().st_size for path in Path(package).rglob("*") if path.is_file())


def ratio_of(palettized, model, shape):
    with tempfile.TemporaryDirectory() as folder:
        sizes = []
        for one in (model, palettized):
            out = Path(folder) / f"{len(sizes)}.mlpackage"
            networks.to_coreml(one.eval(), shape, keep_batch_norm=True).save(str(out))
            sizes.append(size_of(out))
    return sizes[0] / sizes[1]


# ---------------------------------------------------------------- networks and data


def trained(name, bench):
    if name != "fashion-mnist":
        return networks.load(name, bench.shared)
    import onnx
    import torch

    sys.path.insert(0, str(rows.EXAMPLE))
    from train import Network

    tensors = {tensor.name: torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy())
               for tensor in onnx.load(rows.EXAMPLE / "fashion-mnist-bn.onnx").graph.initializer}
    network = Network()
    state = network.state_dict()
    state.update({key: tensors[key].reshape(value.shape) for key, value in state.items()
                  if not key.endswith("num_batches_tracked")})
    network.load_state_dict(state)
    return network.eval(), (1, 1, 28, 28)


class Images:
    """All of a split as bytes, and batches of them as inputs and labels."""

    def __init__(self, pixels, labels, mean, std):
        self.pixels, self.labels, self.mean, self.std = pixels, labels, mean, std

    def __len__(self):
        return len(self.pixels)

    def batch(self, which):
        return (self.pixels[which].float() / 255 - self.mean) / self.std, self.labels[which]


def images(bench, name, split):
    import numpy
    import torch

    network = rows.SCORED_NETWORKS[name]
    path = bench.data(network)
    mean, std = (torch.tensor([float(x) for x in network.options[i].split()]).reshape(-1, 1, 1)
                 for i in (1, 3))
    if path.suffix == ".tar":
        pixels, labels = read_tar(path, split)
        pixels = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    else:
        prefix = {"train": "train", "test": "t10k"}[split]
        pixels, labels = (
            numpy.frombuffer(gzip.decompress((path / f"{prefix}-{kind}.gz").read_bytes()),
                             numpy.uint8, offset=offset).copy()
            for kind, offset in (("images-idx3-ubyte", 16), ("labels-idx1-ubyte", 8)))
        pixels = torch.from_numpy(pixels).reshape(-1, 1, 28, 28)
    return Images(pixels, torch.from_numpy(labels.astype(numpy.int64)), mean, std)


def read_tar(path, split):
    import numpy
    from PIL import Image

    pictures, names = [], []
    with tarfile.open(path) as archive:
        for member in archive:
            folder, _, rest = member.name.removeprefix("./").partition("/")
            if folder == split and member.isfile():
                picture = Image.open(BytesIO(archive.extractfile(member).read()))
                pictures.append(numpy.asarray(picture.convert("RGB")))
                names.append(rest.split("/")[0])
    classes = sorted(set(names))
    return numpy.stack(pictures), numpy.array([classes.index(name) for name in names])


def score(model, data):
    import torch

    right = 0
    model.eval()
    with torch.no_grad():
        for first in range(0, len(data), 256):
            inputs, labels = data.batch(slice(first, first + 256))
            right += int((model(inputs).argmax(1) == labels).sum())
    return 100 * right / len(data)


# ---------------------------------------------------------------- palettizers: the model, and remarks


def settings(nbits, group_size):
    return {"n_bits": nbits} | ({"granularity": "per_grouped_channel", "group_size": group_size}
                                if group_size else {})


def kmeans(model, nbits, group_size, train, epochs, budget):
    networks.quiet_coremltools()
    from coremltools.optimize.torch.palettization import (PostTrainingPalettizer,
                                                          PostTrainingPalettizerConfig)

    config = PostTrainingPalettizerConfig.from_dict({"global_config": settings(nbits, group_size)})
    return PostTrainingPalettizer(model, config).compress(), {}


def sensitive(model, nbits, group_size, train, epochs, budget):
    networks.quiet_coremltools()
    import torch
    from coremltools.optimize.torch.palettization import SKMPalettizer, SKMPalettizerConfig

    config = SKMPalettizerConfig.from_dict({"global_config": settings(nbits, group_size),
                                            "calibration_nsamples": rows.SAMPLES})
    chosen = torch.randperm(len(train))[:rows.SAMPLES]
    loader = [train.batch(slice(i, i + 1)) for i in chosen]

    def loss(network, batch):
        return torch.nn.functional.cross_entropy(network(batch[0]), batch[1])

    return SKMPalettizer(model, config).compress(dataloader=loader, loss_fn=loss), {}


def dkm(model, nbits, group_size, train, epochs, budget):
    """SGD, momentum 0.9, learning rate from 0.01 down along a cosine, crops and flips; over all steps,
    or over the seconds of the budget where they end before: how many were made is remarked then."""
    networks.quiet_coremltools()
    import torch
    from coremltools.optimize.torch.palettization import DKMPalettizer, DKMPalettizerConfig

    config = DKMPalettizerConfig.from_dict({"global_config": settings(nbits, group_size)})
    palettizer = DKMPalettizer(model, config)
    network = palettizer.prepare().train()
    each = (len(train) + BATCH - 1) // BATCH
    steps, done, start = epochs * each, 0, time.perf_counter()
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9)
    while done < steps:
        spent = (time.perf_counter() - start) / budget if budget else 0
        if spent >= 1:
            break
        if done % each == 0:
            order = torch.randperm(len(train))
        for group in optimizer.param_groups:
            group["lr"] = 0.005 * (1 + math.cos(math.pi * max(done / steps, spent)))
        first = done % each * BATCH
        inputs, labels = train.batch(order[first:first + BATCH])
        loss = torch.nn.functional.cross_entropy(network(augment(inputs)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        palettizer.step()
        done += 1
    return palettizer.finalize(), {"steps": [done, steps]} if done < steps else {}


def augment(batch):
    """Shifts of up to an eighth of the side, and horizontal flips."""
    import torch

    side, room = batch.shape[-1], batch.shape[-1] // 8
    padded = torch.nn.functional.pad(batch, (room,) * 4, mode="reflect")
    out = torch.empty_like(batch)
    for i in range(len(batch)):
        y, x = torch.randint(2 * room + 1, (2,))
        part = padded[i, :, y:y + side, x:x + side]
        out[i] = part.flip(-1) if torch.rand(()) < 0.5 else part
    return out


PALETTIZERS = {"kmeans": kmeans, "sensitive": sensitive, "dkm": dkm}

if __name__ == "__main__":
    main()
