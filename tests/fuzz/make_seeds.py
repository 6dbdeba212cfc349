"""Makes the small packages in seeds/ from which the fuzzer starts.

Needs coremltools and scikit-learn. Usage: make_seeds.py [FOLDER]
"""

import json
import logging
import shutil
import sys
import tempfile
from pathlib import Path

logging.disable(logging.WARNING)

import coremltools as ct
import coremltools.optimize.coreml as cto
import numpy as np
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import types

HALF, SINGLE = np.float16, np.float32
IOS16, IOS18, IOS26 = ct.target.iOS16, ct.target.iOS18, ct.target.iOS26
LARGEST = 30_000  # bytes that one seed may take


def normal(*shape, dtype=HALF, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def convert(shape, body, target, dtype=HALF):
    """A network with one input `x`; body(x) returns its output."""
    kind = types.fp16 if dtype is HALF else types.fp32

    @mb.program(input_specs=[mb.TensorSpec(shape, kind)], opset_version=target)
    def network(x):
        return body(x)

    precision = ct.precision.FLOAT16 if dtype is HALF else ct.precision.FLOAT32
    return ct.convert(
        network, convert_to="mlprogram", minimum_deployment_target=target,
        compute_precision=precision, skip_model_load=True,
    )


def conv_and_linear(target, dtype=HALF):
    """A convolution and a linear layer, both with biases."""
    def body(x):
        x = mb.conv(x=x, weight=normal(8, 4, 3, 3, dtype=dtype), bias=normal(8, dtype=dtype))
        x = mb.reshape(x=mb.relu(x=x), shape=[1, 32])
        return mb.linear(x=x, weight=normal(24, 32, dtype=dtype, seed=1),
                         bias=normal(24, dtype=dtype))

    return convert((1, 4, 4, 4), body, target, dtype)


def linear(target):
    return convert((1, 32), lambda x: mb.linear(x=x, weight=normal(16, 32)), target)


def many_operators():
    """Weights whose output channels lie on different axes, one of them shared."""
    def body(x):
        x = mb.conv_transpose(x=x, weight=normal(4, 6, 2, 2))
        x = mb.reshape(x=x, shape=[1, 6, -1])
        shared = mb.const(val=normal(6, 6, seed=2), name="shared")
        x = mb.matmul(x=shared, y=x, transpose_x=True)
        x = mb.matmul(x=shared, y=x)
        return mb.mul(x=x, y=normal(1, 6, 1, seed=3))

    return convert((1, 4, 3, 3), body, IOS18)


def branches():
    """A cond whose branches hold a weight each."""
    def body(x):
        positive = mb.greater(x=mb.reduce_mean(x=x, axes=[0, 1], keep_dims=False), y=HALF(0))
        return mb.cond(
            pred=positive,
            _true_fn=lambda: mb.linear(x=x, weight=normal(8, 16)),
            _false_fn=lambda: mb.linear(x=x, weight=normal(8, 16, seed=1)),
        )

    return convert((1, 16), body, IOS16)


def immediate():
    """Weights too small for the weight file."""
    def body(x):
        x = mb.linear(x=x, weight=normal(3, 3, dtype=SINGLE))
        return mb.add(x=x, y=normal(1, 3, dtype=SINGLE))

    return convert((1, 3), body, IOS16, SINGLE)


def palettized(model, granularity="per_tensor", **options):
    config = cto.OpPalettizerConfig(granularity=granularity, weight_threshold=0, **options)
    return cto.palettize_weights(model, cto.OptimizationConfig(global_config=config))


def quantized(model, **options):
    config = cto.OpLinearQuantizerConfig(weight_threshold=0, **options)
    return cto.linear_quantize_weights(model, cto.OptimizationConfig(global_config=config))


def sparse(model):
    config = cto.OpMagnitudePrunerConfig(target_sparsity=0.5, weight_threshold=0)
    return cto.prune_weights(model, cto.OptimizationConfig(global_config=config))


def sparse_and_palettized(target):
    model = sparse(linear(target))
    config = cto.OpPalettizerConfig(mode="kmeans", nbits=2, weight_threshold=0)
    return cto.palettize_weights(
        model, cto.OptimizationConfig(global_config=config), joint_compression=True)


def quantized_tables():
    """Palettized, with look-up tables that are quantized themselves."""
    model = palettized(linear(IOS18), mode="kmeans", nbits=4)
    config = cto.OpLinearQuantizerConfig(
        mode="linear_symmetric", granularity="per_tensor", weight_threshold=0)
    return cto.linear_quantize_weights(
        model, cto.OptimizationConfig(global_config=config), joint_compression=True)


def two_functions(folder):
    """One package with two functions that share a weight; returns its path."""
    description = ct.utils.MultiFunctionDescriptor()
    for name in ("first", "second"):
        path = str(folder / f"{name}.mlpackage")
        linear(IOS18).save(path)
        description.add_function(path, src_function_name="main", target_function_name=name)
    description.default_function_name = "first"
    path = str(folder / "both.mlpackage")
    ct.utils.save_multifunction(description, path)
    return path


def pipeline():
    first = convert((1, 16), lambda x: mb.linear(x=x, weight=normal(16, 16), name="y"), IOS16)
    name = first.get_spec().description.output[0].name

    @mb.program(input_specs=[mb.TensorSpec((1, 16), types.fp16)], opset_version=IOS16)
    def network(x):
        return mb.linear(x=x, weight=normal(8, 16, seed=1), name="z")

    second = ct.convert(network, convert_to="mlprogram", minimum_deployment_target=IOS16,
                        skip_model_load=True)
    specification = second.get_spec()
    ct.utils.rename_feature(specification, "x", name)
    second = ct.models.MLModel(specification, weights_dir=second.weights_dir, skip_model_load=True)
    return ct.utils.make_pipeline(first, second)


SEEDS = {
    "dense-ios16": lambda _: conv_and_linear(IOS16),
    "dense-ios18": lambda _: conv_and_linear(IOS18),
    "float32-ios16": lambda _: conv_and_linear(IOS16, SINGLE),
    "operators-ios18": lambda _: many_operators(),
    "branches-ios16": lambda _: branches(),
    "immediate-ios16": lambda _: immediate(),
    "kmeans4-ios16": lambda _: palettized(conv_and_linear(IOS16), mode="kmeans", nbits=4),
    "uniform8-ios16": lambda _: palettized(linear(IOS16), mode="uniform", nbits=8),
    "grouped2-ios18": lambda _: palettized(
        conv_and_linear(IOS18), "per_grouped_channel", mode="kmeans", nbits=2, group_size=4),
    "grouped3-float32-ios18": lambda _: palettized(
        conv_and_linear(IOS18, SINGLE), "per_grouped_channel", mode="uniform", nbits=3,
        group_size=8),
    "vectors-ios18": lambda _: palettized(
        linear(IOS18), "per_grouped_channel", mode="kmeans", nbits=2, group_size=8, cluster_dim=2),
    "scaled-ios18": lambda _: palettized(
        linear(IOS18), mode="kmeans", nbits=4, enable_per_channel_scale=True),
    "scaled-ios26": lambda _: palettized(
        linear(IOS26), mode="kmeans", nbits=4, enable_per_channel_scale=True),
    "tables8-ios18": lambda _: quantized_tables(),
    "affine8-ios16": lambda _: quantized(conv_and_linear(IOS16), mode="linear"),
    "blocks4-ios18": lambda _: quantized(
        linear(IOS18), mode="linear_symmetric", dtype="int4", granularity="per_block",
        block_size=8),
    "sparse-ios16": lambda _: sparse(linear(IOS16)),
    "sparse-ios18": lambda _: sparse(linear(IOS18)),
    "sparse-tables-ios18": lambda _: sparse_and_palettized(IOS18),
    "functions-ios18": two_functions,
    "pipeline-ios16": lambda _: pipeline(),
}


def store(model, folder, to):
    """Keeps the model and its weights, under a manifest with fixed identifiers."""
    path = model
    if not isinstance(model, str):
        path = str(folder / "model.mlpackage")
        model.save(path)
    data = Path("Data/com.apple.CoreML")
    shutil.rmtree(to, ignore_errors=True)
    (to / data).mkdir(parents=True)
    shutil.copyfile(Path(path) / data / "model.mlmodel", to / data / "model.mlmodel")
    entries = {"MODEL": {"author": "com.apple.CoreML", "description": "CoreML Model Specification",
                         "name": "model.mlmodel", "path": "com.apple.CoreML/model.mlmodel"}}
    if (Path(path) / data / "weights").exists():
        shutil.copytree(Path(path) / data / "weights", to / data / "weights")
        entries["WEIGHTS"] = {"author": "com.apple.CoreML", "description": "CoreML Model Weights",
                              "name": "weights", "path": "com.apple.CoreML/weights"}
    manifest = {"fileFormatVersion": "1.0.0", "itemInfoEntries": entries,
                "rootModelIdentifier": "MODEL"}
    (to / "Manifest.json").write_text(json.dumps(manifest, indent=4) + "\n")
    return sum(file.stat().st_size for file in to.rglob("*") if file.is_file())


def main():
    seeds = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "seeds"
    total = 0
    for name, make in SEEDS.items():
        with tempfile.TemporaryDirectory() as folder:
            size = store(make(Path(folder)), Path(folder), seeds / f"{name}.mlpackage")
        print(f"{name}: {size} bytes")
        assert size <= LARGEST
        total += size
    print(f"total: {total} bytes")


if __name__ == "__main__":
    main()
