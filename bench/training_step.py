"""A training step of our engine beside PyTorch's: forward, cross entropy, backward, SGD with momentum.

Both train the same network from the same weights on the same batch, each in a process of its own
with the same number of threads; PyTorch in channels-last. They take turns, and the least time of a
turn counts for each, because whatever else the machine does only adds to it; also the time that its
threads had a processor, which says more on a busy machine if OMP_WAIT_POLICY is passive. The losses after a few
steps are given, which must agree. Peak memory is that of the whole process; PyTorch's is also given
without what it has before it makes a network.
"""

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MIB = 1 << 20


def main():
    options = parse_arguments()
    if options.serve:  # this process is PyTorch
        return serve(*options.serve)
    if options.export:
        return export(*options.export)
    options.cache.mkdir(parents=True, exist_ok=True)
    print(f"{options.threads} threads, {options.turns} turns; milliseconds a step, peak MiB\n")
    print(f"{'network':<14}{'batch':>6}{'ours':>9}{'PyTorch':>9}{'ratio':>7}{'processor':>16}"
          f"{'ratio':>7}{'ours MiB':>10}{'its MiB':>9}{'less start':>12}{'losses':>20}")
    for name, batch in (("resnet20", 128), ("mobilenetv2", 32)):
        if not options.only or name in options.only:
            measure(options, name, batch)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", type=Path, default=ROOT / "build" / "bench" / "training_step")
    parser.add_argument("--cache", type=Path, default=ROOT / "build" / "bench",
                        help="folder that keeps the exported networks")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--steps", type=int, default=3, help="in a turn")
    parser.add_argument("--only", nargs="*", help="names of networks")
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--export", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def network(name):
    """The network, and the shape of an image."""
    import torch
    import torchvision
    torch.manual_seed(0)
    if name == "mobilenetv2":
        model, shape = torchvision.models.mobilenet_v2(weights=None), (3, 224, 224)
        model.classifier[0].p = 0.0  # what is dropped differs, and so would losses
    else:
        model, shape = resnet20(), (3, 32, 32)
    for module in model.modules():  # what is equal would be exported as one
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.8, 1.2)
            torch.nn.init.uniform_(module.bias, -0.1, 0.1)
    return model, shape


def resnet20():
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, inputs, outputs, stride):
            super().__init__()
            self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
            self.bn1, self.bn2 = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)
            self.stride, self.more = stride, outputs - inputs

        def forward(self, x):
            y = torch.relu(self.bn1(self.conv1(x)))
            y = self.bn2(self.conv2(y))
            if self.more:
                x = x[:, :, ::self.stride, ::self.stride]
                x = nn.functional.pad(x, (0, 0, 0, 0, self.more // 2, self.more // 2))
            return torch.relu(x + y)

    layers = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    inputs = 16
    for outputs in (16, 32, 64):
        for number in range(3):
            layers.append(Block(inputs, outputs, 2 if outputs != 16 and number == 0 else 1))
            inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def export(name, path):
    import torch
    model, shape = network(name)
    torch.onnx.export(model.eval(), torch.zeros(1, *shape), path, input_names=["image"],
                      output_names=["logits"], dynamic_axes={"image": {0: "batch"}},
                      training=torch.onnx.TrainingMode.PRESERVE,  # keeps batch norm
                      do_constant_folding=False, dynamo=False)


def measure(options, name, batch):
    path = options.cache / f"training-{name}.onnx"
    if not path.exists():  # in another process: what this one takes is counted as its children's
        subprocess.run([sys.executable, __file__, "--export", name, path], check=True,
                       stderr=subprocess.DEVNULL)
    ours = Contender([options.program, path, batch, options.threads])
    its = Contender([sys.executable, __file__, "--serve", name, batch, options.threads])
    contenders = (ours, its)
    losses = [contender.run(4)[2] for contender in contenders]
    least = {contender: [float("inf"), float("inf")] for contender in contenders}
    for turn in range(options.turns):
        for contender in contenders if turn % 2 else contenders[::-1]:
            took = contender.run(options.steps)
            least[contender] = [min(a, b / options.steps) for a, b in zip(least[contender], took)]
    (peak, _), (before, its_peak) = ours.stop(), its.stop()
    (fast, used), (other, its_used) = least[ours], least[its]
    print(f"{name:<14}{batch:>6}{1e3 * fast:>9.1f}{1e3 * other:>9.1f}{fast / other:>7.2f}"
          f"{1e3 * used:>8.1f}{1e3 * its_used:>8.1f}{used / its_used:>7.2f}{peak / MIB:>10.0f}{its_peak / MIB:>9.0f}"
          f"{(its_peak - before) / MIB:>12.0f}{losses[0]:>10.5f}{losses[1]:>10.5f}", flush=True)


class Contender:
    def __init__(self, command):
        self.process = subprocess.Popen([str(part) for part in command], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def run(self, steps):
        print(steps, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"{' '.join(map(str, self.process.args))} failed")
        return [float(part) for part in answer.split()]

    def stop(self):
        return [int(part) for part in self.process.communicate()[0].split()]


def serve(name, batch, threads):
    import resource
    import time
    import torch
    torch.set_num_threads(int(threads))
    batch = int(batch)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    model, shape = network(name)
    model.train().to(memory_format=torch.channels_last)
    count = batch * shape[0] * shape[1] * shape[2]
    images = torch.arange(count, dtype=torch.int64) * 2654435761
    images = ((images >> 8 & 0xffff).float() / 32768 - 1).view(batch, *shape)
    images = images.contiguous(memory_format=torch.channels_last)
    loss_of = torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    for line in sys.stdin:
        started, used = time.perf_counter(), time.process_time()
        for _ in range(int(line)):
            optimizer.zero_grad()
            scores = model(images)
            loss = loss_of(scores, torch.arange(batch) % scores.shape[1])
            loss.backward()
            optimizer.step()
            value = loss.item()
        print(time.perf_counter() - started, time.process_time() - used, value, flush=True)
    print(before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, flush=True)


if __name__ == "__main__":
    main()
