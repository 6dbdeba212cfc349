#!/usr/bin/env python3
"""Train a small convolutional classifier for Fashion-MNIST and export it.

Without --check the script trains the network on the CPU with fixed seeds,
measures its accuracy on the 10,000 test images and writes:

  fashion-mnist.mlpackage   float16 ML program, batch norm folded
  fashion-mnist.onnx        float32, batch norm folded into the convolutions
  fashion-mnist-bn.onnx     float32, batch norm kept as BatchNormalization
  labels.txt                the ten class names, in label order

With --check nothing is trained: ONNX files, the two above unless others are
named, are run on the test images with onnxruntime and their accuracies printed.

The models do not normalise their input.  A pixel p of 0..255 has to be given
as (p / 255 - 0.2860) / 0.3530.
"""

import argparse
import copy
import gzip
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

LABELS = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
SIZE = 28
PIXEL_MEAN = 0.2860
PIXEL_STD = 0.3530

SEED = 1
THREADS = 2
BATCH_SIZE = 128
PEAK_LEARNING_RATE = 5e-3
WEIGHT_DECAY = 2e-2
LABEL_SMOOTHING = 0.1
MAX_SHIFT = 2

HERE = Path(__file__).resolve().parent
PACKAGE = "fashion-mnist.mlpackage"
ONNX_FOLDED = "fashion-mnist.onnx"
ONNX_BATCH_NORM = "fashion-mnist-bn.onnx"


class Block(nn.Module):
    """Depthwise separable convolution, with a shortcut where shapes allow.

    There is no ReLU after the pointwise convolution: a channel it silences
    would have no variance in the depthwise convolution of the next block, and
    folding the batch norm there would turn its weights into huge outliers.
    """

    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        self.depthwise = nn.Conv2d(
            inputs, inputs, 3, stride, padding=1, groups=inputs, bias=False
        )
        self.depthwise_bn = nn.BatchNorm2d(inputs)
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.pointwise_bn = nn.BatchNorm2d(outputs)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x):
        y = functional.relu(self.depthwise_bn(self.depthwise(x)))
        y = self.pointwise_bn(self.pointwise(y))
        return x + y if self.shortcut else y


class Network(nn.Module):
    """Two full convolutions, five depthwise separable ones, two linear layers.

    A batch norm is named after the convolution it follows, plus "_bn".
    """

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 32, 3, padding=1, bias=False)
        self.stem_bn = nn.BatchNorm2d(32)
        self.reduce = nn.Conv2d(32, 32, 3, stride=2, padding=1, bias=False)
        self.reduce_bn = nn.BatchNorm2d(32)
        self.blocks = nn.Sequential(
            Block(32, 64),
            Block(64, 64),
            Block(64, 128, stride=2),
            Block(128, 128),
            Block(128, 128),
        )
        self.hidden = nn.Linear(128, 192)
        self.classifier = nn.Linear(192, len(LABELS))

    def forward(self, image):
        x = functional.relu(self.stem_bn(self.stem(image)))
        x = functional.relu(self.reduce_bn(self.reduce(x)))
        x = functional.relu(self.blocks(x)).mean((2, 3))
        return self.classifier(functional.relu(self.hidden(x)))


def fold_batch_norm(network):
    """Return a copy whose batch norms are folded into their convolutions."""
    folded = copy.deepcopy(network).eval()
    for module in folded.modules():
        for name, norm in list(module.named_children()):
            if name.endswith("_bn"):
                conv = name.removesuffix("_bn")
                fused = fuse_conv_bn_eval(getattr(module, conv), norm)
                setattr(module, conv, fused)
                setattr(module, name, nn.Identity())
    return folded


def read_idx(path):
    """Read a gzip-compressed IDX file of unsigned bytes."""
    data = gzip.decompress(path.read_bytes())
    if data[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path}: not an IDX file of unsigned bytes")
    rank = data[3]
    shape = np.frombuffer(data, ">u4", rank, offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)


def load(folder, part):
    """Return the pixels (N x 28 x 28) and labels of "train" or "t10k"."""
    pixels = read_idx(folder / f"{part}-images-idx3-ubyte.gz")
    labels = read_idx(folder / f"{part}-labels-idx1-ubyte.gz")
    return (
        torch.from_numpy(pixels.copy()),
        torch.from_numpy(labels.astype(np.int64)),
    )


def normalise(pixels):
    """Turn pixels (N x 28 x 28) into the model's input (N x 1 x 28 x 28)."""
    return ((pixels.float() / 255 - PIXEL_MEAN) / PIXEL_STD).unsqueeze(1)


def augment(padded):
    """Crop each padded image at random, and mirror every other one."""
    count = len(padded)
    offsets = torch.randint(2 * MAX_SHIFT + 1, (2, count, 1))
    rows, columns = offsets + torch.arange(SIZE)
    mirror = torch.rand(count, 1) < 0.5
    columns = torch.where(mirror, columns.flip(1), columns)
    images = torch.arange(count)[:, None, None]
    return padded[images, rows[:, :, None], columns[:, None, :]]


def train(pixels, labels, epochs):
    """Train a network and return it in inference mode."""
    torch.manual_seed(SEED)
    network = Network().to(memory_format=torch.channels_last)
    steps = len(pixels) // BATCH_SIZE
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, PEAK_LEARNING_RATE, total_steps=epochs * steps
    )
    padded = functional.pad(pixels, 4 * (MAX_SHIFT,))
    started = time.monotonic()
    for epoch in range(epochs):
        total = 0.0
        batches = torch.randperm(len(pixels))[: steps * BATCH_SIZE]
        for batch in batches.split(BATCH_SIZE):
            logits = network(normalise(augment(padded[batch])))
            loss = functional.cross_entropy(
                logits, labels[batch], label_smoothing=LABEL_SMOOTHING
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        seconds = time.monotonic() - started
        print(
            f"epoch {epoch + 1}/{epochs}: loss {total / steps:.4f}, {seconds:.0f} s",
            flush=True,
        )
    return network.to(memory_format=torch.contiguous_format).eval()


def accuracy(classify, pixels, labels):
    """Return the percentage of images a function from images to logits gets."""
    correct = 0
    for part, expected in zip(pixels.split(500), labels.split(500)):
        correct += (classify(normalise(part)).argmax(1) == expected).sum().item()
    return 100 * correct / len(labels)


def export_onnx(network, path, training):
    """Write a network in inference mode as ONNX with a dynamic batch size."""
    torch.onnx.export(
        network,
        torch.zeros(1, 1, SIZE, SIZE),
        path,
        input_names=["image"],
        output_names=["logits"],
        dynamic_axes={"image": {0: "N"}, "logits": {0: "N"}},
        opset_version=17,
        training=training,
        do_constant_folding=False,
        dynamo=False,
    )


def export_package(network, path):
    """Write a network as a float16 ML program for iOS 18 and later."""
    import coremltools as ct

    traced = torch.jit.trace(network, torch.zeros(1, 1, SIZE, SIZE))
    package = ct.convert(
        traced,
        convert_to="mlprogram",
        inputs=[ct.TensorType("image", (1, 1, SIZE, SIZE), dtype=np.float16)],
        outputs=[ct.TensorType("logits", dtype=np.float16)],
        minimum_deployment_target=ct.target.iOS18,
        compute_precision=ct.precision.FLOAT16,
        skip_model_load=True,
    )
    package.short_description = "Fashion-MNIST classifier"
    package.input_description["image"] = (
        f"Grey image, (pixel / 255 - {PIXEL_MEAN:.4f}) / {PIXEL_STD:.4f}"
    )
    package.output_description["logits"] = "One score for each class"
    del package.user_defined_metadata["com.github.apple.coremltools.conversion_date"]
    package.save(str(path))


def check(files, data):
    """Print the test accuracy of ONNX files."""
    import onnxruntime

    pixels, labels = load(data, "t10k")
    for path in files:
        session = onnxruntime.InferenceSession(
            path, providers=["CPUExecutionProvider"]
        )

        def classify(images):
            (logits,) = session.run(["logits"], {"image": images.numpy()})
            return torch.from_numpy(logits)

        print(f"{path.name}: {accuracy(classify, pixels, labels):.2f} %")


def train_and_export(data, output, epochs):
    """Train the network, print its test accuracy and write all files."""
    network = train(*load(data, "train"), epochs)
    folded = fold_batch_norm(network)
    rounded = copy.deepcopy(folded).half().float()
    test = load(data, "t10k")
    with torch.inference_mode():
        print(f"PyTorch, float32: {accuracy(network, *test):.2f} %")
        print(f"PyTorch, folded, float16 weights: {accuracy(rounded, *test):.2f} %")

    output.mkdir(parents=True, exist_ok=True)
    (output / "labels.txt").write_text("".join(f"{name}\n" for name in LABELS))
    export_onnx(folded, output / ONNX_FOLDED, torch.onnx.TrainingMode.EVAL)
    # EVAL would fold the batch norms; PRESERVE keeps them, in inference form.
    export_onnx(network, output / ONNX_BATCH_NORM, torch.onnx.TrainingMode.PRESERVE)
    export_package(network, output / PACKAGE)


def main():
    parser = argparse.ArgumentParser(
        description="Train a Fashion-MNIST classifier and export it."
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("/usr/share/datasets/fashion-mnist"),
        metavar="DIR",
        help="folder of the four .gz files of the data set (default: %(default)s)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=HERE,
        metavar="DIR",
        help="folder to write to (default: the script's own)",
    )
    parser.add_argument(
        "--epochs", type=int, default=16, metavar="N", help="default: %(default)s"
    )
    parser.add_argument(
        "--check",
        type=Path,
        nargs="*",
        metavar="FILE",
        help="measure ONNX files (default: those in the output folder) instead",
    )
    arguments = parser.parse_args()

    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)
    if arguments.check is None:
        train_and_export(arguments.data, arguments.output, arguments.epochs)
        files = []
    else:
        files = arguments.check
    if not files:
        files = [arguments.output / name for name in (ONNX_FOLDED, ONNX_BATCH_NORM)]
    check(files, arguments.data)


if __name__ == "__main__":
    main()
