"""Small ML Programs, one for each operator of MIL and each of its parameters' variants, with what
they compute.

Expected values come from coremltools' own evaluation of constants where an operator has one
(expected=None), otherwise from a formula in NumPy, here or in mil_reference.py.
"""

from collections import namedtuple

import support  # noqa: F401  before coremltools, which it quiets
import coremltools as ct
import numpy as np
from coremltools.converters.mil.mil import Builder as mb
from coremltools.converters.mil.mil import types

import mil_reference as reference

IOS15, IOS16, IOS17, IOS18 = (ct.target.iOS15, ct.target.iOS16, ct.target.iOS17, ct.target.iOS18)

# build: from variables, one for each input, to a variable or several. expected: an array, several,
# a function of the inputs' arrays, or None.
Case = namedtuple("Case", "name build inputs expected opset")

CASES = []
TYPES = {np.dtype(np.float32): types.fp32, np.dtype(np.float16): types.fp16,
         np.dtype(np.int32): types.int32, np.dtype(bool): types.bool}
# What an input may be in a model; others are cast within it.
DECLARED = {np.dtype(np.float32), np.dtype(np.int32), np.dtype(np.float16)}


def case(name, build, *inputs, expected=None, opset=IOS16):
    CASES.append(Case(name, build, inputs, expected, opset))


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def positive(*shape):
    return np.abs(normal(*shape)) + np.float32(0.1)


def unit(*shape):
    return np.tanh(normal(*shape)) * np.float32(0.9)


def whole(low, high, *shape):
    return np.random.default_rng([high, *shape]).integers(low, high, shape).astype(np.int32)


def arrays(values):
    if isinstance(values, (tuple, list)):
        return [np.asarray(v) for v in values]
    return [np.asarray(values)]


def fold(case):
    """What coremltools computes for constant inputs; None where it cannot."""
    found = []

    @mb.program(input_specs=[], opset_version=case.opset)
    def program():
        # Copies: evaluating thresholded_relu changes its input.
        result = case.build(*[mb.const(val=x.copy()) for x in case.inputs])
        results = result if isinstance(result, (tuple, list)) else [result]
        found.extend(r.val for r in results)
        return result

    return None if any(v is None for v in found) else arrays(found)


def expected_of(case):
    if callable(case.expected):
        return arrays(case.expected(*case.inputs))
    return fold(case) if case.expected is None else arrays(case.expected)


def input_names(case):
    return [f"in_{i}" for i in range(len(case.inputs))]


def save(case, path):
    """Writes the case's package."""
    specs = [mb.TensorSpec(shape=x.shape,
                           dtype=TYPES[x.dtype] if x.dtype in DECLARED else types.fp32)
             for x in case.inputs]

    def body(variables):
        variables = [v if x.dtype in DECLARED else mb.cast(x=v, dtype="bool")
                     for v, x in zip(variables, case.inputs)]
        result = case.build(*variables)
        results = result if isinstance(result, (tuple, list)) else [result]
        # A Core ML model gives neither booleans nor small integers.
        return tuple(mb.cast(x=r, dtype="int32")
                     if r.dtype not in (types.fp32, types.fp16, types.int32)
                     else mb.identity(x=r) for r in results)

    # The builder names inputs after the function's parameters.
    names = ", ".join(input_names(case))
    function = eval(f"lambda {names}: body([{names}])", {"body": body})
    program = mb.program(input_specs=specs, opset_version=case.opset)(function)
    model = ct.convert(
        program, convert_to="mlprogram", minimum_deployment_target=case.opset,
        compute_precision=ct.precision.FLOAT32, skip_model_load=True,
        pass_pipeline=ct.PassPipeline.EMPTY)
    model.save(str(path))


# ---------------------------------------------------------------- element by element

X = normal(2, 3, 4)

for name in ("relu", "relu6", "sigmoid", "softplus", "softsign", "tanh", "atan", "cos", "sin",
             "exp", "floor", "ceil", "round", "sinh", "cosh", "erf", "tan", "sign", "abs",
             "square", "exp2"):
    case(name, lambda x, op=getattr(mb, name): op(x=x), X * np.float32(3))
case("silu", lambda x: mb.silu(x=x), X, expected=lambda x: x / (1 + np.exp(-x)))
for name in ("acos", "asin", "atanh"):
    case(name, lambda x, op=getattr(mb, name): op(x=x), unit(2, 3))
for name in ("sqrt", "log", "rsqrt", "inverse"):
    case(name, lambda x, op=getattr(mb, name): op(x=x), positive(2, 3))
for name in ("log", "rsqrt", "inverse"):
    case(f"{name} epsilon", lambda x, op=getattr(mb, name): op(x=x, epsilon=np.float32(0.5)),
         positive(2, 3))
for name in ("abs", "sign", "square"):
    case(f"{name} int", lambda x, op=getattr(mb, name): op(x=x), whole(-5, 5, 2, 3))
case("logical_not", lambda x: mb.logical_not(x=x), X > 0)
for name in ("elu", "leaky_relu", "thresholded_relu"):
    case(name, lambda x, op=getattr(mb, name): op(x=x, alpha=np.float32(0.3)), X)
case("thresholded_relu at alpha", lambda x: mb.thresholded_relu(x=x, alpha=np.float32(1)),
     np.array([0.5, 1, 2, -1], np.float32))
for name in ("clamped_relu", "linear_activation", "scaled_tanh", "sigmoid_hard"):
    case(name, lambda x, op=getattr(mb, name): op(x=x, alpha=np.float32(0.3), beta=np.float32(0.7)),
         X)
for mode in ("EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION"):
    case(f"gelu {mode}", lambda x, mode=mode: mb.gelu(x=x, mode=mode), X)
case("prelu", lambda x: mb.prelu(x=x, alpha=np.array([0.1, 0.2, 0.3], np.float32)),
     normal(2, 3, 4, 5))
case("softplus_parametric",
     lambda x: mb.softplus_parametric(x=x, alpha=np.array([1, 2, 3], np.float32),
                                      beta=np.array([0.5, 1, 2], np.float32)),
     normal(2, 3, 4, 5))
for axis in (-1, 1):
    case(f"softmax {axis}", lambda x, axis=axis: mb.softmax(x=x, axis=axis), X)
case("clip", lambda x: mb.clip(x=x, alpha=np.float32(-0.5), beta=np.float32(0.4)), X)
case("threshold", lambda x: mb.threshold(x=x, alpha=np.float32(0.2)), X)
case("threshold int", lambda x: mb.threshold(x=x, alpha=np.int32(2)), whole(-5, 5, 2, 3))
for dtype in ("int32", "bool"):
    case(f"cast {dtype}", lambda x, dtype=dtype: mb.cast(x=x, dtype=dtype), X * np.float32(3))
for dtype in ("int8", "uint8", "int16", "uint16"):
    case(f"cast {dtype}", lambda x, dtype=dtype: mb.cast(x=x, dtype=dtype),
         whole(0, 100, 2, 3), opset=IOS17)
case("cast fp16", lambda x: mb.cast(x=mb.cast(x=x, dtype="fp16"), dtype="fp32"), X,
     expected=lambda x: x)  # computed in float32, whatever the file says
case("cast to float", lambda x: mb.cast(x=x, dtype="fp32"), whole(-5, 5, 2, 3))

for name in ("add", "sub", "mul", "real_div", "maximum", "minimum", "floor_div", "mod", "equal",
             "not_equal", "less", "less_equal", "greater", "greater_equal"):
    case(name, lambda x, y, op=getattr(mb, name): op(x=x, y=y), X, positive(3, 1))
for name in ("add", "sub", "mul", "maximum", "minimum", "floor_div", "mod", "equal", "less"):
    case(f"{name} int", lambda x, y, op=getattr(mb, name): op(x=x, y=y),
         whole(-9, 9, 2, 3), whole(1, 5, 3))
case("pow", lambda x, y: mb.pow(x=x, y=y), positive(2, 3), normal(3))
for name in ("logical_and", "logical_or", "logical_xor"):
    case(name, lambda x, y, op=getattr(mb, name): op(x=x, y=y), X > 0, normal(2, 3, 4, seed=1) > 0)
case("select", lambda c, a, b: mb.select(cond=c, a=a, b=b), X > 0, X, normal(2, 3, 4, seed=1),
     expected=lambda c, a, b: np.where(c, a, b))

# ---------------------------------------------------------------- products

W = normal(5, 4)
case("linear", lambda x: mb.linear(x=x, weight=W, bias=normal(5)), X)
case("linear without bias", lambda x: mb.linear(x=x, weight=W), X)
for tx in (False, True):
    for ty in (False, True):
        case(f"matmul {tx} {ty}",
             lambda x, y, tx=tx, ty=ty: mb.matmul(x=x, y=y, transpose_x=tx, transpose_y=ty),
             normal(2, *((4, 3) if tx else (3, 4))), normal(*((5, 4) if ty else (4, 5))))
case("matmul batch", lambda x, y: mb.matmul(x=x, y=y), normal(2, 1, 3, 4), normal(3, 4, 5))
case("einsum rank 4", lambda x, y: mb.einsum(values=[x, y], equation="nchw,nwhu->nchu"),
     normal(2, 3, 4, 5), normal(2, 5, 4, 6),
     expected=lambda x, y: np.einsum("nchw,nwhu->nchu", x, y))
case("einsum broadcast", lambda x, y: mb.einsum(values=[x, y], equation="nchw,nwhu->nchu"),
     normal(2, 3, 1, 5), normal(1, 5, 4, 6),
     expected=lambda x, y: np.einsum("nchw,nwhu->nchu", np.repeat(x, 4, 2), np.repeat(y, 2, 0)))
case("einsum rank 3", lambda x, y: mb.einsum(values=[x, y], equation="chw,whr->chr"),
     normal(3, 4, 5), normal(5, 4, 6), expected=lambda x, y: np.einsum("chw,whr->chr", x, y))


def attention(query, key, value, mask=None):
    scores = query @ key.swapaxes(-1, -2) / np.sqrt(query.shape[-1])
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    return scores / scores.sum(-1, keepdims=True) @ value


QKV = normal(2, 3, 4, 8), normal(2, 3, 5, 8, seed=1), normal(2, 3, 5, 6, seed=2)
case("attention", lambda q, k, v: mb.scaled_dot_product_attention(query=q, key=k, value=v), *QKV,
     expected=attention, opset=IOS18)
case("attention with a mask",
     lambda q, k, v, m: mb.scaled_dot_product_attention(query=q, key=k, value=v, attn_mask=m),
     *QKV, normal(4, 5), expected=attention, opset=IOS18)
case("attention with a mask of booleans",
     lambda q, k, v, m: mb.scaled_dot_product_attention(query=q, key=k, value=v, attn_mask=m),
     *QKV, np.tri(4, 5, dtype=bool), expected=attention, opset=IOS18)

# ---------------------------------------------------------------- windows

IMAGE = normal(2, 4, 7, 6)


def window_case(name, op, formula, x, **parameters):
    case(name, lambda x: op(x=x, **parameters), x, expected=lambda x: formula(x, **parameters))


for name, x, parameters in (
    ("conv", IMAGE, dict(weight=normal(6, 4, 3, 3), bias=normal(6))),
    ("conv strides", IMAGE, dict(weight=normal(6, 4, 3, 2), strides=[2, 1])),
    ("conv same", IMAGE, dict(weight=normal(6, 4, 4, 3), strides=[2, 2], pad_type="same")),
    ("conv same_lower", IMAGE,
     dict(weight=normal(6, 4, 4, 3), strides=[2, 2], pad_type="same_lower")),
    ("conv custom", IMAGE,
     dict(weight=normal(6, 4, 3, 3), pad_type="custom", pad=[1, 2, 0, 1], dilations=[2, 1])),
    ("conv groups", IMAGE, dict(weight=normal(6, 2, 3, 3), groups=2)),
    ("conv depthwise", IMAGE, dict(weight=normal(8, 1, 3, 3), groups=4)),
    ("conv 1d", normal(2, 3, 9), dict(weight=normal(5, 3, 4), strides=[2])),
    ("conv 3d", normal(1, 2, 4, 5, 4), dict(weight=normal(3, 2, 2, 3, 2))),
):
    window_case(name, mb.conv, reference.conv, x, **parameters)
case("conv computed weight", lambda x, w: mb.conv(x=x, weight=w), IMAGE, normal(6, 4, 3, 3),
     expected=reference.conv)

for name, x, parameters in (
    ("conv_transpose", IMAGE, dict(weight=normal(4, 5, 3, 3), bias=normal(5))),
    ("conv_transpose strides", IMAGE, dict(weight=normal(4, 5, 3, 2), strides=[2, 3])),
    ("conv_transpose same", IMAGE,
     dict(weight=normal(4, 5, 4, 3), strides=[2, 2], pad_type="same")),
    ("conv_transpose custom", IMAGE,
     dict(weight=normal(4, 5, 3, 3), strides=[2, 2], pad_type="custom", pad=[1, 0, 1, 1])),
    ("conv_transpose groups", IMAGE,
     dict(weight=normal(4, 3, 3, 3), groups=2, dilations=[2, 1])),
    ("conv_transpose output shape", IMAGE,
     dict(weight=normal(4, 5, 3, 3), strides=[2, 2], pad_type="custom", pad=[1, 1, 1, 1],
          output_shape=[2, 5, 14, 12])),
    ("conv_transpose same output shape", IMAGE,
     dict(weight=normal(4, 5, 3, 3), strides=[2, 2], pad_type="same",
          output_shape=[2, 5, 13, 12])),
    ("conv_transpose 1d", normal(2, 3, 5), dict(weight=normal(3, 4, 3), strides=[2])),
):
    window_case(name, mb.conv_transpose, reference.conv_transpose, x, **parameters)

for kind, op in (("avg", mb.avg_pool), ("max", mb.max_pool), ("l2", mb.l2_pool)):
    variants = [
        ("valid", IMAGE, dict(kernel_sizes=[3, 2], pad_type="valid")),
        ("strides", IMAGE, dict(kernel_sizes=[3, 2], strides=[2, 2], pad_type="valid")),
        ("custom", IMAGE, dict(kernel_sizes=[3, 3], strides=[2, 2], pad_type="custom",
                               pad=[1, 1, 0, 1])),
        ("same", IMAGE, dict(kernel_sizes=[2, 3], strides=[2, 2], pad_type="same")),
        ("same_lower", IMAGE, dict(kernel_sizes=[2, 3], strides=[2, 2], pad_type="same_lower")),
        ("1d", normal(2, 3, 9), dict(kernel_sizes=[3], strides=[2], pad_type="valid")),
    ]
    if kind != "l2":
        variants.append(("ceil", IMAGE, dict(kernel_sizes=[2, 3], strides=[2, 2],
                                             pad_type="custom", pad=[0, 0, 1, 1], ceil_mode=True)))
        variants.append(("3d", normal(1, 2, 4, 5, 4), dict(kernel_sizes=[2, 2, 2],
                                                           pad_type="valid")))
    if kind == "avg":
        variants.append(("exclude padding", IMAGE,
                         dict(kernel_sizes=[3, 3], strides=[2, 2], pad_type="custom",
                              pad=[1, 1, 1, 1], exclude_padding_from_average=True)))
    for name, x, parameters in variants:
        window_case(f"{kind}_pool {name}", op,
                    lambda x, kind=kind, **rest: reference.pool(kind, x, **rest), x, **parameters)

# ---------------------------------------------------------------- normalisation


def batch_norm(x, mean, variance, gamma=1.0, beta=0.0, epsilon=1e-5):
    shape = [1, -1] + [1] * (x.ndim - 2)
    mean, variance, gamma, beta = (
        np.broadcast_to(v, x.shape[1:2]).reshape(shape) for v in (mean, variance, gamma, beta))
    return (x - mean) / np.sqrt(variance + epsilon) * gamma + beta


def moments(x):
    axes = tuple(range(2, x.ndim))
    return x.mean(axes, keepdims=True), x.var(axes, keepdims=True)


def instance_norm(x, gamma=None, beta=None, epsilon=1e-5):
    mean, variance = moments(x)
    shape = [1, -1] + [1] * (x.ndim - 2)
    y = (x - mean) / np.sqrt(variance + epsilon)
    return y if gamma is None else y * gamma.reshape(shape) + beta.reshape(shape)


def local_response_norm(x, size, alpha=1e-4, beta=0.75, k=1.0):
    y = np.zeros_like(x)
    channels = x.shape[1]
    for c in range(channels):
        low, high = max(0, c - (size - 1) // 2), min(channels, c + size // 2 + 1)
        y[:, c] = x[:, c] / (k + alpha / size * (x[:, low:high] ** 2).sum(1)) ** beta
    return y


C = (normal(4), positive(4), normal(4, seed=1), normal(4, seed=2))
case("batch_norm", lambda x: mb.batch_norm(x=x, mean=C[0], variance=C[1], gamma=C[2], beta=C[3]),
     IMAGE, expected=lambda x: batch_norm(x, *C))
case("batch_norm plain",
     lambda x: mb.batch_norm(x=x, mean=C[0], variance=C[1], epsilon=np.float32(0.1)),
     normal(2, 4, 5), expected=lambda x: batch_norm(x, C[0], C[1], epsilon=0.1))
case("instance_norm", lambda x: mb.instance_norm(x=x, gamma=C[2], beta=C[3]), IMAGE,
     expected=lambda x: instance_norm(x, C[2], C[3]))
case("instance_norm plain", lambda x: mb.instance_norm(x=x, epsilon=np.float32(0.1)), IMAGE,
     expected=lambda x: instance_norm(x, epsilon=0.1))
case("layer_norm", lambda x: mb.layer_norm(x=x, axes=[-1], gamma=normal(4), beta=normal(4, seed=1)),
     X)
case("layer_norm two axes",
     lambda x: mb.layer_norm(x=x, axes=[1, 2], gamma=normal(3, 4), beta=normal(3, 4, seed=1),
                             epsilon=np.float32(0.1)), X)
case("layer_norm inner axis",
     lambda x: mb.layer_norm(x=x, axes=[1], gamma=normal(3), beta=normal(3, seed=1)), X)
case("layer_norm all axes", lambda x: mb.layer_norm(x=x, axes=[0, 1, 2]), X)
case("l2_norm", lambda x: mb.l2_norm(x=x, epsilon=np.float32(1e-3)), X)
case("l2_norm batch", lambda x: mb.l2_norm(x=x), IMAGE)
case("local_response_norm", lambda x: mb.local_response_norm(x=x, size=3, alpha=np.float32(0.1)),
     IMAGE, expected=lambda x: local_response_norm(x, 3, alpha=0.1))
case("local_response_norm even",
     lambda x: mb.local_response_norm(x=x, size=4, beta=np.float32(0.5), k=np.float32(2)),
     normal(1, 8, 3, 3), expected=lambda x: local_response_norm(x, 4, beta=0.5, k=2))

# ---------------------------------------------------------------- reductions

for name in ("l1_norm", "l2_norm", "log_sum", "log_sum_exp", "max", "mean", "min", "prod", "sum",
             "sum_square"):
    op = getattr(mb, f"reduce_{name}")
    for axes, keep in (([1], False), ([0, -1], True), (None, False)):
        parameters = {"keep_dims": keep} if axes is None else {"axes": axes, "keep_dims": keep}
        case(f"reduce_{name} {axes} {keep}",
             lambda x, op=op, parameters=parameters: op(x=x, **parameters), positive(2, 3, 4))
case("reduce_sum int", lambda x: mb.reduce_sum(x=x, axes=[0]), whole(-5, 5, 3, 4))
for name in ("argmax", "argmin"):
    op = getattr(mb, f"reduce_{name}")
    for axis, keep in ((-1, False), (0, True)):
        case(f"reduce_{name} {axis}",
             lambda x, op=op, axis=axis, keep=keep: op(x=x, axis=axis, keep_dims=keep), X)
case("reduce_argmax uint16", lambda x: mb.reduce_argmax(x=x, output_dtype="uint16"), X,
     opset=IOS17, expected=lambda x: x.argmax(-1).astype(np.int32))

for exclusive in (False, True):
    for reverse in (False, True):
        def sums(x, exclusive=exclusive, reverse=reverse):
            x = np.flip(x, 1) if reverse else x
            y = np.cumsum(x, 1) - (x if exclusive else 0)
            return np.flip(y, 1) if reverse else y
        case(f"cumsum {exclusive} {reverse}",
             lambda x, e=exclusive, r=reverse: mb.cumsum(x=x, axis=1, exclusive=e, reverse=r),
             X, expected=sums)
case("topk", lambda x: mb.topk(x=x, k=2, axis=1), X)
case("topk ascending", lambda x: mb.topk(x=x, k=3, axis=-1, ascending=True), X)
case("topk values", lambda x: mb.topk(x=x, k=2, return_indices=False), X)
for ascending in (False, True):
    case(f"argsort {ascending}", lambda x, a=ascending: mb.argsort(x=x, axis=1, ascending=a), X)

# ---------------------------------------------------------------- images

for mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "DEFAULT", "OFFSET_CORNERS",
             "UNALIGN_CORNERS"):
    for size in ((5, 9), (14, 3), (1, 4)):
        case(f"resize_bilinear {mode} {size}",
             lambda x, m=mode, s=size: mb.resize_bilinear(
                 x=x, target_size_height=s[0], target_size_width=s[1], sampling_mode=m),
             IMAGE, expected=lambda x, m=mode, s=size: reference.resize(x, s, m))
    case(f"resize {mode}",
         lambda x, m=mode: mb.resize(x=x, shape=[9, 0], resized_dims=np.uint32(2),
                                     interpolation_mode="LINEAR", sampling_mode=m),
         IMAGE, opset=IOS17, expected=lambda x, m=mode: reference.resize(x, (9, 6), m))
for size in ((14, 12), (5, 9), (3, 2)):
    case(f"resize_nearest_neighbor {size}",
         lambda x, s=size: mb.resize_nearest_neighbor(
             x=x, target_size_height=s[0], target_size_width=s[1]),
         IMAGE, expected=lambda x, s=size: reference.resize_nearest(x, s))
    case(f"resize nearest {size}",
         lambda x, s=size: mb.resize(x=x, shape=[1, 1, *s], resized_dims=np.uint32(2),
                                     interpolation_mode="NEAREST_NEIGHBOR"),
         IMAGE, opset=IOS17, expected=lambda x, s=size: reference.resize_nearest(x, s))
case("resize to a computed shape",
     lambda x, y: mb.resize(x=x, shape=mb.shape(x=y), resized_dims=np.uint32(2)),
     IMAGE, normal(2, 9, 8), opset=IOS17,
     expected=lambda x, y: reference.resize(x, (9, 8), "DEFAULT"))
for factors in ((2, 3), (1.5, 2.5)):
    case(f"upsample_nearest_neighbor {factors}",
         lambda x, f=factors: mb.upsample_nearest_neighbor(
             x=x, scale_factor_height=f[0], scale_factor_width=f[1]),
         IMAGE, expected=lambda x, f=factors: reference.upsample_nearest(x, f))
    for align in (True, False):
        mode = "STRICT_ALIGN_CORNERS" if align else "UNALIGN_CORNERS"
        case(f"upsample_bilinear {factors} {align}",
             lambda x, f=factors, a=align: mb.upsample_bilinear(
                 x=x, scale_factor_height=f[0], scale_factor_width=f[1], align_corners=a),
             IMAGE, expected=lambda x, f=factors, m=mode: reference.resize(
                 x, (int(7 * f[0]), int(6 * f[1])), m))
# In float32, 5 * 1.4 is 7 and 10 * 2.3 is 23, though the factors are below their decimals.
for name, upsampled in (("upsample_nearest_neighbor",
                         lambda x: reference.upsample_nearest(x, (1.4, 2.3))),
                        ("upsample_bilinear",
                         lambda x: reference.resize(x, (7, 23), "STRICT_ALIGN_CORNERS"))):
    case(f"{name} to whole extents",
         lambda x, op=getattr(mb, name): op(x=x, scale_factor_height=1.4, scale_factor_width=2.3),
         normal(1, 2, 5, 10), expected=upsampled)
case("upsample_bilinear no half pixels",
     lambda x: mb.upsample_bilinear(x=x, scale_factor_height=2, scale_factor_width=2,
                                    align_corners=False, half_pixel_centers=False),
     IMAGE, expected=lambda x: reference.resize(x, (14, 12), "DEFAULT"))
case("crop", lambda x: mb.crop(x=x, crop_height=[1, 2], crop_width=[0, 3]), IMAGE,
     expected=lambda x: x[:, :, 1:-2, :-3])

BOXES = np.array([[1, 1, 4, 3], [0.5, 2, 6, 5], [2, 0, 2.5, 4], [3, 1, 8, 4]], np.float32)
OWNERS = np.array([0, 1, 1, 0], np.int32)
for mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "DEFAULT", "OFFSET_CORNERS"):
    for size in ((3, 2), (1, 5)):
        case(f"crop_resize {mode} {size}",
             lambda x, b, m=mode, s=size: mb.crop_resize(
                 x=x, boxes=b, box_indices=OWNERS, target_height=s[0], target_width=s[1],
                 sampling_mode=m, pad_value=np.float32(9)),
             IMAGE, BOXES, opset=IOS17,
             expected=lambda x, b, m=mode, s=size: reference.crop_resize(
                 x, b, OWNERS, *s, mode=m, pad_value=9.0))
for layout in ("CORNERS_WIDTH_FIRST", "CENTER_SIZE_HEIGHT_FIRST", "CENTER_SIZE_WIDTH_FIRST"):
    case(f"crop_resize {layout}",
         lambda x, b, layout=layout: mb.crop_resize(
             x=x, boxes=b, box_indices=OWNERS, target_height=3, target_width=3,
             box_coordinate_mode=layout, sampling_mode="ALIGN_CORNERS",
             spatial_scale=np.float32(0.5)),
         IMAGE, BOXES, opset=IOS17,
         expected=lambda x, b, layout=layout: reference.crop_resize(
             x, b, OWNERS, 3, 3, mode="ALIGN_CORNERS", layout=layout, scale=0.5))
# The one that Core ML's own tests have.
case("crop_resize normalized",
     lambda x: mb.crop_resize(
         x=x, boxes=np.array([[.1, .3, 1.3, 1], [.5, 1.8, 1, .3], [0, .4, .6, .7]], np.float32),
         box_indices=np.zeros(3, np.int32), target_height=2, target_width=2,
         normalized_coordinates=True, sampling_mode="ALIGN_CORNERS", pad_value=np.float32(10)),
     np.arange(1, 17, dtype=np.float32).reshape(1, 1, 4, 4), opset=IOS17,
     expected=np.array([3.1, 5.2, 10, 10, 10, 7.9, 10, 13.9, 2.2, 3.1, 9.4, 10.3],
                       np.float32).reshape(3, 1, 2, 2))
case("crop_resize all images",
     lambda x, b: mb.crop_resize(x=x, roi=b, target_height=3, target_width=2,
                                 sampling_mode="ALIGN_CORNERS"),
     IMAGE, BOXES[:3].reshape(3, 1, 4, 1, 1),
     expected=lambda x, b: np.stack(
         [reference.crop_resize(x, b.reshape(3, 4), [i] * 3, 3, 2, mode="ALIGN_CORNERS")
          for i in range(2)], 1))
case("crop_resize by index",
     lambda x, b: mb.crop_resize(x=x, roi=b, target_height=3, target_width=2,
                                 sampling_mode="ALIGN_CORNERS"),
     IMAGE[:1], np.concatenate([np.zeros((3, 1), np.float32), BOXES[:3]], 1).reshape(3, 1, 5, 1, 1),
     expected=lambda x, b: reference.crop_resize(x, BOXES[:3], [0] * 3, 3, 2,
                                                 mode="ALIGN_CORNERS")[:, None])

# ---------------------------------------------------------------- shapes

for shape in ([6, 4], [2, -1], [0, -1, 2], [1, 2, 3, 4]):
    case(f"reshape {shape}", lambda x, s=shape: mb.reshape(x=x, shape=s), X)
case("reshape zeros from the end", lambda x: mb.reshape(x=x, shape=[1, 0, -1, 0]), normal(2, 50),
     opset=IOS17)
case("reshape computed",
     lambda x, y: mb.reshape(x=x, shape=mb.shape(x=y)), X, normal(4, 6),
     expected=lambda x, y: x.reshape(4, 6))
case("reshape_like",
     lambda x, y, z: mb.reshape_like(x=x, ref_tensors=(y, z), begins=(0, 1), ends=(1, 0),
                                     end_masks=(False, True)),
     X, normal(2, 7), normal(9, 3, 4), expected=lambda x, y, z: x)
case("transpose", lambda x: mb.transpose(x=x, perm=[2, 0, 1]), X)
case("transpose negative", lambda x: mb.transpose(x=x, perm=[0, -1, 1]), X)
case("expand_dims", lambda x: mb.expand_dims(x=x, axes=[0, -1]), X)
case("squeeze", lambda x: mb.squeeze(x=x, axes=[0, -1]), normal(1, 3, 1))
case("squeeze all", lambda x: mb.squeeze(x=x), normal(1, 3, 1, 2))
case("squeeze more than ones", lambda x: mb.squeeze(x=x, axes=[0, 1]), normal(1, 3, 2),
     expected=lambda x: x[0])
for axis in (1, 2, -1):
    case(f"flatten2d {axis}", lambda x, a=axis: mb.flatten2d(x=x, axis=a), X,
         expected=lambda x, a=axis: x.reshape(int(np.prod(x.shape[:a])), -1))
case("shape", lambda x: mb.shape(x=x), X, expected=np.array([2, 3, 4], np.int32))
case("identity", lambda x: mb.identity(x=x), X, expected=lambda x: x)

# ---------------------------------------------------------------- slices

for name, parameters in (
    ("plain", dict(begin=[0, 1, 2], end=[2, 3, 4])),
    ("negative", dict(begin=[-1, 0, -3], end=[2, -1, -1])),
    ("stride", dict(begin=[0, 0, 0], end=[2, 3, 4], stride=[1, 2, 3])),
    ("backwards", dict(begin=[1, 2, -1], end=[0, 0, -4], stride=[-1, -1, -2])),
    ("masks", dict(begin=[1, 1, 1], end=[1, 1, 2], begin_mask=[True, False, True],
                   end_mask=[True, True, False])),
    ("masks backwards", dict(begin=[0, 0, 0], end=[0, 0, 0], stride=[-1, -2, 1],
                             begin_mask=[True] * 3, end_mask=[True] * 3)),
    ("squeeze", dict(begin=[0, -1, 1], end=[0, 0, 3], squeeze_mask=[True, True, False])),
):
    case(f"slice_by_index {name}",
         lambda x, parameters=parameters: mb.slice_by_index(x=x, **parameters), X)
case("slice_by_index computed",
     lambda x, y: mb.slice_by_index(
         x=x, begin=mb.sub(x=mb.shape(x=y), y=[3, 4, 5]), end=mb.shape(x=y), end_mask=[False, False, True],
         squeeze_mask=[True, False, False]),
     X, normal(2, 3, 3), expected=lambda x, y: x[-1, -1:3, -2:])
case("slice_by_size", lambda x: mb.slice_by_size(x=x, begin=[0, 1, -3], size=[2, -1, 3]), X)
case("slice_by_size from the end",
     lambda x: mb.slice_by_size(x=x, begin=[1, 0, 1], size=[1, 3, 2]), X)
case("reverse", lambda x: mb.reverse(x=x, axes=[0, -1]), X)
case("reverse all", lambda x: mb.reverse(x=x), X)


def reverse_sequence(x, lengths):
    y = x.copy()
    for i, n in enumerate(lengths):
        y[i, :n] = x[i, :n][::-1]
    return y


case("reverse_sequence",
     lambda x, n: mb.reverse_sequence(x=x, lengths=n, seq_axis=1, batch_axis=0),
     normal(3, 5, 2), np.array([5, 1, 3], np.int32), expected=reverse_sequence)

# ---------------------------------------------------------------- joining

PARTS = normal(2, 3), normal(2, 3, seed=1), normal(2, 3, seed=2)
case("concat", lambda *v: mb.concat(values=v, axis=-1), *PARTS,
     expected=lambda *v: np.concatenate(v, -1))
for axis in (0, 1):
    case(f"concat interleave {axis}",
         lambda *v, a=axis: mb.concat(values=v, axis=a, interleave=True), *PARTS,
         expected=lambda *v, a=axis: np.stack(v, a + 1).reshape(
             [3 * n if i == a else n for i, n in enumerate(v[0].shape)]))
for axis in (0, 1, -1):
    case(f"stack {axis}", lambda *v, a=axis: mb.stack(values=v, axis=a), *PARTS,
         expected=lambda *v, a=axis: np.stack(v, a))
case("split", lambda x: mb.split(x=x, num_splits=2, axis=2), X,
     expected=lambda x: np.split(x, 2, 2))
case("split sizes", lambda x: mb.split(x=x, split_sizes=[1, 2, 1], axis=-1), X,
     expected=lambda x: np.split(x, [1, 3], -1))
case("tile", lambda x: mb.tile(x=x, reps=[2, 1, 3]), X)
for mode in ("constant", "reflect", "replicate"):
    case(f"pad {mode}", lambda x, m=mode: mb.pad(x=x, pad=[1, 2, 0, 3], mode=m,
                                                 constant_val=np.float32(7)), IMAGE)
case("pad all", lambda x: mb.pad(x=x, pad=[1, 0, 0, 2, 1, 1]), X)

# ---------------------------------------------------------------- gather and scatter

INDICES = np.array([[2, 0], [1, 2]], np.int32)
for axis in (0, 1, -1):
    case(f"gather {axis}", lambda x, i, a=axis: mb.gather(x=x, indices=i, axis=a), normal(3, 3, 4),
         INDICES)
case("gather a number", lambda x: mb.gather(x=x, indices=np.int32(1), axis=1), X,
     expected=lambda x: x[:, 1])
case("gather negative", lambda x: mb.gather(x=x, indices=[-1, 0], axis=2), X)
case("gather batch", lambda x, i: mb.gather(x=x, indices=i, axis=1, batch_dims=1), X, INDICES)
case("gather batch inner axis", lambda x, i: mb.gather(x=x, indices=i, axis=2, batch_dims=1),
     normal(2, 3, 4, 5), INDICES,
     expected=lambda x, i: np.stack([np.take(x[k], i[k], 1) for k in range(2)]))
case("gather batch rows", lambda x, i: mb.gather(x=x, indices=i, axis=2, batch_dims=1),
     normal(2, 3, 4), whole(0, 4, 2, 2, 3),
     expected=lambda x, i: np.stack([np.take(x[k], i[k], 1) for k in range(2)]))
for axis in (0, 1):
    case(f"gather_along_axis {axis}",
         lambda x, i, a=axis: mb.gather_along_axis(x=x, indices=i, axis=a),
         normal(4, 4), whole(0, 4, 4, 4))
case("gather_nd", lambda x, i: mb.gather_nd(x=x, indices=i), X, whole(0, 2, 5, 2),
     expected=lambda x, i: x[i[:, 0], i[:, 1]])
case("gather_nd batch", lambda x, i: mb.gather_nd(x=x, indices=i, batch_dims=1), X,
     whole(0, 3, 2, 4, 1), expected=lambda x, i: np.stack([x[k][i[k][:, 0]] for k in range(2)]))
case("non_zero", lambda x: mb.non_zero(x=mb.shape(x=x)), normal(2, 3),
     expected=np.array([[0], [1]], np.int32))
for axis, stride in ((1, 1), (2, 2), (-1, 3)):
    case(f"sliding_windows {axis} {stride}",
         lambda x, a=axis, s=stride: mb.sliding_windows(x=x, axis=a, size=3, stride=s),
         normal(2, 5, 7),
         expected=lambda x, a=axis, s=stride: np.moveaxis(
             np.lib.stride_tricks.sliding_window_view(x, 3, a), -1, a % 3 + 1)[
                 (slice(None),) * (a % 3) + (slice(None, None, s),)])

for mode in ("update", "add", "sub", "mul", "div", "max", "min"):
    for axis in (0, 1):
        case(f"scatter {mode} {axis}",
             lambda d, u, m=mode, a=axis: mb.scatter(data=d, indices=[2, 0], updates=u, axis=a,
                                                     mode=m),
             normal(3, 3, 2), positive(*(2 if i == axis else 3 for i in range(2)), 2),
             expected=lambda d, u, m=mode, a=axis: reference.scatter(d, [2, 0], u, a, m))
    case(f"scatter_along_axis {mode}",
         lambda d, i, u, m=mode: mb.scatter_along_axis(data=d, indices=i, updates=u, axis=1, mode=m),
         normal(3, 4), np.array([[1, 0], [3, 2], [0, 2]], np.int32), positive(3, 2),
         expected=lambda d, i, u, m=mode: reference.scatter_along_axis(d, i, u, 1, m))
    case(f"scatter_nd {mode}",
         lambda d, i, u, m=mode: mb.scatter_nd(data=d, indices=i, updates=u, mode=m),
         normal(3, 4, 2), np.array([[0, 1], [2, 3]], np.int32), positive(2, 2),
         expected=lambda d, i, u, m=mode: reference.scatter_nd(d, i, u, m))


def slice_update(x, update):
    x = x.copy()
    x[0:2:1, 1, ::2] = update
    return x


case("slice_update",
     lambda x, u: mb.slice_update(x=x, update=u, begin=[0, 1, 0], end=[2, 0, 0],
                                  stride=[1, 1, 2], end_mask=[False, False, True],
                                  squeeze_mask=[False, True, False]),
     X, normal(2, 2), expected=slice_update, opset=IOS18)

# ---------------------------------------------------------------- filling

case("fill", lambda x: mb.fill(shape=mb.shape(x=x), value=np.float32(3)), X,
     expected=lambda x: np.full_like(x, 3))
case("fill default", lambda x: mb.add(x=x, y=mb.fill(shape=[2, 3, 4])), X, expected=lambda x: x)
case("fill_like", lambda x: mb.fill_like(ref_tensor=x, value=np.int32(5)), X,
     expected=np.full((2, 3, 4), 5, np.int32))
case("range_1d", lambda x: mb.range_1d(start=1, end=mb.reduce_sum(x=mb.shape(x=x), axes=[0]),
                                       step=2), X,
     expected=np.arange(1, 9, 2, dtype=np.int32))
for axis in (-1, 0, 1):
    case(f"one_hot {axis}",
         lambda i, a=axis: mb.one_hot(indices=i, one_hot_vector_size=4, axis=a,
                                      on_value=np.float32(2), off_value=np.float32(-1)),
         np.array([[0, 3], [2, 1]], np.int32),
         expected=lambda i, a=axis: np.moveaxis(np.where(np.eye(4)[i], 2, -1), -1, a))
for lower, upper in ((-1, 0), (0, -1), (1, 1), (0, 2), (-1, -1)):
    case(f"band_part {lower} {upper}",
         lambda x, a=lower, b=upper: mb.band_part(x=x, lower=a, upper=b), normal(2, 4, 5))

# ---------------------------------------------------------------- blocks


def depth_to_space(x, b):
    n, c, h, w = x.shape
    return x.reshape(n, b, b, c // b // b, h, w).transpose(0, 3, 4, 1, 5, 2).reshape(
        n, c // b // b, h * b, w * b)


def space_to_depth(x, b):
    n, c, h, w = x.shape
    return x.reshape(n, c, h // b, b, w // b, b).transpose(0, 3, 5, 1, 2, 4).reshape(
        n, c * b * b, h // b, w // b)


def pixel_shuffle(x, f):
    n, c, h, w = x.shape
    return x.reshape(n, c // f // f, f, f, h, w).transpose(0, 1, 4, 2, 5, 3).reshape(
        n, c // f // f, h * f, w * f)


def pixel_unshuffle(x, f):
    n, c, h, w = x.shape
    return x.reshape(n, c, h // f, f, w // f, f).transpose(0, 1, 3, 5, 2, 4).reshape(
        n, c * f * f, h // f, w // f)


def space_to_batch(x, b, pads):
    x = np.pad(x, [(0, 0), (0, 0), *pads])
    n, c, h, w = x.shape
    return x.reshape(n, c, h // b[0], b[0], w // b[1], b[1]).transpose(3, 5, 0, 1, 2, 4).reshape(
        -1, c, h // b[0], w // b[1])


def batch_to_space(x, b, crops):
    n, c, h, w = x.shape
    x = x.reshape(b[0], b[1], -1, c, h, w).transpose(2, 3, 4, 0, 5, 1).reshape(
        -1, c, h * b[0], w * b[1])
    (top, bottom), (left, right) = crops
    return x[:, :, top:x.shape[2] - bottom, left:x.shape[3] - right]


case("depth_to_space", lambda x: mb.depth_to_space(x=x, block_size=2), normal(2, 12, 3, 5),
     expected=lambda x: depth_to_space(x, 2))
case("space_to_depth", lambda x: mb.space_to_depth(x=x, block_size=2), normal(2, 3, 4, 6),
     expected=lambda x: space_to_depth(x, 2))
case("pixel_shuffle", lambda x: mb.pixel_shuffle(x=x, upscale_factor=2), normal(2, 12, 3, 5),
     expected=lambda x: pixel_shuffle(x, 2))
case("pixel_unshuffle", lambda x: mb.pixel_unshuffle(x=x, downscale_factor=np.uint32(2)),
     normal(2, 3, 4, 6), expected=lambda x: pixel_unshuffle(x, 2))
case("space_to_batch",
     lambda x: mb.space_to_batch(x=x, block_shape=[2, 3], paddings=[[1, 0], [0, 2]]),
     normal(2, 3, 5, 4), expected=lambda x: space_to_batch(x, (2, 3), [(1, 0), (0, 2)]))
case("batch_to_space",
     lambda x: mb.batch_to_space(x=x, block_shape=[2, 3], crops=[[1, 0], [0, 2]]),
     normal(12, 3, 3, 2), expected=lambda x: batch_to_space(x, (2, 3), [(1, 0), (0, 2)]))

# ---------------------------------------------------------------- recurrent layers

STEPS, BATCH, IN, HIDDEN = 5, 2, 3, 4
SEQUENCE = normal(STEPS, BATCH, IN)
H0, C0 = normal(BATCH, HIDDEN), normal(BATCH, HIDDEN, seed=1)


def lstm_weights(seed):
    return dict(w=normal(4 * HIDDEN, IN, seed=seed), r=normal(4 * HIDDEN, HIDDEN, seed=seed),
                b=normal(4 * HIDDEN, seed=seed))


for direction in ("forward", "reverse"):
    for sequence in (True, False):
        weights = lstm_weights(3)

        def run_lstm(x, h, c, weights=weights, direction=direction, sequence=sequence):
            states, h, c = reference.lstm(x[::-1] if direction == "reverse" else x, h, c, **weights)
            return states if sequence else states[-1:], h, c
        case(f"lstm {direction} {sequence}",
             lambda x, h, c, w=weights, d=direction, s=sequence: mb.lstm(
                 x=x, initial_h=h, initial_c=c, weight_ih=w["w"], weight_hh=w["r"], bias=w["b"],
                 direction=d, output_sequence=s),
             SEQUENCE, H0, C0, expected=run_lstm)
for names in (("hard_sigmoid", "tanh", "relu"), ("sigmoid", "linear", "scaled_tanh")):
    case(f"lstm {names}",
         lambda x, h, c, n=names, w=lstm_weights(4): mb.lstm(
             x=x, initial_h=h, initial_c=c, weight_ih=w["w"], weight_hh=w["r"],
             peephole=normal(3 * HIDDEN), recurrent_activation=n[0], cell_activation=n[1],
             activation=n[2], output_sequence=True),
         SEQUENCE, H0, C0,
         expected=lambda x, h, c, n=names, w=lstm_weights(4): reference.lstm(
             x, h, c, w["w"], w["r"], p=normal(3 * HIDDEN), activations=n))


def both_ways(x, h, c, sequence):
    ahead = reference.lstm(x, h[:, :HIDDEN], c[:, :HIDDEN], **lstm_weights(5))
    back = reference.lstm(x[::-1], h[:, HIDDEN:], c[:, HIDDEN:], **lstm_weights(6))
    last = [np.concatenate([a, b], 1) for a, b in zip(ahead[1:], back[1:])]
    states = (np.concatenate([ahead[0], back[0][::-1]], 2) if sequence else last[0][None])
    return states, *last


for sequence in (True, False):
    case(f"lstm bidirectional {sequence}",
         lambda x, h, c, s=sequence, a=lstm_weights(5), b=lstm_weights(6): mb.lstm(
             x=x, initial_h=h, initial_c=c, weight_ih=a["w"], weight_hh=a["r"], bias=a["b"],
             weight_ih_back=b["w"], weight_hh_back=b["r"], bias_back=b["b"],
             direction="bidirectional", output_sequence=s),
         SEQUENCE, normal(BATCH, 2 * HIDDEN), normal(BATCH, 2 * HIDDEN, seed=1),
         expected=lambda x, h, c, s=sequence: both_ways(x, h, c, s))

GRU = normal(3 * HIDDEN, IN), normal(3 * HIDDEN, HIDDEN), normal(3 * HIDDEN)
for direction in ("forward", "reverse"):
    case(f"gru {direction}",
         lambda x, h, d=direction: mb.gru(
             x=x, initial_h=h, weight_ih=GRU[0], weight_hh=GRU[1], bias=GRU[2], direction=d,
             output_sequence=True),
         SEQUENCE, H0,
         expected=lambda x, h, d=direction: reference.gru(
             x[::-1] if d == "reverse" else x, h, *GRU))
case("gru reset_after",
     lambda x, h: mb.gru(x=x, initial_h=h, weight_ih=GRU[0], weight_hh=GRU[1], bias=GRU[2],
                         input_bias=normal(3 * HIDDEN, seed=9), reset_after=True),
     SEQUENCE, H0, opset=IOS18,
     expected=lambda x, h: [v if v.ndim == 2 else v[-1:] for v in reference.gru(
         x, h, *GRU, input_bias=normal(3 * HIDDEN, seed=9), reset_after=True)])
for activation in ("tanh", "relu", "sigmoid"):
    case(f"rnn {activation}",
         lambda x, h, a=activation: mb.rnn(
             x=x, initial_h=h, weight_ih=normal(HIDDEN, IN), weight_hh=normal(HIDDEN, HIDDEN),
             bias=normal(HIDDEN), activation=a, output_sequence=True),
         SEQUENCE, H0,
         expected=lambda x, h, a=activation: reference.rnn(
             x, h, normal(HIDDEN, IN), normal(HIDDEN, HIDDEN), normal(HIDDEN), a))

# ---------------------------------------------------------------- quantization

SCALES, ZEROS = np.array([0.1, 0.05, 0.2], np.float32), np.array([3, -2, 0], np.int8)


def quantized(x, scale, zero, low, high):
    return np.clip(np.round(x / scale) + zero, low, high).astype(np.int32)


case("quantize", lambda x: mb.quantize(input=x, scale=np.float32(0.1), output_dtype="int8"), X * 9,
     opset=IOS17, expected=lambda x: quantized(x, np.float32(0.1), 0, -128, 127))
case("quantize along an axis",
     lambda x: mb.quantize(input=x, scale=SCALES, zero_point=ZEROS, axis=1, output_dtype="int8"),
     X, opset=IOS17,
     expected=lambda x: quantized(x, SCALES[:, None], ZEROS[:, None].astype(int), -128, 127))
case("quantize and dequantize",
     lambda x: mb.dequantize(
         input=mb.quantize(input=x, scale=np.float32(0.1), zero_point=np.uint8(100),
                           output_dtype="uint8"),
         scale=np.float32(0.1), zero_point=np.uint8(100)),
     X, opset=IOS17,
     expected=lambda x: (quantized(x, np.float32(0.1), 100, 0, 255) - 100) * np.float32(0.1))

# ---------------------------------------------------------------- conditions

for size in (3, 4):
    case(f"cond {size}",
         lambda x: mb.cond(pred=mb.equal(x=mb.gather(x=mb.shape(x=x), indices=0, axis=0), y=3),
                           _true_fn=lambda: mb.mul(x=x, y=np.float32(2)),
                           _false_fn=lambda: mb.relu(x=x)),
         normal(size, 2), expected=lambda x: 2 * x if len(x) == 3 else np.maximum(x, 0))

# ---------------------------------------------------------------- compressed constants

EVERY = np.zeros((8, 6), np.float32)
MASK = (normal(8, 6) > 0).astype(np.uint8)
PRESENT = int(MASK.sum())


def constant_case(name, build, opset):
    """What coremltools decodes: added to an input of zeros, so that the program computes."""
    def decoded():
        found = []

        @mb.program(input_specs=[], opset_version=opset)
        def program():
            found.append(build())
            return found[0]

        return found[0].op.materialized_val_inference()

    case(name, lambda x: mb.add(x=x, y=build()), EVERY, expected=lambda x: decoded(), opset=opset)


def as_type(values, nbits, signed=False):
    return np.asarray(values).astype(
        types.nptype_from_builtin(types.string_to_builtin(f"{'' if signed else 'u'}int{nbits}")))


for zero_point in (np.uint8(7), np.arange(8, dtype=np.uint8)):
    scale = np.float32(0.1) if zero_point.ndim == 0 else positive(8)
    constant_case(f"constexpr_affine_dequantize {zero_point.ndim}",
                  lambda z=zero_point, s=scale: mb.constexpr_affine_dequantize(
                      quantized_data=whole(0, 255, 8, 6).astype(np.uint8), zero_point=z, scale=s,
                      axis=0), IOS16)
constant_case("constexpr_cast",
              lambda: mb.constexpr_cast(source_val=normal(8, 6).astype(np.float16),
                                        output_dtype="fp32"), IOS16)
for nbits in (1, 2, 4, 6, 8):
    constant_case(f"constexpr_lut_to_dense {nbits}",
                  lambda n=nbits: mb.constexpr_lut_to_dense(
                      indices=whole(0, 256, 6 * n).astype(np.uint8), lut=normal(2 ** n),
                      shape=np.array([8, 6], np.uint32)), IOS16)
constant_case("constexpr_sparse_to_dense",
              lambda: mb.constexpr_sparse_to_dense(
                  nonzero_data=normal(PRESENT), mask=np.packbits(MASK, bitorder="little"),
                  shape=np.array([8, 6], np.uint32)), IOS16)
for nbits, tables in ((1, (1, 1)), (2, (2, 1)), (3, (1, 3)), (4, (4, 2)), (6, (8, 1)), (8, (1, 1))):
    constant_case(f"constexpr_lut_to_dense {nbits} by {tables}",
                  lambda n=nbits, t=tables: mb.constexpr_lut_to_dense(
                      indices=as_type(whole(0, 2 ** n, 8, 6), n), lut=normal(*t, 2 ** n, 1)),
                  IOS18)
for axis, vector, tables in ((0, 2, (2, 1)), (1, 3, (4, 2)), (0, 4, (1, 3)), (-1, 2, (2, 3))):
    shape = [8, 6]
    shape[axis] //= vector
    constant_case(f"constexpr_lut_to_dense vectors {axis} {vector}",
                  lambda a=axis, v=vector, t=tables, shape=tuple(shape): mb.constexpr_lut_to_dense(
                      indices=as_type(whole(0, 8, *shape), 3), lut=normal(*t, 8, v),
                      vector_axis=np.int32(a)), IOS18)
for dtype in ("int4", "uint4", "int8", "uint8"):
    low, high = (-8 if dtype == "int4" else 0), 8
    for blocks in ((1, 1), (8, 1), (4, 3)):
        constant_case(f"constexpr_blockwise_shift_scale {dtype} {blocks}",
                      lambda d=dtype, b=blocks, low=low: mb.constexpr_blockwise_shift_scale(
                          data=as_type(whole(0, 8, 8, 6) + low, int(d[-1]), d[0] == "i"),
                          scale=positive(*b),
                          offset=as_type(whole(0, 7, *b), int(d[-1]), d[0] == "i")), IOS18)
constant_case("constexpr_blockwise_shift_scale without offset",
              lambda: mb.constexpr_blockwise_shift_scale(
                  data=whole(0, 8, 8, 6).astype(np.int8), scale=positive(2, 1)), IOS18)
constant_case("constexpr_sparse_to_dense bits",
              lambda: mb.constexpr_sparse_to_dense(nonzero_data=normal(PRESENT),
                                                   mask=as_type(MASK, 1)), IOS18)


def sparse_palette():
    mask, values = mb.constexpr_lut_to_sparse(
        indices_mask=as_type(MASK, 1), indices_nonzero_data=as_type(whole(0, 4, PRESENT), 2),
        lut=normal(2, 3, 4, 1))
    return mb.constexpr_sparse_to_dense(nonzero_data=values, mask=mask)


def sparse_vectors(axis):
    mask = np.ascontiguousarray(np.take(MASK, range(0, MASK.shape[axis], 2), axis))
    mask, values = mb.constexpr_lut_to_sparse(
        indices_mask=as_type(mask, 1), indices_nonzero_data=as_type(whole(0, 4, int(mask.sum())), 2),
        lut=normal(1, 1, 4, 2), vector_axis=np.int32(axis))
    return mb.constexpr_sparse_to_dense(nonzero_data=values, mask=mask)


def sparse_quantized():
    mask, values = mb.constexpr_sparse_blockwise_shift_scale(
        data_mask=as_type(MASK, 1), nonzero_data=whole(0, 100, PRESENT).astype(np.int8),
        scale=positive(4, 3), offset=whole(0, 9, 4, 3).astype(np.int8))
    return mb.constexpr_sparse_to_dense(nonzero_data=values, mask=mask)


def quantized_table():
    lut = mb.constexpr_blockwise_shift_scale(
        data=whole(0, 100, 2, 1, 4, 1).astype(np.int8), scale=positive(2, 1, 1, 1))
    return mb.constexpr_lut_to_dense(indices=as_type(whole(0, 4, 8, 6), 2), lut=lut)


constant_case("constexpr_lut_to_sparse", sparse_palette, IOS18)
for axis in (0, 1):
    constant_case(f"constexpr_lut_to_sparse vectors {axis}", lambda a=axis: sparse_vectors(a), IOS18)
constant_case("constexpr_sparse_blockwise_shift_scale", sparse_quantized, IOS18)
case("constexpr_lut_to_dense quantized", lambda x: mb.add(x=x, y=quantized_table()), EVERY,
     opset=IOS18,
     expected=lambda x: reference.look_up(
         whole(0, 4, 8, 6), whole(0, 100, 2, 1, 4, 1) * positive(2, 1, 1, 1)))
