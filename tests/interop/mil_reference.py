"""What MIL operators compute, in NumPy, where coremltools itself cannot evaluate them.

Plain loops that state the definition; layouts are channels first.
"""

import itertools
import math

import numpy as np


# ---------------------------------------------------------------- windows

def same_pads(extent, kernel, stride, dilation, lower):
    reach = (kernel - 1) * dilation + 1
    total = max(0, (math.ceil(extent / stride) - 1) * stride + reach - extent)
    small = total // 2
    return (total - small, small) if lower else (small, total - small)


def window_pads(x, kernel, stride, dilation, pad_type, pad):
    spatial = x.shape[2:]
    if pad_type in ("same", "same_lower"):
        return [same_pads(*numbers, pad_type == "same_lower")
                for numbers in zip(spatial, kernel, stride, dilation)]
    if pad_type == "valid" or pad is None:
        return [(0, 0)] * len(spatial)
    return [(pad[2 * i], pad[2 * i + 1]) for i in range(len(spatial))]


def conv(x, weight, bias=None, strides=None, pad_type="valid", pad=None, dilations=None, groups=1):
    spatial = x.ndim - 2
    kernel = weight.shape[2:]
    strides, dilations = strides or [1] * spatial, dilations or [1] * spatial
    pads = window_pads(x, kernel, strides, dilations, pad_type, pad)
    x = np.pad(x.astype(np.float64), [(0, 0), (0, 0)] + pads)
    extents = [(x.shape[2 + i] - (kernel[i] - 1) * dilations[i] - 1) // strides[i] + 1
               for i in range(spatial)]
    outputs = weight.shape[0]
    result = np.zeros([x.shape[0], outputs] + extents)
    inputs, per_group = weight.shape[1], outputs // groups
    for o in range(outputs):
        first = o // per_group * inputs
        channels = x[:, first:first + inputs]
        for place in itertools.product(*map(range, extents)):
            window = tuple(
                slice(p * s, p * s + (k - 1) * d + 1, d)
                for p, s, k, d in zip(place, strides, kernel, dilations))
            patch = channels[(slice(None), slice(None)) + window]
            result[(slice(None), o) + place] = (patch * weight[o]).sum(
                axis=tuple(range(1, patch.ndim)))
        if bias is not None:
            result[:, o] += bias[o]
    return result


def conv_transpose(x, weight, bias=None, strides=None, pad_type="valid", pad=None, dilations=None,
                   groups=1, output_shape=None):
    spatial = x.ndim - 2
    kernel = weight.shape[2:]
    strides, dilations = strides or [1] * spatial, dilations or [1] * spatial
    full = [(x.shape[2 + i] - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1
            for i in range(spatial)]
    outputs = weight.shape[1] * groups
    result = np.zeros([x.shape[0], outputs] + full)
    inputs = x.shape[1] // groups
    for c in range(x.shape[1]):
        group = c // inputs
        for o in range(weight.shape[1]):
            for place in itertools.product(*map(range, x.shape[2:])):
                window = tuple(
                    slice(p * s, p * s + (k - 1) * d + 1, d)
                    for p, s, k, d in zip(place, strides, kernel, dilations))
                values = x[(slice(None), c) + place].astype(np.float64)
                result[(slice(None), group * weight.shape[1] + o) + window] += (
                    values.reshape([-1] + [1] * spatial) * weight[c, o])
    for i in range(spatial):
        if pad_type == "same":
            wanted = output_shape[2 + i] if output_shape else x.shape[2 + i] * strides[i]
            begin = max(0, full[i] - wanted) // 2
        else:
            begin = pad[2 * i] if pad_type == "custom" and pad else 0
            end = pad[2 * i + 1] if pad_type == "custom" and pad else 0
            wanted = output_shape[2 + i] if output_shape else full[i] - begin - end
        missing = max(0, begin + wanted - full[i])
        pads = [(0, 0)] * result.ndim
        pads[2 + i] = (0, missing)
        result = np.pad(result, pads)
        result = np.take(result, range(begin, begin + wanted), axis=2 + i)
    if bias is not None:
        result += bias.reshape([1, -1] + [1] * spatial)
    return result


def pool(kind, x, kernel_sizes, strides=None, pad_type="valid", pad=None, ceil_mode=False,
         exclude_padding_from_average=False):
    spatial = x.ndim - 2
    strides = strides or [1] * spatial
    pads = window_pads(x, kernel_sizes, strides, [1] * spatial, pad_type, pad)
    extents = []
    for i in range(spatial):
        span = x.shape[2 + i] + sum(pads[i]) - kernel_sizes[i]
        extent = (math.ceil if ceil_mode else math.floor)(span / strides[i]) + 1
        if ceil_mode and sum(pads[i]) and (extent - 1) * strides[i] >= x.shape[2 + i] + pads[i][0]:
            extent -= 1
        extents.append(extent)
    result = np.zeros(x.shape[:2] + tuple(extents))
    for place in itertools.product(*map(range, extents)):
        inside, size = [], 1
        for i, p in enumerate(place):
            start = p * strides[i] - pads[i][0]
            stop = start + kernel_sizes[i]
            inside.append(slice(max(0, start), min(stop, x.shape[2 + i])))
            size *= min(stop, x.shape[2 + i] + pads[i][1]) - start
        patch = x[(slice(None), slice(None)) + tuple(inside)].astype(np.float64)
        axes = tuple(range(2, patch.ndim))
        if kind == "max":
            value = patch.max(axis=axes)
        elif kind == "l2":
            value = np.sqrt((patch ** 2).sum(axis=axes))
        elif exclude_padding_from_average:
            value = patch.mean(axis=axes)
        else:
            value = patch.sum(axis=axes) / size
        result[(slice(None), slice(None)) + place] = value
    return result


# ---------------------------------------------------------------- images

def grid(mode, extent, points):
    i = np.arange(points, dtype=np.float64)
    if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        if points == 1:
            at = i if mode.startswith("STRICT") else i + (extent - 1) / 2
        else:
            at = i * (extent - 1) / (points - 1)
    elif mode == "DEFAULT":
        at = i * extent / points
    elif mode == "UNALIGN_CORNERS":
        at = (i + 0.5) * extent / points - 0.5
    else:
        at = (i + 0.5) * max(1, extent - 1) / points
    return np.clip(at, 0, extent - 1)


def interpolate(x, axis, at):
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, x.shape[axis] - 1)
    shape = [1] * x.ndim
    shape[axis] = -1
    share = (at - low).reshape(shape)
    return np.take(x, low, axis) * (1 - share) + np.take(x, high, axis) * share


def resize(x, sizes, mode):
    """Linear, of the last dimensions."""
    x = x.astype(np.float64)
    for i, size in enumerate(sizes):
        axis = x.ndim - len(sizes) + i
        x = interpolate(x, axis, grid(mode, x.shape[axis], size))
    return x


def resize_nearest(x, sizes):
    for i, size in enumerate(sizes):
        axis = x.ndim - len(sizes) + i
        x = np.take(x, ((2 * np.arange(size) + 1) * x.shape[axis]) // (2 * size), axis)
    return x


def upsample_nearest(x, factors):
    for i, factor in enumerate(factors):
        axis = x.ndim - 2 + i
        points = np.arange(math.floor(x.shape[axis] * factor))
        x = np.take(x, np.floor(points / factor).astype(int), axis)
    return x


def crop_resize(x, boxes, indices, height, width, mode="DEFAULT", normalized=False, scale=1.0,
                layout="CORNERS_HEIGHT_FIRST", pad_value=0.0):
    """Boxes N x 4; gives N x C x height x width."""
    patches = []
    for box, index in zip(np.asarray(boxes, np.float64), indices):
        box = box[[1, 0, 3, 2]] if "WIDTH" in layout else box
        if layout.startswith("CENTER"):
            box = np.concatenate([box[:2] - box[2:] / 2, box[:2] + box[2:] / 2])
        patch, outside = x[index].astype(np.float64), []
        for i, points in enumerate((height, width)):
            extent = x.shape[2 + i]
            a, b = box[[i, i + 2]] * scale * (extent - 1 if normalized else 1)
            k = np.arange(points)
            if mode == "DEFAULT":
                at = a + k * (b - a + 1) / points
            elif mode == "OFFSET_CORNERS":
                at = a + (k + 0.5) * max(1, b - a) / points
            elif points == 1:
                at = np.array([(a + b) / 2 if mode == "ALIGN_CORNERS" else a])
            else:
                at = a + k * (b - a) / (points - 1)
            outside.append((at < -1e-5) | (at > extent - 1 + 1e-5))
            patch = interpolate(patch, 1 + i, np.clip(at, 0, extent - 1))
        patch[:, outside[0], :] = pad_value
        patch[:, :, outside[1]] = pad_value
        patches.append(patch)
    return np.stack(patches)


# ---------------------------------------------------------------- recurrent layers

ACTIVATIONS = {
    "tanh": np.tanh,
    "sigmoid": lambda v: 1 / (1 + np.exp(-v)),
    "relu": lambda v: np.maximum(v, 0),
    "hard_sigmoid": lambda v: np.clip(0.2 * v + 0.5, 0, 1),
    "linear": lambda v: v,
    "scaled_tanh": np.tanh,
}


def lstm(x, h, c, w, r, b=None, p=None, activations=("sigmoid", "tanh", "tanh")):
    """One direction; gates in MIL's order i, f, o, z. Gives all states, the last h and c."""
    f, g, last = (ACTIVATIONS[name] for name in activations)
    size = h.shape[1]
    b = np.zeros(4 * size) if b is None else b
    p_i, p_f, p_o = np.split(np.zeros(3 * size) if p is None else p, 3)
    states = []
    for step in x:
        i, forget, o, z = np.split(step @ w.T + h @ r.T + b, 4, axis=1)
        i, forget = f(i + p_i * c), f(forget + p_f * c)
        c = forget * c + i * g(z)
        h = f(o + p_o * c) * last(c)
        states.append(h)
    return np.stack(states), h, c


def gru(x, h, w, r, b=None, input_bias=None, reset_after=False, activations=("sigmoid", "tanh")):
    """Gates in MIL's order r, o, z."""
    f, g = (ACTIVATIONS[name] for name in activations)
    size = h.shape[1]
    b_r, b_o, b_z = np.split(np.zeros(3 * size) if b is None else b, 3)
    i_r, i_o, i_z = np.split(np.zeros(3 * size) if input_bias is None else input_bias, 3)
    w_r, w_o, w_z = np.split(w, 3)
    r_r, r_o, r_z = np.split(r, 3)
    states = []
    for step in x:
        reset = f(step @ w_r.T + h @ r_r.T + b_r + i_r)
        z = f(step @ w_z.T + h @ r_z.T + b_z + i_z)
        if reset_after:
            o = g(step @ w_o.T + i_o + reset * (h @ r_o.T + b_o))
        else:
            o = g(step @ w_o.T + i_o + (reset * h) @ r_o.T + b_o)
        h = (1 - z) * o + z * h
        states.append(h)
    return np.stack(states), h


def rnn(x, h, w, r, b=None, activation="tanh"):
    f = ACTIVATIONS[activation]
    states = []
    for step in x:
        h = f(step @ w.T + h @ r.T + (0 if b is None else b))
        states.append(h)
    return np.stack(states), h


# ---------------------------------------------------------------- scattering

def meet(mode, old, new):
    return {"update": lambda: new, "add": lambda: old + new, "sub": lambda: old - new,
            "mul": lambda: old * new, "div": lambda: old / new,
            "max": lambda: np.maximum(old, new), "min": lambda: np.minimum(old, new)}[mode]()


def scatter(data, indices, updates, axis, mode):
    data = np.moveaxis(data.copy(), axis, 0)
    for i, row in zip(indices, np.moveaxis(updates, axis, 0)):
        data[i] = meet(mode, data[i], row)
    return np.moveaxis(data, 0, axis)


def scatter_along_axis(data, indices, updates, axis, mode):
    data = data.copy()
    for place in np.ndindex(indices.shape):
        at = list(place)
        at[axis] = indices[place]
        data[tuple(at)] = meet(mode, data[tuple(at)], updates[place])
    return data


def scatter_nd(data, indices, updates, mode):
    data = data.copy()
    for place in np.ndindex(indices.shape[:-1]):
        at = tuple(indices[place])
        data[at] = meet(mode, data[at], updates[place])
    return data


# ---------------------------------------------------------------- palettes

def look_up(indices, lut):
    """Scalars, from a table for each block of equal size."""
    result = np.zeros(indices.shape, lut.dtype)
    for place in np.ndindex(indices.shape):
        table = tuple(p * n // size for p, n, size in zip(place, lut.shape, indices.shape))
        result[place] = lut[table][indices[place], 0]
    return result
