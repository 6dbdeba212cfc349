"""safetensors checkpoints: other readers open them, and a small one decodes our palettes."""

import json
import os
import subprocess
import unittest

import numpy as np
from safetensors import safe_open

import support
from support import COMMAND, InteropTest

FORMS_WRITER = COMMAND.parent / "tests" / "test_safetensors"


# The reader of docs/safetensors.md: {name: float array}, of float tensors. A bfloat16 is handled as
# the float32 of the same value.

TYPES = {"F16": "<f2", "BF16": "<u2", "F32": "<f4", "I8": "i1", "U8": "u1",
         "U32": "<u4"}


def rounded(values, dtype):
    bits = values.astype("<f4").view("<u4")
    nearest = (bits + 0x7FFF + (bits >> 16 & 1) >> 16 << 16).view("<f4")
    return nearest if dtype == "BF16" else values.astype(TYPES[dtype])


def read(path):
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    palettes = json.loads(header.pop("__metadata__", {}).get("palettize.tensors", "{}"))

    def stored(name, default=np.ones(1, "f4")):
        if name not in header:
            return default
        begin, end = (start + offset for offset in header[name]["data_offsets"])
        values = np.frombuffer(data[begin:end], TYPES[header[name]["dtype"]])
        if header[name]["dtype"] == "BF16":
            values = (values.astype("<u4") << 16).view("<f4")
        return values.reshape(header[name]["shape"])

    def decoded(name, nbits, dtype, shape, vector_axis=0):
        scale = stored(name + ".palette_lut_scale")[..., None, None]
        offset = stored(name + ".palette_lut_offset", np.zeros(1, "f4"))[..., None, None]
        lut = rounded((stored(name + ".palette_lut").astype("f4") - offset) * scale, dtype)
        sizes = [n // (lut.shape[-1] if d == vector_axis else 1) for d, n in enumerate(shape)]
        bits = np.unpackbits(stored(name + ".palette_indices"), bitorder="little")
        indices = bits[:np.prod(sizes) * nbits].reshape(*sizes, nbits) @ (1 << np.arange(nbits))
        tables = np.ix_(*(np.arange(n) // (n // blocks) for n, blocks in zip(sizes, lut.shape)))
        values = np.moveaxis(lut[(*tables, indices)], -1, vector_axis + 1).reshape(shape)
        values = rounded(values * stored(name + ".palette_scale"), dtype)
        places = stored(name + ".palette_outlier_indices", np.zeros(0, "<u4"))
        values.reshape(-1)[places] = stored(name + ".palette_outlier_values", np.zeros(0, "<f4"))
        return values

    dense = {n: stored(n) for n in header if ".palette_" not in n and header[n]["dtype"] in TYPES}
    return dense | {n: decoded(n, **description) for n, description in palettes.items()}


def write(path, tensors):
    """tensors: {name: (dtype, float array)}"""
    header, blobs, offset = {"__metadata__": {"format": "pt"}}, [], 0
    for name, (dtype, values) in tensors.items():
        values = rounded(values, dtype)
        blob = (values.view("<u4") >> 16).astype("<u2") if dtype == "BF16" else values
        blobs.append(blob.tobytes())
        header[name] = {"dtype": dtype, "shape": values.shape,
                        "data_offsets": [offset, offset + len(blobs[-1])]}
        offset += len(blobs[-1])
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(blobs))


def sample(seed=0):
    random = np.random.default_rng(seed)

    def normal(*shape):
        return random.standard_normal(shape).astype("f4")

    return {
        "model.embed_tokens.weight": ("BF16", normal(300, 64)),
        "model.layers.0.q_proj.weight": ("BF16", normal(96, 64)),
        "model.layers.0.up_proj.weight": ("F16", normal(80, 72)),
        "model.layers.0.down_proj.weight": ("F32", normal(33, 97)),
        "model.layers.0.conv.weight": ("BF16", normal(16, 12, 5, 5)),
        "model.layers.0.input_layernorm.weight": ("BF16", normal(65)),
    }


SETTINGS = (
    ["--nbits", 4], ["--nbits", 1], ["--nbits", 3, "--mode", "uniform"],
    ["--nbits", 4, "--granularity", "per_grouped_channel", "--group-size", 16],
    ["--nbits", 2, "--granularity", "per_grouped_channel", "--group-size", 4,
     "--channel-axis", 1],
    ["--nbits", 6, "--embeddings", "palettize"],
    ["--nbits", 4, "--lut-dtype", "int8"],
    ["--nbits", 3, "--lut-dtype", "uint8", "--granularity", "per_grouped_channel"],
    ["--nbits", 4, "--enable-per-channel-scale", "true"],
    ["--nbits", 2, "--enable-per-channel-scale", "true", "--lut-dtype", "uint8",
     "--granularity", "per_grouped_channel", "--group-size", 16],
    ["--nbits", 4, "--cluster-dim", 2, "--enable-per-channel-scale", "true"],
    ["--mode", "custom", "--lut", "[-1.5, -0.5, 0.5, 1.5]"],
)


class SafetensorsTest(InteropTest):
    def assert_same_tensors(self, first, second):
        self.assertEqual(set(first), set(second))
        for name in first:
            self.assertEqual(first[name].shape, second[name].shape)
            np.testing.assert_array_equal(first[name], second[name], err_msg=name)

    def run_command(self, subcommand, source, *options):
        output = self.new_path(source.suffix)
        self.succeed(subcommand, source, "-o", output, *options, "--quiet")
        return output

    def test_reader_agrees_with_decompress(self):
        source = self.new_path(".safetensors")
        write(source, sample())
        for options in SETTINGS:
            with self.subTest(options=options):
                small = self.run_command("compress", source, *options)
                plain = self.run_command("decompress", small)
                self.assertLess(small.stat().st_size, source.stat().st_size)
                self.assertEqual(list(read(plain)), list(read(source)))
                self.assert_same_tensors(read(small), read(plain))

    def test_report_agrees_with_reader(self):
        source, report_path = self.new_path(".safetensors"), self.new_path(".json")
        write(source, sample())
        for options in SETTINGS:
            small = self.run_command("compress", source, *options, "--json", report_path)
            report = json.loads(report_path.read_text())
            before, after = read(source), read(small)
            compressed = self.status_of(report, "compressed")
            self.assertGreaterEqual(len(compressed), 3)
            self.assert_skips_are_explained(report)
            for name, entry in compressed.items():
                difference = before[name].astype("f8") - after[name].astype("f8")
                with self.subTest(options=options, name=name):
                    np.testing.assert_allclose(entry["mse"], np.mean(difference ** 2), rtol=1e-6)
            for name in self.status_of(report, "skipped"):
                np.testing.assert_array_equal(before[name], after[name])

    def test_every_form_of_a_palette(self):
        if not FORMS_WRITER.is_file():
            self.skipTest(f"no {FORMS_WRITER}")
        environment = dict(os.environ, SAFETENSORS_FORMS=str(self.folder))
        process = subprocess.run([FORMS_WRITER], env=environment, capture_output=True, text=True,
                                 timeout=support.TIMEOUT_SECONDS)
        self.assertEqual(process.returncode, 0, process.stderr)
        small = read(self.folder / "palettized.safetensors")
        self.assertGreaterEqual(len(small), 8)
        self.assert_same_tensors(small, read(self.folder / "dense.safetensors"))

    def test_reference_implementation_opens_it(self):
        source = self.new_path(".safetensors")
        write(source, sample())
        for options in SETTINGS:
            with self.subTest(options=options):
                small = self.run_command("compress", source, *options)
                with safe_open(small, "numpy") as file:
                    self.assertEqual(file.metadata()["format"], "pt")
                    self.assertEqual(file.metadata()["palettize.version"], "1")
                    self.assertIn("model.layers.0.q_proj.weight.palette_indices", file.keys())
                    self.assertIn("model.layers.0.input_layernorm.weight", file.keys())

    def test_tensors_are_aligned(self):
        source = self.new_path(".safetensors")
        write(source, sample())
        for options in SETTINGS:
            data = self.run_command("compress", source, *options).read_bytes()
            start = 8 + int.from_bytes(data[:8], "little")
            self.assertEqual(start % 8, 0)
            for name, entry in json.loads(data[8:start]).items():
                if name != "__metadata__":
                    begin, end = entry["data_offsets"]
                    width = np.dtype(TYPES[entry["dtype"]]).itemsize
                    self.assertEqual(begin % (width if (end - begin) % 8 else 8), 0, name)

    def test_folder(self):
        folder = self.folder / "checkpoint"
        folder.mkdir()
        files, weight_map = ("model-1.safetensors", "model-2.safetensors"), {}
        for seed, name in enumerate(files):
            tensors = {f"part{seed}.{key}": value for key, value in sample(seed).items()}
            write(folder / name, tensors)
            weight_map |= dict.fromkeys(tensors, name)
        index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        (folder / "config.json").write_text("{}")
        small = self.run_command("compress", folder, "--nbits", 4)
        plain = self.run_command("decompress", small)
        self.assertEqual((small / "config.json").read_text(), "{}")
        for output in (small, plain):
            index = json.loads((output / "model.safetensors.index.json").read_text())
            total = 0
            for name in files:
                with safe_open(output / name, "numpy") as file:
                    keys = set(file.keys())
                expected = {key for key, value in index["weight_map"].items() if value == name}
                self.assertEqual(keys, expected)
                data = (output / name).read_bytes()
                total += len(data) - 8 - int.from_bytes(data[:8], "little")
            self.assertEqual(index["metadata"]["total_size"], total)
        self.assertEqual(index["weight_map"], weight_map)
        for name in files:
            self.assert_same_tensors(read(small / name), read(plain / name))

    def test_refusals(self):
        source = self.new_path(".safetensors")
        write(source, sample())
        data = source.read_bytes()
        for damaged, pattern in ((data[:5], "too few"), (data[:100], "truncated"),
                                 (data[:-1], "down_proj|layernorm"),
                                 (b"\xff" * 8 + data[8:], "truncated")):
            source.write_bytes(damaged)
            output = self.new_path(".safetensors")
            self.assert_refused(["compress", source, "-o", output, "--nbits", 4], output,
                                source.name, pattern)


if __name__ == "__main__":
    unittest.main()
