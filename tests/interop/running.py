"""What tests of running models share: onnxruntime's results, and how far ours are from them."""

import io
import tarfile
import unittest

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

import support

# Of the largest output. What is computed in float32 on both sides differs by the order of its sums;
# where one side has rounded weights or activations to float16, by that.
SINGLE, HALF = 1e-4, 2e-3

CIFAR = support.SHARED / "data" / "cifar10.tar"
CIFAR_MEAN, CIFAR_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def difference(result, expected):
    """The largest difference, relative to the largest number expected. Integers and booleans count
    as numbers."""
    if result.shape != expected.shape:
        raise AssertionError(f"shape {result.shape}, not {expected.shape}")
    result, expected = np.asarray(result, np.float64), np.asarray(expected, np.float64)
    if not np.isfinite(result).all() or not np.isfinite(expected).all():
        raise AssertionError("results that are not finite")
    return np.abs(result - expected).max(initial=0) / max(np.abs(expected).max(initial=0), 1e-30)


def assert_near(results, expected, tolerance):
    """Compares lists of arrays; the largest difference."""
    if len(results) != len(expected):
        raise AssertionError(f"{len(results)} outputs, not {len(expected)}")
    worst = max(difference(*pair) for pair in zip(results, expected))
    if not worst <= tolerance:
        raise AssertionError(f"differs by {worst:.2g} of the largest output")
    return worst


def by_onnxruntime(model, feed):
    """Outputs of a model (a path or a ModelProto), each operator as it stands in the file."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    source = model.SerializeToString() if isinstance(model, onnx.ModelProto) else str(model)
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return session.run(None, feed)


def with_half_weights(path):
    """An ONNX model with its weights rounded to float16, but still stored and computed in
    float32."""
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32:
            rounded = values.astype(np.float16).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(rounded, tensor.name))
    return model


def image_input(path):
    """Name and shape [C, H, W] of an ONNX model's input of images."""
    graph = onnx.load(path, load_external_data=False).graph
    held = {tensor.name for tensor in graph.initializer}
    (given,) = [given for given in graph.input if given.name not in held]
    return given.name, [size.dim_value for size in given.type.tensor_type.shape.dim[1:]]


def pictures(count, shape, seed=0):
    """Smooth images with some noise, about as normalised photographs are."""
    random = np.random.default_rng(seed)
    coarse = random.standard_normal([count, shape[0], 4, 4])
    blocks = np.kron(coarse, np.ones((-(-shape[1] // 4), -(-shape[2] // 4))))
    noise = random.standard_normal([count, *shape])
    return (0.8 * blocks[..., :shape[1], :shape[2]] + 0.2 * noise).astype(np.float32)


def cifar(count):
    """CIFAR-10 test images, spread over the classes as `--split test --limit COUNT` takes them:
    normalised [count, 3, 32, 32] and their labels."""
    from PIL import Image
    if not CIFAR.is_file():
        raise unittest.SkipTest(f"no {CIFAR}: set PALETTIZE_SHARED")
    with tarfile.open(CIFAR) as tar:
        members = sorted(
            (member for member in tar if member.isfile() and member.name.startswith("test/")
             and member.name.endswith(".jpg")), key=lambda member: member.name)
        classes = sorted({member.name.split("/")[1] for member in members})
        chosen = [members[i * len(members) // count] for i in range(count)]
        pixels = np.stack([
            np.asarray(Image.open(io.BytesIO(tar.extractfile(member).read())).convert("RGB"))
            for member in chosen])
    labels = np.array([classes.index(member.name.split("/")[1]) for member in chosen])
    values = (pixels.astype(np.float32) / 255 - np.float32(CIFAR_MEAN)) / np.float32(CIFAR_STD)
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2)), labels
