"""Networks of torchvision, and of its parts, with random weights, exported to ONNX by PyTorch.

    torch_networks.py NAME FILE
"""

import sys

import torch
import torchvision
from torch import nn


class CenterNet(nn.Module):
    """Objects as points (arXiv 1904.07850) on ResNet34 and three transposed convolutions."""

    def __init__(self, classes=80, width=256):
        super().__init__()
        trunk = torchvision.models.resnet34(weights=None)
        self.trunk = nn.Sequential(*list(trunk.children())[:-2])
        layers, inputs = [], 512
        for _ in range(3):
            layers += [nn.ConvTranspose2d(inputs, width, 4, stride=2, padding=1, bias=False),
                       nn.BatchNorm2d(width), nn.ReLU()]
            inputs = width
        self.enlarge = nn.Sequential(*layers)
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, outputs, 1))
            for outputs in (classes, 2, 2))

    def forward(self, image):
        features = self.enlarge(self.trunk(image))
        points, sizes, offsets = (head(features) for head in self.heads)
        points = points.sigmoid()
        # What compares them with the points would turn a rounding error into a large one.
        peaks = nn.functional.max_pool2d(points, 3, stride=1, padding=1)
        return points, peaks, sizes, offsets


def settle(network, image):
    """Statistics of batch norms as after training: without, values of random networks grow or
    vanish from layer to layer."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    with torch.no_grad():
        network(image)
    network.eval()


def make(name):
    torch.manual_seed(0)
    network = CenterNet() if name == "centernet" else getattr(torchvision.models, name)(weights=None)
    for parameter in network.parameters():  # some heads begin with zeros, and would give nothing else
        if parameter.dim() > 1 and not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    network.eval()
    settle(network, torch.randn(4, 3, 224, 224))
    return network


def main():
    name, path = sys.argv[1:]
    torch.onnx.export(make(name), torch.randn(2, 3, 224, 224), path, input_names=["image"],
                      dynamic_axes={"image": {0: "batch"}}, opset_version=17, dynamo=False)


if __name__ == "__main__":
    main()
