"""The networks of the tables that are not at hand as files, made with PyTorch and coremltools.

Compression ratios depend on shapes alone, so there the weights are random; where accuracy counts,
they are those of a trained network in PyTorch's format.

    networks.py NAME OUT [--shared FOLDER]
"""

import argparse
import logging
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def centernet_resnet34():
    """CenterNet (arXiv 1904.07850) on ResNet34: three transposed convolutions of 256, 128 and 64
    channels bring the picture back to a quarter of its size; heads for the map of 80 classes, the
    size of objects and their offset."""
    import torch
    import torchvision

    class CenterNet(torch.nn.Module):
        def __init__(self):
            super().__init__()
            backbone = torchvision.models.resnet34(weights=None)
            self.backbone = torch.nn.Sequential(*list(backbone.children())[:-2])
            layers, channels = [], 512
            for width in (256, 128, 64):
                layers += [torch.nn.ConvTranspose2d(channels, width, 4, 2, 1, bias=False),
                           torch.nn.BatchNorm2d(width), torch.nn.ReLU()]
                channels = width
            self.up = torch.nn.Sequential(*layers)
            self.heads = torch.nn.ModuleList(
                torch.nn.Sequential(torch.nn.Conv2d(64, 64, 3, padding=1), torch.nn.ReLU(),
                                    torch.nn.Conv2d(64, outputs, 1))
                for outputs in (80, 2, 2))

        def forward(self, image):
            features = self.up(self.backbone(image))
            return tuple(head(features) for head in self.heads)

    return CenterNet(), (1, 3, 512, 512)


def resnet50():
    import torchvision

    return torchvision.models.resnet50(weights=None), (1, 3, 224, 224)


def resnet20():
    """He et al.'s ResNet for CIFAR-10, with shortcuts that subsample and pad with zeros."""
    import torch
    from torch import nn
    from torch.nn import functional

    class Block(nn.Module):
        def __init__(self, inputs, width, stride):
            super().__init__()
            self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(width)
            self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(width)
            self.stride, self.more = stride, (width - inputs) // 2

        def forward(self, x):
            y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
            if self.more:
                x = functional.pad(x[:, :, ::self.stride, ::self.stride],
                                   (0, 0, 0, 0, self.more, self.more))
            return functional.relu(x + y)

    class ResNet20(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(16)
            self.layer1, self.layer2, self.layer3 = (
                nn.Sequential(Block(before, width, stride), Block(width, width, 1),
                              Block(width, width, 1))
                for before, width, stride in ((16, 16, 1), (16, 32, 2), (32, 64, 2)))
            self.linear = nn.Linear(64, 10)

        def forward(self, image):
            x = functional.relu(self.bn1(self.conv1(image)))
            x = self.layer3(self.layer2(self.layer1(x)))
            return self.linear(functional.adaptive_avg_pool2d(x, 1).flatten(1))

    return ResNet20(), (1, 3, 32, 32)


def mobilenetv3small_cifar():
    """torchvision's network with 10 classes; its first two strides are 1."""
    import torchvision

    model = torchvision.models.mobilenet_v3_small(weights=None, num_classes=10)
    model.features[0][0].stride = (1, 1)
    model.features[1].block[0][0].stride = (1, 1)
    return model, (1, 3, 32, 32)


NETWORKS = {
    "centernet-resnet34": centernet_resnet34,
    "resnet50": resnet50,
    "resnet20": resnet20,
    "mobilenetv3small-cifar": mobilenetv3small_cifar,
}
TRAINED = {"resnet20", "mobilenetv3small-cifar"}


def load(name, shared):
    """The network, trained where it is one of those, and the shape of its input."""
    import torch

    torch.manual_seed(0)
    model, shape = NETWORKS[name]()
    if name in TRAINED:
        model.load_state_dict(torch.load(shared / "models" / f"{name}.pt", map_location="cpu"))
    return model.eval(), shape


def quiet_coremltools():
    """Without its warnings about the parts that need macOS, and its progress bars."""
    logging.disable(logging.WARNING)
    os.environ["TQDM_DISABLE"] = "1"
    import coremltools

    return coremltools


def to_coreml(model, shape, keep_batch_norm):
    """A float16 package of iOS18. Batch norm is kept, or folded into the convolutions as
    coremltools does of itself."""
    ct = quiet_coremltools()
    import torch

    pipeline = ct.PassPipeline.DEFAULT
    if keep_batch_norm:
        pipeline.remove_passes({"common::fuse_conv_batchnorm"})
    return ct.convert(
        torch.jit.trace(model, torch.zeros(shape)), convert_to="mlprogram",
        inputs=[ct.TensorType("image", shape)], minimum_deployment_target=ct.target.iOS18,
        compute_precision=ct.precision.FLOAT16, pass_pipeline=pipeline, skip_model_load=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=NETWORKS)
    parser.add_argument("out", type=Path)
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared")
    options = parser.parse_args()
    model, shape = load(options.name, options.shared)
    to_coreml(model, shape, options.name in TRAINED).save(str(options.out))


if __name__ == "__main__":
    sys.exit(main())
