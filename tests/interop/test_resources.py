"""What opening and saving take: memory that does not grow with the model, time that grows no faster
than the file, and space for what weights share once."""

import json
import os
import struct
import subprocess
import sys
import unittest

import support  # before coremltools, which it quiets
import numpy as np
import onnx
from onnx import TensorProto, helper

from raw_package import FLOAT32, UINT8, RawPackage
from support import COMMAND, InteropTest

ROWS = 1024
TENSORS = 32  # of ROWS x ROWS float32: 128 MiB

# In a process of its own, because the peak of a process counts what its parent had when it began.
PEAK = """import resource, subprocess, sys
process = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
sys.exit(process.returncode)"""


class MemoryTest(InteropTest):
    """Less than half of the values are ever resident at once."""

    def assert_little_memory(self, *arguments):
        # One thread, so that one weight is worked on; scratch files that are not in memory.
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": "/var/tmp"}
        process = subprocess.run(
            [sys.executable, "-c", PEAK, COMMAND, *map(str, arguments)],
            capture_output=True, text=True, env=environment)
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertLess(int(process.stdout), 64, "MiB")

    def test_core_ml(self):
        package = RawPackage()
        rng = np.random.default_rng(0)
        for i in range(TENSORS):
            table = package.blob(FLOAT32, np.sort(rng.standard_normal(256, "f4")).tobytes())
            indices = package.blob(UINT8, rng.bytes(ROWS * ROWS))
            package.palettized(f"weight_{i}", (ROWS, ROWS), table, indices)
        path = package.save(self.new_path())
        self.assert_little_memory("decompress", path, "-o", self.new_path(), "--quiet")

    def test_onnx(self):
        rng = np.random.default_rng(0)
        names = [f"weight_{i}" for i in range(TENSORS)]
        values = [np.round(rng.standard_normal((ROWS, ROWS), "f4") * 30) for _ in names]
        graph = helper.make_graph(
            [helper.make_node("MatMul", [f"x_{i}", name], [f"x_{i + 1}"])
             for i, name in enumerate(names)],
            "graph",
            [helper.make_tensor_value_info("x_0", TensorProto.FLOAT, [1, ROWS])],
            [helper.make_tensor_value_info(f"x_{TENSORS}", TensorProto.FLOAT, [1, ROWS])],
            [onnx.numpy_helper.from_array(each, name) for each, name in zip(values, names)])
        path, small = self.folder / "model.onnx", self.folder / "small.onnx"
        onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)],
                                          ir_version=8), str(path))
        self.succeed("compress", path, "-o", small, "--mode", "uniform", "--nbits", 8, "--quiet")
        self.assert_little_memory("decompress", small, "-o", self.folder / "plain.onnx", "--quiet")

    def test_unaligned_checkpoint(self):
        size = ROWS * ROWS * 4
        header = json.dumps({
            f"layers.{i}.up_proj.weight": {"dtype": "F32", "shape": [ROWS, ROWS],
                                           "data_offsets": [i * size, (i + 1) * size]}
            for i in range(TENSORS)}).encode()
        header += b" " * (-(8 + len(header)) % 4 + 1)
        path = self.folder / "model.safetensors"
        with path.open("wb") as file:
            file.write(struct.pack("<Q", len(header)) + header)
            for i in range(TENSORS):
                file.write(np.random.default_rng(i).bytes(size))
        self.assert_little_memory("inspect", path)


class SharedTest(InteropTest):
    def test_one_palette_of_many_weights(self):
        """However many weights have the same values, their tables are stored once."""
        sizes = []
        for count in (1, 5, 12):
            package = RawPackage()
            shape = (64, 48, 3, 3)
            values = np.random.default_rng(0).standard_normal(shape, "f4")
            offset = package.blob(FLOAT32, values.tobytes())
            for i in range(count):
                package.constant(f"weight_{i}", shape, offset)
            output, _ = self.compress(package.save(self.new_path()), "--nbits", 4,
                                      "--enable-per-channel-scale", "true")
            sizes.append((output / "Data/com.apple.CoreML/weights/weight.bin").stat().st_size)
        self.assertEqual(sizes, sizes[:1] * 3)


class TimeTest(InteropTest):
    def test_tables_of_unknown_names(self):
        """What makes a weight's table is looked for in a time that many operations do not change.
        A scan of all of them each time would take minutes."""
        package = RawPackage()
        for i in range(100000):
            package.operation("constexpr_lut_to_dense", f"{i:07}", (8,), lut="nothing")
        self.succeed("inspect", package.save(self.new_path()))


if __name__ == "__main__":
    unittest.main()
