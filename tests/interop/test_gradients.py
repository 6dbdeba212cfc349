"""Gradients of whole networks beside PyTorch's: cross entropy by every weight.

Skips where PyTorch is missing (it is no requirement of the other tests).
"""

import copy
import json
import subprocess
import tempfile
import unittest
from pathlib import Path

from support import COMMAND, SHARED

try:
    import numpy
    import torch
    from torch import nn
except ImportError:
    raise unittest.SkipTest("no PyTorch") from None

TOOL = COMMAND.parent / "tests" / "model_gradients"
TOLERANCE = 1e-4  # of the norm of each weight's gradient


class Case(unittest.TestCase):
    def compare(self, network, draw, classes, train=False, places=1):
        """draw() gives the inputs; places: rows of scores for each sample.

        Where a corner of a function lies between two roundings, single precision is far off: a draw
        counts if PyTorch's own single precision is close to its double there, and one of a few has
        to agree in all weights.
        """
        torch.manual_seed(1)
        for parameter in network.parameters():  # what is equal would be exported as one
            parameter.data += 0.01 * torch.randn_like(parameter)
        with tempfile.TemporaryDirectory() as folder:
            for _ in range(32):
                worst = self.compare_draw(network, draw(), classes, train, places, Path(folder))
                if worst and worst[0] <= TOLERANCE:
                    return
            self.fail(f"no draw agrees: {worst}")

    def compare_draw(self, network, inputs, classes, train, places, folder):
        """The largest relative error and its weight; None where the draw does not count."""
        path = folder / "model.onnx"
        torch.onnx.export(network.eval(), tuple(inputs), str(path), opset_version=17,
                          training=torch.onnx.TrainingMode.PRESERVE,
                          do_constant_folding=False, dynamo=False)
        targets = torch.randint(0, classes, (len(inputs[0]) * places,))
        for i, values in enumerate(inputs):
            values.numpy().tofile(folder / f"input-{i}.bin")
        (folder / "inputs.txt").write_text(
            "".join(" ".join(map(str, values.shape)) + "\n" for values in inputs))
        targets.numpy().tofile(folder / "targets.bin")
        run = subprocess.run([TOOL, path, folder, *(["train"] if train else [])],
                             capture_output=True, text=True)
        self.assertEqual(run.returncode, 0, run.stderr)
        wanted = gradients_of(copy.deepcopy(network).double(), inputs, targets, train)
        single = gradients_of(copy.deepcopy(network), inputs, targets, train)
        norms = {name: numpy.linalg.norm(values) for name, values in wanted.items()}
        largest = max(norms.values())

        def error(name, values):
            difference = values.reshape(wanted[name].shape) - wanted[name]
            # Some are zero, but for rounding: biases before a norm, or of keys.
            norm = norms[name] if norms[name] > 1e-10 * largest else 1e-2 * largest
            return numpy.linalg.norm(difference) / norm, name

        if max(error(*item) for item in single.items())[0] > TOLERANCE / 2:
            return None
        ours = {}
        for line in run.stdout.splitlines():
            number, name = line.split(" ", 1)
            if name in wanted:  # and not a number of the graph that is no parameter
                ours[name] = numpy.fromfile(folder / f"weight-{number}.bin", numpy.float32)
        self.assertEqual(set(ours), set(wanted))
        return max(error(*item) for item in ours.items())


def gradients_of(network, inputs, targets, train):
    dtype = next(network.parameters()).dtype
    scores = network.train(train)(*(v.to(dtype) if v.is_floating_point() else v for v in inputs))
    nn.functional.cross_entropy(scores.reshape(len(targets), -1), targets).backward()
    return {name: parameter.grad.double().numpy()
            for name, parameter in network.named_parameters() if parameter.grad is not None}


class Convolutional(Case):
    def test_resnet20(self):
        for train in (False, True):
            self.compare(resnet20(), lambda: [torch.randn(8, 3, 32, 32)], 10, train)

    def test_mobilenets(self):
        import torchvision
        for make in (torchvision.models.mobilenet_v2, torchvision.models.mobilenet_v3_small):
            for train in (False, True):
                network = make(weights=None)
                for module in network.modules():
                    if isinstance(module, nn.Dropout):
                        module.p = 0.0
                self.compare(network, lambda: [torch.randn(6, 3, 64, 64)], 1000, train)


class Transformers(Case):
    def test_bert(self):
        self.compare(Bert(), lambda: [torch.randint(0, 100, (4, 24))], 7)

    def test_llama(self):
        self.compare(Llama(), lambda: [torch.randint(0, 100, (3, 20))], 100, places=20)


class Sensitivity(unittest.TestCase):
    def test_resnet20(self):
        """The mean over samples of squared gradients, by the command, beside a loop in PyTorch."""
        model = SHARED / "models" / "resnet20-bn.onnx"
        if not model.exists():
            self.skipTest(f"no {model}")
        torch.manual_seed(1)
        images, labels = torch.randn(128, 3, 32, 32), torch.randint(0, 10, (128,))
        network = resnet20().eval()
        convolutions = {name: module.weight for name, module in network.named_modules()
                        if isinstance(module, nn.Conv2d)}
        wanted = {name: torch.zeros_like(weight) for name, weight in convolutions.items()}
        for image, label in zip(images, labels):
            network.zero_grad()
            nn.functional.cross_entropy(network(image[None]), label[None]).backward()
            for name, weight in convolutions.items():
                wanted[name] += weight.grad ** 2 / len(images)
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            numpy.savez(folder / "data.npz", image=images.numpy(), labels=labels.numpy())
            run = subprocess.run(
                [COMMAND, "compress", model, "-o", folder / "out.onnx", "--method", "sensitive",
                 "--nbits", "4", "--data", folder / "data.npz", "--samples", "128",
                 "--weight-threshold", "0", "--save-sensitivity", folder / "s.safetensors"],
                capture_output=True, text=True)
            self.assertEqual(run.returncode, 0, run.stderr)
            ours = {name: values for name, values in read_safetensors(folder / "s.safetensors")}
        compared = 0
        for name, values in ours.items():
            its = next((w for n, w in wanted.items()
                        if name in (f"{n}.weight", n) and w.numel() == values.size), None)
            if its is None:
                continue
            compared += 1
            difference = numpy.linalg.norm(values.reshape(its.shape) - its.numpy())
            self.assertLessEqual(difference, 1e-3 * numpy.linalg.norm(its.numpy()), name)
        self.assertEqual(compared, len(wanted), sorted(ours))


def read_safetensors(path):
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    for name, tensor in json.loads(data[8:8 + size]).items():
        if name != "__metadata__":
            begin, end = (8 + size + offset for offset in tensor["data_offsets"])
            yield name, numpy.frombuffer(data[begin:end], numpy.float32)


def resnet20():
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

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
            inputs = 16
            for number, outputs in enumerate((16, 32, 64), 1):
                blocks = []
                for i in range(3):
                    blocks.append(Block(inputs, outputs, 2 if number > 1 and i == 0 else 1))
                    inputs = outputs
                setattr(self, f"layer{number}", nn.Sequential(*blocks))
            self.linear = nn.Linear(64, 10)

        def forward(self, x):
            x = torch.relu(self.bn1(self.conv1(x)))
            x = self.layer3(self.layer2(self.layer1(x)))
            return self.linear(x.mean((2, 3)))

    network = Network()
    weights = SHARED / "models" / "resnet20.pt"
    if weights.exists():
        network.load_state_dict(torch.load(weights, weights_only=True))
    return network


class Bert(nn.Module):
    """Learned places, layer norm after each part, gelu; the first token decides."""

    def __init__(self, width=32, layers=2):
        super().__init__()
        torch.manual_seed(0)
        self.tokens, self.places = nn.Embedding(100, width), nn.Embedding(24, width)
        self.norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(BertBlock(width) for _ in range(layers))
        self.head = nn.Linear(width, 7)

    def forward(self, tokens):
        x = self.norm(self.tokens(tokens) + self.places(torch.arange(tokens.shape[1])))
        for block in self.blocks:
            x = block(x)
        return self.head(x[:, 0])


class BertBlock(nn.Module):
    def __init__(self, width, heads=4):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def split(self, x):
        return x.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)

    def forward(self, x):
        q, k, v = self.split(self.q(x)), self.split(self.k(x)), self.split(self.v(x))
        mixed = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1) @ v
        x = self.norm1(x + self.out(mixed.transpose(1, 2).reshape(x.shape)))
        return self.norm2(x + self.down(nn.functional.gelu(self.up(x))))


class Llama(nn.Module):
    """RMS norm, rotated places, keys shared by heads, a gate with swish, a head tied to the table."""

    def __init__(self, width=32, layers=2):
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Parameter(torch.randn(100, width) * 0.1)
        self.blocks = nn.ModuleList(LlamaBlock(width) for _ in range(layers))
        self.norm = RmsNorm(width)

    def forward(self, tokens):
        x = nn.functional.embedding(tokens, self.table)
        for block in self.blocks:
            x = block(x)
        return self.norm(x) @ self.table.T


class RmsNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.scale = nn.Parameter(torch.rand(width) + 0.5)

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * self.scale


class LlamaBlock(nn.Module):
    def __init__(self, width, heads=4, shared=2):
        super().__init__()
        self.heads, self.shared, self.each = heads, shared, width // heads
        self.norm1, self.norm2 = RmsNorm(width), RmsNorm(width)
        self.q, self.out = (nn.Linear(width, width, bias=False) for _ in range(2))
        self.k, self.v = (nn.Linear(width, shared * self.each, bias=False) for _ in range(2))
        self.gate, self.up = (nn.Linear(width, 64, bias=False) for _ in range(2))
        self.down = nn.Linear(64, width, bias=False)

    def rotate(self, x):
        half = self.each // 2
        angles = torch.outer(torch.arange(x.shape[2]).to(x.dtype),
                             100.0 ** -(torch.arange(half).to(x.dtype) / half))
        angles = torch.cat((angles, angles), -1)
        turned = torch.cat((-x[..., half:], x[..., :half]), -1)
        return x * angles.cos() + turned * angles.sin()

    def forward(self, x):
        batch, length, width = x.shape
        y = self.norm1(x)
        q = self.rotate(self.q(y).view(batch, length, self.heads, -1).transpose(1, 2))
        k = self.rotate(self.k(y).view(batch, length, self.shared, -1).transpose(1, 2))
        v = self.v(y).view(batch, length, self.shared, -1).transpose(1, 2)
        k, v = (t.repeat_interleave(self.heads // self.shared, 1) for t in (k, v))
        scores = q @ k.transpose(-1, -2) / self.each ** 0.5
        later = torch.ones(length, length, dtype=torch.bool).triu(1)
        mixed = scores.masked_fill(later, float("-inf")).softmax(-1) @ v
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        y = self.norm2(x)
        return x + self.down(nn.functional.silu(self.gate(y)) * self.up(y))


if __name__ == "__main__":
    unittest.main()
