"""Scores of models whose accuracy is known, by the command as a user calls it."""

import json
import os
import re
import subprocess

import numpy as np

import support
from running import CIFAR, CIFAR_MEAN, CIFAR_STD, by_onnxruntime, cifar, image_input
from support import FULL, InteropTest

EXAMPLE = support.ROOT / "examples" / "fashion-mnist"
KEYS = {"samples", "top1", "top5", "agreement", "psnr", "samples_per_second", "peak_bytes"}


def numbers(values):
    return " ".join(map(str, values))


class AccuracyTest(InteropTest):
    def score(self, model, data, *options):
        return json.loads(self.succeed("eval", model, "--data", data, "--split", "test", "--json",
                                       "-", *options).stdout)

    def test_example(self):
        """All three files get the same of the test images that the repository carries."""
        for name in ("fashion-mnist.mlpackage", "fashion-mnist.onnx", "fashion-mnist-bn.onnx"):
            with self.subTest(name):
                score = self.score(EXAMPLE / name, EXAMPLE / "data", "--mean", 0.2860, "--std",
                                   0.3530, "--reference", EXAMPLE / "fashion-mnist.onnx")
                self.assertLessEqual(KEYS, set(score))
                self.assertEqual(score["samples"], 2000)
                self.assertAlmostEqual(score["top1"], 93.90, delta=0.05)
                self.assertGreaterEqual(score["agreement"], 99.9)
                self.assertGreater(score["samples_per_second"], 0)
                self.assertGreater(score["peak_bytes"], 1 << 20)

    def test_threads_that_wait_sleep_soon(self):
        """The command sets what GNU's OpenMP reads at its start only, unless it is set."""
        arguments = [support.COMMAND, "eval", EXAMPLE / "fashion-mnist.onnx", "--data",
                     EXAMPLE / "boot.png", "--reference", EXAMPLE / "fashion-mnist.onnx"]
        plain = {name: value for name, value in os.environ.items()
                 if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
        for given, expected in (({}, "1000"), ({"GOMP_SPINCOUNT": "77"}, "77")):
            done = subprocess.run(arguments, env={**plain, **given, "OMP_DISPLAY_ENV": "verbose"},
                                  capture_output=True, text=True, check=True)
            shown = re.findall("GOMP_SPINCOUNT = '(.*)'", done.stderr)
            if shown:  # it is GNU's
                self.assertEqual(shown[-1], expected)

    def test_resnet20(self):
        """87.85 % of the 10,000 test images of CIFAR-10, from the ONNX file and from the packages,
        whose weights are float16; of fewer images what onnxruntime gets."""
        options = ["--mean", numbers(CIFAR_MEAN), "--std", numbers(CIFAR_STD), "--batch", 128]
        count = 10_000 if FULL else 500
        images, labels = cifar(count)
        onnx = support.onnx_model("resnet20")
        given, _ = image_input(onnx)
        best = np.concatenate([by_onnxruntime(onnx, {given: part})[0].argmax(1)
                               for part in np.array_split(images, max(count // 100, 1))])
        expected = 100 * np.mean(best == labels)
        if FULL:
            self.assertAlmostEqual(expected, 87.85, delta=0.02)
        for model in (onnx, support.model("resnet20-iOS16"), support.model("resnet20-iOS18")):
            with self.subTest(model.name):
                score = self.score(model, CIFAR, *options, "--limit", count)
                self.assertEqual(score["samples"], count)
                self.assertAlmostEqual(score["top1"], expected, delta=0.02 if FULL else 0.21)
                self.assertFalse(score["one_by_one"])
