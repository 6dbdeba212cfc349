"""Large networks as PyTorch exports them, beside onnxruntime. A part of the full tests that needs
torch and torchvision, and is left out without. To run it alone:

    PALETTIZE=build/palettize PALETTIZE_FULL=1 PYTHONPATH=tests/interop \\
        build/bench-venv/bin/python -m unittest test_torch_networks
"""

import importlib.util
import subprocess
import sys
import unittest
from pathlib import Path

from running import SINGLE, assert_near, by_onnxruntime, pictures
from runner import Runner
from support import FULL, InteropTest

# Of torchvision, and what torch_networks.py makes of its parts.
NETWORKS = ("resnet50", "densenet121", "efficientnet_b0", "convnext_tiny", "swin_t", "vit_b_16",
            "centernet")


def has_torch():
    return all(importlib.util.find_spec(name) for name in ("torch", "torchvision"))


@unittest.skipUnless(FULL, "a part of the full tests")
class TorchNetworksTest(InteropTest):
    def test_networks(self):
        if not has_torch():
            why = "no torch and torchvision: pip install -r bench/requirements.txt"
            print(f"\nPyTorch's networks are left out: {why}")
            self.skipTest(why)
        runner = Runner()
        self.addCleanup(runner.close)
        for name in NETWORKS:
            path = self.new_path(".onnx")
            # In a process of its own: what torch takes is free again.
            subprocess.run([sys.executable, Path(__file__).with_name("torch_networks.py"), name,
                            path], check=True, stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL)
            for count in (1, 3):
                with self.subTest(name, count=count):
                    feed = {"image": pictures(count, [3, 224, 224], seed=count)}
                    expected = by_onnxruntime(path, feed)
                    self.assertTrue(all(output.any() for output in expected))
                    worst = assert_near(runner.run(path, feed), expected, SINGLE)
                    print(f"{name}, batch {count}: {worst:.1e} of the largest output")
            path.unlink()
