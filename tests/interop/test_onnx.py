"""Small ONNX models: every way to hold a weight, every operator with rules of its own."""

import json
import unittest

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import support
from onnx_case import (GROUPED, HELPERS, WIDTHS, OnnxTest, bfloat16, initializer,
                       matmul, network, operators_of, weights_of)
from onnx_networks import graphs_of

FLOAT = TensorProto.FLOAT


class WidthTest(OnnxTest):
    """One matrix at every width, type and opset."""

    def cases(self):
        for nbits in WIDTHS:
            yield ("--nbits", nbits)
            yield ("--nbits", nbits, *GROUPED, 8)
            yield ("--nbits", nbits, *GROUPED, 1)
            yield ("--nbits", nbits, *GROUPED, 16, "--channel-axis", 0)

    def test_float32(self):
        path = self.save(matmul())
        for case in self.cases():
            with self.subTest(case=case):
                self.round_trip(path, *case)

    def test_opsets(self):
        for opset in (11, 12, 13, 18, 21):
            path = self.save(matmul(opset=opset))
            for nbits in WIDTHS if support.FULL else (3, 4, 8):
                with self.subTest(opset=opset, nbits=nbits):
                    self.round_trip(path, "--nbits", nbits)
                    self.round_trip(path, "--nbits", nbits, *GROUPED, 16)

    def test_float16(self):
        for opset in (11, 17):
            path = self.save(matmul(opset=opset, dtype=np.float16))
            for nbits in WIDTHS:
                with self.subTest(opset=opset, nbits=nbits):
                    self.round_trip(path, "--nbits", nbits)
                    self.round_trip(path, "--nbits", nbits, *GROUPED, 16)

    def test_bfloat16(self):
        path = self.save(network(
            [helper.make_node("Cast", ["weight"], ["wide"], to=FLOAT),
             helper.make_node("MatMul", ["x", "wide"], ["y"])],
            [bfloat16("weight", 64, 48)], [("x", FLOAT, ["N", 64])], [("y", FLOAT, ["N", 48])]))
        for nbits in WIDTHS:
            with self.subTest(nbits=nbits):
                self.round_trip(path, "--nbits", nbits)
                self.round_trip(path, "--nbits", nbits, *GROUPED, 16)

    def test_odd_sizes(self):
        """The last group of packed indices is not full."""
        path = self.save(matmul(rows=61, columns=37))
        for nbits in WIDTHS:
            with self.subTest(nbits=nbits):
                self.round_trip(path, "--nbits", nbits)
                self.round_trip(path, "--nbits", nbits, *GROUPED, 1)

    def test_many_tables(self):
        """Where each table begins is counted, not listed, so that it costs little in the file."""
        for ir_version in (3, 8):
            for shape in ((64, 80), (96, 16, 2, 2)):
                path = self.save(network(
                    [helper.make_node("MatMul", ["x", "weight"], ["y"]) if len(shape) == 2 else
                     helper.make_node("Conv", ["x", "weight"], ["y"])],
                    [initializer("weight", *shape)],
                    [("x", FLOAT, ["N", 64] if len(shape) == 2 else ["N", 16, 4, 4]),
                     *([("weight", FLOAT, shape)] if ir_version == 3 else [])],
                    [("y", FLOAT, ["N", 80] if len(shape) == 2 else ["N", 96, 3, 3])],
                    ir_version=ir_version))
                for nbits in WIDTHS:
                    with self.subTest(ir_version=ir_version, shape=shape, nbits=nbits):
                        output, _ = self.compress(path, "--nbits", nbits, *GROUPED, 1)
                        self.check_file(output)
                        plain = self.decompress(output)
                        self.assert_same_outputs(output, plain)
                        self.assertNotIn("Range", operators_of(plain))
                        self.assertIn("Range", operators_of(output))

    def test_vectors(self):
        path = self.save(matmul())
        for case in (("--nbits", 4, "--cluster-dim", 4),
                     ("--nbits", 2, "--cluster-dim", 2, *GROUPED, 16),
                     ("--nbits", 3, "--cluster-dim", 2, *GROUPED, 16, "--channel-axis", 0),
                     ("--nbits", 8, "--cluster-dim", 2, "--channel-axis", 0)):
            with self.subTest(case=case):
                output, _ = self.compress(path, *case)
                self.check_file(output)
                self.assert_same_outputs(output, self.decompress(output))

    def test_integer_tables_and_scales(self):
        """What runs is what decompress gives."""
        for dtype in (np.float32, np.float16):
            path = self.save(matmul(dtype=dtype))
            for case in (("--nbits", 4, "--lut-dtype", "int8"),
                         ("--nbits", 3, "--lut-dtype", "uint8", *GROUPED, 16),
                         ("--nbits", 4, "--lut-dtype", "int8", "--cluster-dim", 2),
                         ("--nbits", 4, "--enable-per-channel-scale", "true"),
                         ("--nbits", 2, "--enable-per-channel-scale", "true", "--lut-dtype",
                          "uint8", *GROUPED, 16),
                         ("--mode", "custom", "--lut", "[-0.1, 0, 0.1, 0.3]")):
                with self.subTest(dtype=dtype.__name__, case=case):
                    output, report = self.compress(path, *case)
                    self.assertIn("weight", self.status_of(report, "compressed"))
                    self.check_file(output)
                    self.assert_same_outputs(output, self.decompress(output))

    def test_old_opset_is_refused(self):
        path, output = self.save(matmul(opset=10)), self.new_path()
        self.assert_refused(["compress", path, "-o", output, "--nbits", 4], output,
                            "nbits 4 needs opset 11", "has 10")


class OperatorTest(OnnxTest):
    """Consumers, and the axes of their output channels."""

    def axis_of(self, path, name="weight"):
        process = self.succeed("inspect", path, "--json")
        weights = {weight["name"]: weight for weight in json.loads(process.stdout)["weights"]}
        return weights[name]["channel_axis"]

    def gemm(self, transposed):
        shape = (48, 64) if transposed else (64, 48)
        return network(
            [helper.make_node("Gemm", ["x", "weight", "bias"], ["y"], transB=int(transposed))],
            [initializer("weight", *shape), initializer("bias", 48)],
            [("x", FLOAT, ["N", 64])], [("y", FLOAT, ["N", 48])])

    def test_gemm(self):
        for transposed, axis in ((True, 0), (False, 1)):
            path = self.save(self.gemm(transposed))
            self.assertEqual(self.axis_of(path), axis)
            self.round_trip(path, "--nbits", 2, *GROUPED, 8)

    def test_matmul(self):
        self.assertEqual(self.axis_of(self.save(matmul())), 1)
        left = self.save(network(
            [helper.make_node("MatMul", ["weight", "x"], ["y"])], [initializer("weight", 48, 64)],
            [("x", FLOAT, [64, "N"])], [("y", FLOAT, [48, "N"])]))
        self.assertEqual(self.axis_of(left), 0)
        self.round_trip(left, "--nbits", 4, *GROUPED, 8)

    def test_convolutions(self):
        for operator, shape, axis in (("Conv", (16, 16, 3, 3), 0),
                                      ("ConvTranspose", (16, 16, 3, 3), 1)):
            path = self.save(network(
                [helper.make_node(operator, ["x", "weight"], ["y"])],
                [initializer("weight", *shape)], [("x", FLOAT, ["N", 16, 8, 8])],
                [("y", FLOAT, ["N", 16, "H", "W"])]))
            self.assertEqual(self.axis_of(path), axis)
            self.round_trip(path, "--nbits", 3)
            self.round_trip(path, "--nbits", 3, *GROUPED, 4)

    def test_gather(self):
        path = self.save(network(
            [helper.make_node("Gather", ["weight", "i"], ["y"])], [initializer("weight", 64, 48)],
            [("i", TensorProto.INT64, ["N"])], [("y", FLOAT, ["N", 48])]))
        self.assertEqual(self.axis_of(path), 0)
        self.round_trip(path, "--nbits", 4)

    def test_recurrent(self):
        for operator, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
            path = self.save(network(
                [helper.make_node(operator, ["x", "weight", "again"], ["y"], hidden_size=32,
                                  direction="bidirectional")],
                [initializer("weight", 2, gates * 32, 40), initializer("again", 2, gates * 32, 32)],
                [("x", FLOAT, [5, "N", 40])], [("y", FLOAT, [5, 2, "N", 32])]))
            self.assertEqual(self.axis_of(path), 1)
            self.round_trip(path, "--nbits", 4, "--weight-threshold", 1000, compressed=2)
            self.round_trip(path, "--nbits", 2, "--weight-threshold", 1000, *GROUPED, 8,
                            compressed=2)

    def test_conflicting_axes(self):
        path = self.save(network(
            [helper.make_node("MatMul", ["x", "weight"], ["h"]),
             helper.make_node("Gemm", ["h", "weight"], ["y"], transB=1)],
            [initializer("weight", 64, 64)], [("x", FLOAT, ["N", 64])],
            [("y", FLOAT, ["N", 64])]))
        self.assertEqual(self.axis_of(path), -1)
        self.round_trip(path, "--nbits", 4)
        _, report = self.compress(path, "--nbits", 4, *GROUPED, 8)
        self.assertIn("different axes", self.status_of(report, "skipped")["weight"]["reason"])


class PlaceTest(OnnxTest):
    """Where a weight can be."""

    def test_constant_node(self):
        tensor = initializer("", 64, 48)
        path = self.save(network(
            [helper.make_node("Constant", [], ["weight"], value=tensor),
             helper.make_node("MatMul", ["x", "weight"], ["y"])], [],
            [("x", FLOAT, ["N", 64])], [("y", FLOAT, ["N", 48])]))
        for nbits in WIDTHS:
            self.round_trip(path, "--nbits", nbits)

    def test_typed_storage(self):
        values = numpy_helper.to_array(initializer("weight", 64, 48))
        model = matmul()
        model.graph.initializer[0].CopyFrom(
            helper.make_tensor("weight", FLOAT, values.shape, values.flatten()))
        self.round_trip(self.save(model), "--nbits", 4)
        half = matmul(dtype=np.float16)
        half.graph.initializer[0].CopyFrom(helper.make_tensor(
            "weight", TensorProto.FLOAT16, values.shape, values.astype(np.float16).flatten()))
        _, report = self.compress(self.save(half), "--nbits", 4)
        self.assertIn("stored in a form", self.status_of(report, "skipped")["weight"]["reason"])

    def test_subgraph(self):
        def branch(name, inner, product):
            return helper.make_graph(
                [helper.make_node("MatMul", ["x", inner], [product]),
                 helper.make_node("MatMul", [product, "shared"], [name])], name, [],
                [helper.make_tensor_value_info(name, FLOAT, ["N", 48])],
                [initializer(inner, 64, 64, seed=len(name))])

        path = self.save(network(
            [helper.make_node("If", ["c"], ["y"], then_branch=branch("first", "inner", "p"),
                              else_branch=branch("second", "other", "q"))],
            [initializer("shared", 64, 48)],
            [("c", TensorProto.BOOL, []), ("x", FLOAT, ["N", 64])], [("y", FLOAT, ["N", 48])]))
        for nbits in WIDTHS:
            self.round_trip(path, "--nbits", nbits, compressed=3)
        output, _ = self.round_trip(path, "--nbits", 3, *GROUPED, 8, compressed=3)
        self.assert_folded(output)

    def assert_folded(self, path):
        folded = self.new_path()
        self.run_model(path, folded)
        for graph in graphs_of(onnx.load(str(folded)).graph):
            for node in graph.node:
                self.assertNotIn(node.op_type, HELPERS)

    def test_shared(self):
        path = self.save(network(
            [helper.make_node("MatMul", ["x", "weight"], ["h"]),
             helper.make_node("MatMul", ["h", "weight"], ["y"])],
            [initializer("weight", 64, 64)], [("x", FLOAT, ["N", 64])],
            [("y", FLOAT, ["N", 64])]))
        self.round_trip(path, "--nbits", 4)

    def test_inputs_and_outputs(self):
        model = matmul()
        model.graph.input.append(helper.make_tensor_value_info("weight", FLOAT, [64, 48]))
        path = self.save(model)
        _, report = self.compress(path, "--nbits", 4)
        self.assertIn("graph input", self.status_of(report, "skipped")["weight"]["reason"])
        model.ir_version = 3
        path = self.save(model)
        for nbits in (3, 4, 8):
            output, _ = self.compress(path, "--nbits", nbits)
            plain = self.decompress(output)
            for file in (output, plain):
                self.check_file(file)
                names = [value.name for value in onnx.load(str(file)).graph.input]
                self.assertEqual(names, ["x"])
            self.assert_same_outputs(output, plain)
        model = matmul()
        model.graph.output.append(helper.make_tensor_value_info("weight", FLOAT, [64, 48]))
        _, report = self.compress(self.save(model), "--nbits", 4)
        self.assertIn("an output", self.status_of(report, "skipped")["weight"]["reason"])

    def test_everything_else_is_kept(self):
        model = matmul(ir_version=10)
        model.doc_string, model.producer_version = "about", "7"
        entry = model.metadata_props.add()
        entry.key, entry.value = "key", "value"
        model.graph.doc_string = "graph"
        model.graph.initializer[0].doc_string = "the weight"
        model.graph.value_info.append(helper.make_tensor_value_info("weight", FLOAT, [64, 48]))
        model.graph.node.append(helper.make_node("Twice", ["x"], ["z"], domain="local",
                                                 overload="of two"))
        model.graph.output.append(helper.make_tensor_value_info("z", FLOAT, ["N", 64]))
        model.opset_import.append(helper.make_opsetid("local", 1))
        model.functions.append(helper.make_function(
            "local", "Twice", ["a"], ["b"],
            [helper.make_node("Constant", [], ["w"], value=initializer("w", 64, 64)),
             helper.make_node("MatMul", ["a", "w"], ["b"])], [helper.make_opsetid("", 17)],
            overload="of two"))
        path = self.save(model)
        output, _ = self.round_trip(path, "--nbits", 4)
        plain = onnx.load(str(self.decompress(output)))
        self.assertEqual(plain.graph.initializer[0].doc_string, "the weight")
        original = onnx.load(str(path))
        plain.graph.initializer[0].CopyFrom(original.graph.initializer[0])
        self.assertEqual(plain, original)

    def test_names_of_ours_in_the_model(self):
        model = matmul()
        model.graph.initializer[0].name = "pal.2"
        model.graph.node[0].input[1] = "pal.2"
        self.round_trip(self.save(model), "--nbits", 4)

    def test_alien_use_of_our_operators(self):
        """Another operator takes a table of a palettized weight: it keeps it."""
        output, _ = self.compress(self.save(matmul()), "--nbits", 4)
        model = onnx.load(str(output))
        table = next(tensor for tensor in model.graph.initializer if tensor.data_type == FLOAT)
        model.graph.node.append(helper.make_node("Identity", [table.name], ["z"]))
        model.graph.output.append(helper.make_tensor_value_info("z", FLOAT, [16]))
        path = self.save(model)
        plain = self.decompress(path)
        self.check_file(plain)
        self.assert_same_outputs(plain, path)
        self.assertIn(table.name, weights_of(plain))

    def test_changed_operators_are_not_a_palette(self):
        """Whatever is not exactly our recipe is left as it is."""
        output, _ = self.compress(self.save(matmul()), "--nbits", 4)
        model = onnx.load(str(output))
        powers = next(tensor for tensor in model.graph.initializer
                      if tensor.data_type == TensorProto.INT32 and list(tensor.dims) == [2])
        powers.CopyFrom(numpy_helper.from_array(np.array([1, 8], np.int32), powers.name))
        path = self.save(model)
        self.assert_same_outputs(self.decompress(path), path)
        self.assertEqual(weights_of(self.decompress(path)), weights_of(path))


class ExternalDataTest(OnnxTest):
    def model(self):
        return network(
            [helper.make_node("MatMul", ["x", "weight"], ["h"]),
             helper.make_node("MatMul", ["h", "other"], ["h2"]),
             helper.make_node("Add", ["h2", "bias"], ["y"])],
            [initializer("weight", 64, 64), initializer("other", 64, 48), initializer("bias", 48)],
            [("x", FLOAT, ["N", 64])], [("y", FLOAT, ["N", 48])])

    def save_external(self, **options):
        return self.save(self.model(), save_as_external_data=True, size_threshold=0, **options)

    def data_files(self, path):
        return sorted(file for file in path.parent.iterdir()
                      if file.name.startswith(path.name) and file != path)

    def test_one_file_and_many(self):
        for options in ({"location": "all.bin"}, {"all_tensors_to_one_file": False}):
            path = self.save_external(**options)
            for case in (("--nbits", 3), ("--nbits", 4), ("--nbits", 8, *GROUPED, 16)):
                output, report = self.round_trip(path, *case, compressed=2)
                files = self.data_files(output)
                self.assertEqual(len(files), 1)
                self.assertEqual(report["bytes_after"],
                                 sum(file.stat().st_size for file in (output, *files)))

    def test_same_bytes(self):
        path = self.save_external(location="all.bin")
        output = self.new_path()
        seen = []
        for _ in range(2):
            self.succeed("compress", path, "-o", output, "--nbits", 4, "--quiet")
            seen.append([(file.name, file.read_bytes())
                         for file in (output, *self.data_files(output))])
        self.assertEqual(*seen)

    def test_replaced(self):
        """Over another model: its data file goes, the new one is complete."""
        path = self.save_external(location="all.bin")
        output = self.new_path()
        for nbits in (4, 2):
            self.succeed("compress", path, "-o", output, "--nbits", nbits, "--quiet")
            self.assertEqual(len(self.data_files(output)), 1)
            self.check_file(output)
        self.succeed("decompress", output, "-o", output, "--quiet")
        self.assertEqual(len(self.data_files(output)), 1)
        self.run_model(output)

    def test_shared_place(self):
        """Two tensors at one place of the file stay one."""
        path = self.save(network(
            [helper.make_node("MatMul", ["x", "weight"], ["h"]),
             helper.make_node("MatMul", ["h", "twin"], ["y"])],
            [initializer("weight", 64, 64), initializer("twin", 64, 64)],
            [("x", FLOAT, ["N", 64])], [("y", FLOAT, ["N", 64])]),
            save_as_external_data=True, size_threshold=0, location="twins.bin")
        model = onnx.load(str(path), load_external_data=False)
        model.graph.initializer[1].external_data[1].value = "0"
        path = self.folder / "twins.onnx"
        path.write_bytes(model.SerializeToString())
        output, _ = self.round_trip(path, "--nbits", 8, compressed=2)
        self.assertLess(sum(file.stat().st_size for file in self.data_files(output)), 6000)

    def test_bad_references(self):
        path = self.save_external(location="all.bin")
        for key, value, pattern in (("location", "../all.bin", "outside"),
                                    ("location", "/etc/passwd", "outside"),
                                    ("location", "none.bin", "none.bin"),
                                    ("offset", "99999999", "should have"),
                                    ("length", "-5", "no readable place"),
                                    ("length", "4", "not as long")):
            with self.subTest(key=key, value=value):
                model = onnx.load(str(path), load_external_data=False)
                for entry in model.graph.initializer[0].external_data:
                    if entry.key == key:
                        entry.value = value
                bad = self.new_path()
                bad.write_bytes(model.SerializeToString())
                output = self.new_path()
                self.assert_refused(["compress", bad, "-o", output, "--nbits", 4], output, pattern)


if __name__ == "__main__":
    unittest.main()
