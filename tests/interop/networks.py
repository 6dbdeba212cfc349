"""Small networks made with coremltools' builder, each for one situation."""

from pathlib import Path

import support  # noqa: F401  before coremltools, which it quiets
import coremltools as ct
import numpy as np
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import types

import program
import reference

HALF, SINGLE = np.float16, np.float32
_BUILTIN = {HALF: types.fp16, SINGLE: types.fp32}


def normal(*shape, dtype=HALF, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def lattice(count, *shape, dtype=HALF, seed=0):
    """Values drawn from `count` distinct ones, each of which occurs."""
    rng = np.random.default_rng(seed)
    levels = np.unique(rng.standard_normal(4 * count).astype(dtype))[:count]
    size = int(np.prod(shape))
    picks = np.concatenate([np.arange(count), rng.integers(0, count, size - count)])
    return levels[rng.permutation(picks)].reshape(shape)


def build(path, shape, body, target=ct.target.iOS18, dtype=HALF, without_pass=None):
    """Saves a network with one input `x` of the given shape; body(x) returns its output."""
    specification = mb.TensorSpec(shape, _BUILTIN[dtype])

    @mb.program(input_specs=[specification], opset_version=target)
    def network(x):
        return body(x)

    pipeline = ct.PassPipeline()
    if without_pass:
        pipeline.remove_passes({without_pass})
    mlmodel = ct.convert(
        network, convert_to="mlprogram", minimum_deployment_target=target,
        compute_precision=ct.precision.FLOAT16 if dtype is HALF else ct.precision.FLOAT32,
        pass_pipeline=pipeline, skip_model_load=True,
    )
    return reference.save(mlmodel, path)


def linear(path, weight, name="fc", **options):
    """x [1, in] -> linear with the given weight [out, in]."""
    return build(
        path, (1, weight.shape[1]),
        lambda x: mb.linear(x=x, weight=mb.const(val=weight, name=f"{name}_weight")),
        **options, dtype=weight.dtype.type,
    )


def conv(path, weight, **options):
    """x [1, in, 8, 8] -> convolution with the given weight [out, in, h, w]."""
    return build(
        path, (1, weight.shape[1], 8, 8),
        lambda x: mb.conv(x=x, weight=mb.const(val=weight, name="conv_weight")),
        **options, dtype=weight.dtype.type,
    )


def conv_transpose(path, weight):
    """Weight [in, out, h, w]: the output channels are axis 1."""
    return build(
        path, (1, weight.shape[0], 8, 8),
        lambda x: mb.conv_transpose(x=x, weight=mb.const(val=weight, name="up_weight")),
    )


def matmul(path, weight, transpose):
    """The weight is y: [in, out], or [out, in] when transposed."""
    return build(
        path, (1, weight.shape[1 if transpose else 0]),
        lambda x: mb.matmul(
            x=x, y=mb.const(val=weight, name="y_weight"), transpose_x=False, transpose_y=transpose),
    )


def matmul_left(path, weight, transpose):
    """The weight is matmul's x: [out, in], or [in, out] when transposed."""
    return build(
        path, (weight.shape[0 if transpose else 1], 3),
        lambda x: mb.matmul(
            x=mb.const(val=weight, name="x_weight"), y=x, transpose_x=transpose, transpose_y=False),
    )


def embedding(path, table):
    """Looks rows up in a table, by integers made from the input."""
    def body(x):
        rows = mb.cast(x=x, dtype="uint16")  # signed ones would need operators around them
        return mb.gather(x=mb.const(val=table, name="table"), indices=rows, axis=0)

    return build(path, (5,), body)


def shared_by_two(path, weight):
    """One constant that feeds two linear operators, one after the other."""
    def body(x):
        both = mb.const(val=weight, name="both")
        hidden = mb.relu(x=mb.linear(x=x, weight=both, name="first"))
        return mb.linear(x=hidden, weight=both, name="second")

    return build(path, (1, weight.shape[1]), body)


def two_linears(path, first, second, **options):
    """x -> linear -> relu -> linear, each with a weight of its own."""
    def body(x):
        hidden = mb.relu(x=mb.linear(x=x, weight=mb.const(val=first, name="first_weight")))
        return mb.linear(x=hidden, weight=mb.const(val=second, name="second_weight"))

    return build(path, (1, first.shape[1]), body, **options)


def pair(path, dtype=HALF, **options):
    """Two linear operators, both with weights large enough to be compressed."""
    first, second = normal(64, 64, dtype=dtype), normal(48, 64, dtype=dtype, seed=1)
    return two_linears(path, first, second, dtype=dtype, **options)


def equal_twins(path, weight):
    """Two constants with the same values, stored twice."""
    return two_linears(path, weight, weight.copy(), without_pass="common::const_deduplication")


def elementwise(path, addend):
    """Adds a constant to the input: a weight of any rank, even 1."""
    return build(
        path, (2, *addend.shape), lambda x: mb.add(x=x, y=mb.const(val=addend, name="addend")))


def branches(path, first, second):
    """A cond whose two branches hold a weight each."""
    def body(x):
        positive = mb.greater(x=mb.reduce_mean(x=x, axes=[0, 1], keep_dims=False), y=HALF(0))
        return mb.cond(
            pred=positive,
            _true_fn=lambda: mb.linear(x=x, weight=mb.const(val=first, name="then_weight")),
            _false_fn=lambda: mb.linear(x=x, weight=mb.const(val=second, name="else_weight")),
        )

    return build(path, (1, first.shape[1]), body)


def loop(path, weight):
    """A while_loop around a linear operator whose weight lies inside the loop's body."""
    def keep_going(x):
        return mb.less(x=mb.reduce_mean(x=x, axes=[0, 1], keep_dims=False), y=HALF(10))

    def step(x):
        return mb.relu(x=mb.linear(x=x, weight=mb.const(val=weight, name="loop_weight")))

    return build(
        path, (1, weight.shape[1]),
        lambda x: mb.while_loop(_cond=keep_going, _body=step, loop_vars=(x,)),
    )


def multifunction(path, folder, shared, others):
    """A package with a function for each of `others`: linear(shared), then linear(other)."""
    description = ct.utils.MultiFunctionDescriptor()
    for name, other in others.items():
        source = two_linears(Path(folder) / f"source-{name}.mlpackage", shared, other)
        description.add_function(
            str(source), src_function_name="main", target_function_name=name)
    description.default_function_name = next(iter(others))
    ct.utils.save_multifunction(description, str(path))
    return path


# --- packages that coremltools would not write itself ---


def edit(package, change):
    """Rewrites the package's protobuf: change(spec) alters it in place."""
    spec = program.load_spec(package)
    change(spec)
    program.model_file(package).write_bytes(spec.SerializeToString())
    return package


def _constant(spec, name):
    for function in spec.mlProgram.functions.values():
        for op in function.block_specializations[function.opset].operations:
            if op.type == "const" and op.outputs[0].name == name:
                return op.attributes["val"]
    raise KeyError(name)


def make_immediate(package, name):
    """Moves a weight out of the weight file, into the protobuf."""
    values = program.Program(package)

    def change(spec):
        value = _constant(spec, name)
        array = values.array(value)
        if array.dtype == HALF:
            value.immediateValue.tensor.bytes.values = array.tobytes()
        else:
            value.immediateValue.tensor.floats.values.extend(array.ravel().tolist())

    return edit(package, change)


def share_blob(package, kept, dropped):
    """Points two constants at the same bytes of the weight file."""
    def change(spec):
        _constant(spec, dropped).blobFileValue.CopyFrom(_constant(spec, kept).blobFileValue)

    return edit(package, change)
