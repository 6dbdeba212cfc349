"""ONNX networks as exporters write them, small, with random weights.

    model, inputs = llama(dtype=np.float16, opset=13)

Every function of NETWORKS takes the type of the weights (numpy.float32 or float16) and the opset
(11 or newer), and returns an onnx.ModelProto and example inputs: a dictionary of arrays for a batch
of 2, which is a symbolic dimension of the model, as is the length of sequences. Weights are the
same at each call. Most are large enough to be palettized with the default threshold.

in_constants() and in_bfloat16() are other ways to store a model's weights. Needs onnx and numpy,
nothing else.
"""

import zlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

BATCH, LENGTH = 2, 7
IR_VERSIONS = {11: 6, 12: 7, 13: 7, 14: 7, 15: 8, 16: 8, 17: 8, 18: 8, 19: 9, 20: 9, 21: 10}
INT64, INT32, BOOL, FLOAT = (TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL,
                             TensorProto.FLOAT)


class Writer:
    """Writes a graph, operator by operator, with the names that exporters give to values."""

    def __init__(self, opset, dtype, outer=None):
        self.opset, self.dtype = opset, np.dtype(dtype)
        self.type = helper.np_dtype_to_tensor_dtype(self.dtype)
        self.nodes, self.initializers = [], []
        self.numbers = outer.numbers if outer else {}
        self.path = outer.path if outer else ""

    # --- values ---

    def fresh(self, op):
        place = f"{self.path}/{op}"
        number = self.numbers[place] = self.numbers.get(place, -1) + 1
        return f"{place}_{number}" if number else place

    def __call__(self, op, *inputs, outputs=1, **attributes):
        """Writes an operator; returns the name of its output, or a list of several."""
        node = self.fresh(op)
        names = [f"{node}_output_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, node, **attributes))
        return names[0] if outputs == 1 else names

    def parameter(self, name, *shape, scale=None, offset=0.0):
        """An initializer of random values, which depend on its name."""
        if scale is None:
            scale = np.prod(shape[1:]) ** -0.5
        random = np.random.default_rng([zlib.crc32(name.encode()), *shape])
        values = (offset + scale * random.standard_normal(shape)).astype(self.dtype)
        self.initializers.append(numpy_helper.from_array(values, name))
        return name

    def constant(self, values, dtype=np.int64):
        return self("Constant", value=numpy_helper.from_array(np.asarray(values, dtype)))

    def number(self, value):
        return self.constant(value, self.dtype)

    def scope(self, path):
        """Names of what follows begin with this path."""
        self.path = "/" + path if path else ""

    # --- operators whose form depends on the opset ---

    def _with_axes(self, op, x, axes, since, **attributes):
        if self.opset >= since:
            return self(op, x, self.constant(axes), **attributes)
        return self(op, x, axes=axes, **attributes)

    def squeeze(self, x, *axes):
        return self._with_axes("Squeeze", x, axes, 13)

    def unsqueeze(self, x, *axes):
        return self._with_axes("Unsqueeze", x, axes, 13)

    def mean(self, x, *axes):
        return self._with_axes("ReduceMean", x, axes, 18, keepdims=1)

    def split(self, x, sizes, axis):
        if self.opset >= 13:
            return self("Split", x, self.constant(sizes), outputs=len(sizes), axis=axis)
        return self("Split", x, outputs=len(sizes), axis=axis, split=sizes)

    # --- what exporters make of common layers ---

    def size(self, x, axis):
        """A dimension of x, as a vector of one."""
        dimension = self("Gather", self("Shape", x), self.constant(axis), axis=0)
        return self.unsqueeze(dimension, 0)

    def reshape(self, x, *sizes):
        """Sizes are numbers or values."""
        parts = [size if isinstance(size, str) else self.constant([size]) for size in sizes]
        return self("Reshape", x, self("Concat", *parts, axis=0))

    def matmul(self, x, name, rows, columns, bias=True):
        product = self("MatMul", x, self.parameter(f"{name}.weight", rows, columns,
                                                   scale=rows ** -0.5))
        return self("Add", self.bias(name, columns), product) if bias else product

    def bias(self, name, size):
        return self.parameter(f"{name}.bias", size, scale=0.1)

    def layer_norm(self, x, name, size):
        scale = self.parameter(f"{name}.weight", size, scale=0.1, offset=1.0)
        bias = self.bias(name, size)
        if self.opset >= 17:
            return self("LayerNormalization", x, scale, bias, axis=-1, epsilon=1e-5)
        centered = self("Sub", x, self.mean(x, -1))
        variance = self.mean(self("Pow", centered, self.number(2)), -1)
        deviation = self("Sqrt", self("Add", variance, self.number(1e-5)))
        return self("Add", self("Mul", self("Div", centered, deviation), scale), bias)

    def rms_norm(self, x, name, size):
        """In float32 whatever the type of the weights, as Llama does."""
        scale = self.parameter(f"{name}.weight", size, scale=0.1, offset=1.0)
        wide = self("Cast", x, to=FLOAT)
        square = self.mean(self("Pow", wide, self.constant(2, np.float32)), -1)
        root = self("Sqrt", self("Add", square, self.constant(1e-6, np.float32)))
        normal = self("Mul", wide, self("Div", self.constant(1, np.float32), root))
        return self("Mul", scale, self("Cast", normal, to=self.type))

    def gelu(self, x):
        error = self("Erf", self("Div", x, self.number(2 ** 0.5)))
        gate = self("Mul", x, self("Add", error, self.number(1)))
        return self("Mul", gate, self.number(0.5))

    def silu(self, x):
        return self("Mul", x, self("Sigmoid", x))

    def conv(self, x, name, inputs, outputs, kernel=1, stride=1, groups=1, active=True):
        weight = self.parameter(f"{name}.weight", outputs, inputs // groups, kernel, kernel)
        padding = [kernel // 2] * 4
        y = self("Conv", x, weight, self.bias(name, outputs), dilations=[1, 1], group=groups,
                 kernel_shape=[kernel] * 2, pads=padding, strides=[stride] * 2)
        return self.silu(y) if active else y

    def output_as(self, x, name):
        self.nodes.append(helper.make_node("Identity", [x], [name]))

    def graph(self, name, inputs, outputs):
        """Inputs and outputs are (name, type, shape)."""
        return helper.make_graph(
            self.nodes, name, [helper.make_tensor_value_info(*value) for value in inputs],
            [helper.make_tensor_value_info(*value) for value in outputs], self.initializers)

    def model(self, inputs, outputs):
        return helper.make_model(
            self.graph("main_graph", inputs, outputs), producer_name="pytorch",
            opset_imports=[helper.make_opsetid("", self.opset)],
            ir_version=IR_VERSIONS.get(self.opset, 10))


def _random(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def _tokens(vocabulary):
    return np.random.default_rng(3).integers(0, vocabulary, (BATCH, LENGTH))


# --- transformers ---


def bert(dtype=np.float32, opset=17, layers=2, width=64, heads=4, vocabulary=200):
    """An encoder: embeddings of three kinds, attention with a mask, GELU; the table of tokens is
    also the output projection (Gather and Gemm with transB), and a pooled output."""
    w = Writer(opset, dtype)
    table = w.parameter("bert.embeddings.word_embeddings.weight", vocabulary, width, scale=0.5)
    positions = w.parameter("bert.embeddings.position_embeddings.weight", 64, width, scale=0.5)
    kinds = w.parameter("bert.embeddings.token_type_embeddings.weight", 2, width, scale=0.5)

    w.scope("bert/embeddings")
    length = w.size("input_ids", 1)
    ids = w("Slice", w.constant([range(64)]), w.constant([0]), length, w.constant([1]))
    x = w("Add", w("Gather", table, "input_ids"), w("Gather", kinds, "token_type_ids"))
    x = w.layer_norm(w("Add", x, w("Gather", positions, ids)), "bert.embeddings.LayerNorm", width)

    w.scope("bert")
    mask = w("Cast", w.unsqueeze("attention_mask", 1, 2), to=w.type)
    mask = w("Mul", w("Sub", w.number(1), mask), w.number(-1e4))
    for i in range(layers):
        x = _bert_layer(w, x, mask, f"bert/encoder/layer.{i}", width, heads)

    w.scope("bert/pooler")
    first = w("Gather", x, w.constant(0), axis=1)
    pooled = w("Gemm", first, w.parameter("bert.pooler.dense.weight", width, width),
               w.bias("bert.pooler.dense", width), transB=1)
    w.output_as(w("Tanh", pooled), "pooled")

    w.scope("cls")
    rows = w.reshape(x, -1, width)
    logits = w("Gemm", rows, table, w.bias("cls.predictions", vocabulary), transB=1)
    w.output_as(w.reshape(logits, w.size("input_ids", 0), length, vocabulary), "logits")

    inputs = {"input_ids": _tokens(vocabulary),
              "attention_mask": np.array([[1] * LENGTH, [1] * (LENGTH - 3) + [0] * 3]),
              "token_type_ids": np.array([[0] * 4 + [1] * (LENGTH - 4)] * BATCH)}
    model = w.model([(name, INT64, ["batch", "sequence"]) for name in inputs],
                    [("logits", w.type, ["batch", "sequence", vocabulary]),
                     ("pooled", w.type, ["batch", width])])
    return model, inputs


def _bert_layer(w, x, mask, path, width, heads):
    name = path.replace("/", ".")
    w.scope(f"{path}/attention/self")
    q, k, v = (w.matmul(x, f"{name}.attention.self.{part}", width, width)
               for part in ("query", "key", "value"))
    batch, length, head = w.size(x, 0), w.size(x, 1), width // heads
    q, k, v = (w("Transpose", w.reshape(part, batch, length, heads, head), perm=perm)
               for part, perm in ((q, [0, 2, 1, 3]), (k, [0, 2, 3, 1]), (v, [0, 2, 1, 3])))
    scores = w("Div", w("MatMul", q, k), w.number(head ** 0.5))
    weights = w("Softmax", w("Add", scores, mask), axis=-1)
    context = w("Transpose", w("MatMul", weights, v), perm=[0, 2, 1, 3])
    context = w.reshape(context, batch, length, width)
    w.scope(f"{path}/attention/output")
    attended = w.matmul(context, f"{name}.attention.output.dense", width, width)
    x = w.layer_norm(w("Add", attended, x), f"{name}.attention.output.LayerNorm", width)
    w.scope(f"{path}/output")
    hidden = w.gelu(w.matmul(x, f"{name}.intermediate.dense", width, 2 * width))
    y = w.matmul(hidden, f"{name}.output.dense", 2 * width, width)
    return w.layer_norm(w("Add", y, x), f"{name}.output.LayerNorm", width)


def llama(dtype=np.float32, opset=17, layers=2, width=64, heads=4, key_heads=2, inner=172,
          vocabulary=200):
    """A decoder: RMSNorm, rotary positions, grouped queries, a causal mask, SwiGLU; the table of
    tokens is also the output projection (Gather, and Transpose before MatMul)."""
    w = Writer(opset, dtype)
    table = w.parameter("model.embed_tokens.weight", vocabulary, width, scale=0.5)
    w.scope("model")
    x = w("Gather", table, "input_ids")
    length = w("Gather", w("Shape", "input_ids"), w.constant(1), axis=0)
    places = w("Range", w.constant(0), length, w.constant(1))
    later = w("Less", w.unsqueeze(places, 1), w.unsqueeze(places, 0))
    mask = w("Where", later, w.number(-1e4), w.number(0))

    w.scope("model/rotary_emb")
    head = width // heads
    frequencies = w.constant(10000.0 ** (-np.arange(0, head, 2) / head), np.float32)
    angles = w("Mul", w.unsqueeze(w("Cast", places, to=FLOAT), 1), frequencies)
    angles = w("Concat", angles, angles, axis=-1)
    turn = [w("Cast", w(op, angles), to=w.type) for op in ("Cos", "Sin")]

    for i in range(layers):
        path = f"model/layers.{i}"
        name = path.replace("/", ".")
        w.scope(f"{path}/self_attn")
        normal = w.rms_norm(x, f"{name}.input_layernorm", width)
        x = w("Add", x, _llama_attention(w, normal, mask, turn, f"{name}.self_attn", width, heads,
                                         key_heads))
        w.scope(f"{path}/mlp")
        normal = w.rms_norm(x, f"{name}.post_attention_layernorm", width)
        gate = w.silu(w.matmul(normal, f"{name}.mlp.gate_proj", width, inner, bias=False))
        up = w.matmul(normal, f"{name}.mlp.up_proj", width, inner, bias=False)
        down = w.matmul(w("Mul", gate, up), f"{name}.mlp.down_proj", inner, width, bias=False)
        x = w("Add", x, down)

    w.scope("lm_head")
    x = w.rms_norm(x, "model.norm", width)
    w.output_as(w("MatMul", x, w("Transpose", table, perm=[1, 0])), "logits")
    model = w.model([("input_ids", INT64, ["batch", "sequence"])],
                    [("logits", w.type, ["batch", "sequence", vocabulary])])
    return model, {"input_ids": _tokens(vocabulary)}


def _rotate(w, x, turn, head):
    half = [w("Slice", x, w.constant([begin]), w.constant([end]), w.constant([3]))
            for begin, end in ((0, head // 2), (head // 2, 2 ** 63 - 1))]
    turned = w("Concat", w("Neg", half[1]), half[0], axis=-1)
    return w("Add", w("Mul", x, turn[0]), w("Mul", turned, turn[1]))


def _llama_attention(w, x, mask, turn, name, width, heads, key_heads):
    batch, length, head = w.size(x, 0), w.size(x, 1), width // heads
    q, k, v = (
        w("Transpose", w.reshape(w.matmul(x, f"{name}.{part}_proj", width, count * head, False),
                                 batch, length, count, head), perm=[0, 2, 1, 3])
        for part, count in (("q", heads), ("k", key_heads), ("v", key_heads)))
    q, k = _rotate(w, q, turn, head), _rotate(w, k, turn, head)

    def repeat(part):
        shape = w("Concat", batch, w.constant([key_heads, heads // key_heads]), length,
                  w.constant([head]), axis=0)
        return w.reshape(w("Expand", w.unsqueeze(part, 2), shape), batch, heads, length, head)

    keys = w("Transpose", repeat(k), perm=[0, 1, 3, 2])
    scores = w("Mul", w("MatMul", q, keys), w.number(head ** -0.5))
    weights = w("Softmax", w("Add", scores, mask), axis=-1)
    context = w("Transpose", w("MatMul", weights, repeat(v)), perm=[0, 2, 1, 3])
    return w.matmul(w.reshape(context, batch, length, width), f"{name}.o_proj", width, width, False)


# --- recurrent networks ---


def _recurrent(w, op, gates, x, name, inputs, hidden, lengths, both, **attributes):
    """A layer over [sequence, batch, inputs]; returns [sequence, batch, outputs]."""
    ways = 2 if both else 1
    shape = w("Concat", w.constant([ways]), w.size(x, 1), w.constant([hidden]), axis=0)
    zero = w("ConstantOfShape", shape, value=numpy_helper.from_array(np.zeros(1, w.dtype)))
    state = [zero, zero] if op == "LSTM" else [zero]
    weights = [
        w.parameter(f"{name}.W", ways, gates * hidden, inputs, scale=inputs ** -0.5),
        w.parameter(f"{name}.R", ways, gates * hidden, hidden, scale=hidden ** -0.5),
        w.parameter(f"{name}.B", ways, 2 * gates * hidden, scale=0.1)]
    y, *_ = w(op, x, *weights, lengths, *state, outputs=len(state) + 1, hidden_size=hidden,
              direction="bidirectional" if both else "forward", **attributes)
    if not both:
        return w.squeeze(y, 1), hidden
    y = w("Transpose", y, perm=[0, 2, 1, 3])
    return w("Reshape", y, w.constant([0, 0, -1])), 2 * hidden


def _tagger(w, layers, tags=40, vocabulary=120, width=40):
    table = w.parameter("embedding.weight", vocabulary, width, scale=1.0)
    x = w("Transpose", w("Gather", table, "tokens"), perm=[1, 0, 2])
    for op, gates, hidden, both, attributes in layers:
        name = f"{op.lower()}.{len(w.initializers)}"
        w.scope(name)
        x, width = _recurrent(w, op, gates, x, name, width, hidden, "lengths", both, **attributes)
    w.scope("head")
    # The other way around, onnxruntime 1.32 crashes on the dense model in float16.
    w.output_as(w("Transpose", w.matmul(x, "head", width, tags), perm=[1, 0, 2]), "tags")
    model = w.model([("tokens", INT64, ["batch", "sequence"]), ("lengths", INT32, ["batch"])],
                    [("tags", w.type, ["batch", "sequence", tags])])
    return model, {"tokens": _tokens(vocabulary),
                   "lengths": np.array([LENGTH, LENGTH - 3], np.int32)}


def lstm(dtype=np.float32, opset=17):
    """A tagger: embedding, an LSTM in both directions with lengths of the sequences, a matrix."""
    return _tagger(Writer(opset, dtype), [("LSTM", 4, 32, True, {})])


def gru(dtype=np.float32, opset=17):
    """A tagger: a GRU in both directions, on it a GRU as PyTorch has it, and a simple RNN."""
    return _tagger(Writer(opset, dtype), [
        ("GRU", 3, 32, True, {"linear_before_reset": 1}), ("GRU", 3, 48, False, {}),
        ("RNN", 1, 48, True, {"activations": ["Tanh", "Tanh"]})])


# --- convolutional networks ---


def detector(dtype=np.float32, opset=17, width=16, classes=10):
    """A YOLO: Split and Concat inside of blocks, SPP by MaxPool, Resize on the way up,
    ConvTranspose for masks, boxes as the expectation over a softmax."""
    w = Writer(opset, dtype)
    w.scope("backbone")
    x = w.conv("images", "model.0.conv", 3, width, 3, 2)
    fine = _c2f(w, w.conv(x, "model.1.conv", width, 2 * width, 3, 2), "model.2", 2 * width)
    deep = w.conv(fine, "model.3.dw", 2 * width, 2 * width, 3, 2, groups=2 * width)
    deep = _c2f(w, w.conv(deep, "model.3.pw", 2 * width, 4 * width), "model.4", 4 * width)

    w.scope("spp")
    pooled = [w.conv(deep, "model.5.cv1", 4 * width, 2 * width)]
    for _ in range(3):
        pooled.append(w("MaxPool", pooled[-1], kernel_shape=[5, 5], pads=[2] * 4, strides=[1, 1]))
    deep = w.conv(w("Concat", *pooled, axis=1), "model.5.cv2", 8 * width, 4 * width)

    w.scope("neck")
    region = w.constant([], np.float32) if opset < 13 else ""  # may be left out from 13 on
    larger = w("Resize", deep, region, w.constant([1, 1, 2, 2], np.float32), mode="nearest",
               coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    joined = w("Concat", larger, fine, axis=1)
    fine = w.conv(joined, "model.6.cv", 6 * width, 2 * width)

    w.scope("head")
    levels = []
    for i, (x, channels) in enumerate(((fine, 2 * width), (deep, 4 * width))):
        box = w.conv(w.conv(x, f"model.7.cv2.{i}.0", channels, 2 * width, 3),
                     f"model.7.cv2.{i}.1", 2 * width, 64, active=False)
        kind = w.conv(w.conv(x, f"model.7.cv3.{i}.0", channels, 2 * width, 3),
                      f"model.7.cv3.{i}.1", 2 * width, classes, active=False)
        both = w("Concat", box, kind, axis=1)
        levels.append(w.reshape(both, w.size(both, 0), 64 + classes, -1))
    boxes, kinds = w.split(w("Concat", *levels, axis=2), [64, classes], 1)
    boxes = w("Transpose", w.reshape(boxes, w.size(boxes, 0), 4, 16, -1), perm=[0, 3, 1, 2])
    places = w.constant(np.arange(16).reshape(16, 1), w.dtype)
    boxes = w.squeeze(w("MatMul", w("Softmax", boxes, axis=-1), places), 3)
    scores = w("Transpose", w("Sigmoid", kinds), perm=[0, 2, 1])
    w.output_as(w("Concat", boxes, scores, axis=2), "detections")

    up = w.parameter("model.7.proto.upsample.weight", 2 * width, 2 * width, 2, 2)
    masks = w("ConvTranspose", fine, up, w.bias("model.7.proto.upsample", 2 * width),
              kernel_shape=[2, 2], strides=[2, 2])
    w.output_as(w.conv(masks, "model.7.proto.cv", 2 * width, 8), "masks")

    count = (64 // 4) ** 2 + (64 // 8) ** 2
    model = w.model([("images", w.type, ["batch", 3, 64, 64])],
                    [("detections", w.type, ["batch", count, 4 + classes]),
                     ("masks", w.type, ["batch", 8, 32, 32])])
    return model, {"images": _random(BATCH, 3, 64, 64, dtype=dtype)}


def _c2f(w, x, name, channels):
    x = w.conv(x, f"{name}.cv1", channels, channels)
    kept, inner = w.split(x, [channels // 2] * 2, 1)
    y = w.conv(w.conv(inner, f"{name}.m.cv1", channels // 2, channels // 2, 3),
               f"{name}.m.cv2", channels // 2, channels // 2, 3)
    parts = w("Concat", kept, inner, w("Add", inner, y), axis=1)
    return w.conv(parts, f"{name}.cv2", 3 * channels // 2, channels)


def generator(dtype=np.float32, opset=17, width=16):
    """Noise to images: Gemm with transposed and plain weights on either side, ConvTranspose with
    and without groups, batch normalisation."""
    w = Writer(opset, dtype)
    w.scope("mapping")
    x = w("Gemm", "noise", w.parameter("mapping.0.weight", 64, 48),
          w.bias("mapping.0", 64), transB=1)
    x = w("LeakyRelu", x, alpha=0.2)
    x = w("Gemm", w.parameter("mapping.1.weight", 64, 80, scale=0.125), x, transA=1, transB=1)
    x = w("Gemm", w.parameter("mapping.2.weight", 64, 80, scale=0.125), x)  # [64, batch]
    x = w("Gemm", x, w.parameter("mapping.3.weight", 64, 64 * width, scale=0.125),
          w.bias("mapping.3", 64 * width), transA=1)
    w.scope("synthesis")
    x = w.reshape(x, w.size(x, 0), 4 * width, 4, 4)
    for i, (inputs, outputs, groups) in enumerate(
            ((4 * width, 2 * width, 1), (2 * width, 2 * width, 2), (2 * width, width, 1))):
        weight = w.parameter(f"synthesis.{i}.weight", inputs, outputs // groups, 4, 4, scale=0.1)
        x = w("ConvTranspose", x, weight, kernel_shape=[4, 4], pads=[1] * 4, strides=[2, 2],
              group=groups)
        moments = [w.parameter(f"synthesis.{i}.bn.{part}", outputs, scale=0.05, offset=offset)
                   for part, offset in (("weight", 1), ("bias", 0), ("running_mean", 0),
                                        ("running_var", 1))]
        x = w("Relu", w("BatchNormalization", x, *moments, epsilon=1e-5))
    w.output_as(w("Tanh", w.conv(x, "synthesis.rgb", width, 3, 3, active=False)), "images")
    model = w.model([("noise", w.type, ["batch", 48])], [("images", w.type, ["batch", 3, 32, 32])])
    return model, {"noise": _random(BATCH, 48, dtype=dtype)}


# --- control flow ---


def branches(dtype=np.float32, opset=17, width=56):
    """Weights in the branches of If, in the body of Loop, in an If inside of it, and around them:
    the steps of a Loop take a weight of the main graph, as does one of the branches."""
    w = Writer(opset, dtype)
    shared = w.parameter("shared.weight", width, width)
    kind, batch = w.type, ["batch", width]
    x = w("MatMul", "x", w.parameter("entry.weight", width, width))

    def branch(outer, name, body):
        inner = Writer(opset, dtype, outer)
        inner.scope(name)
        inner.output_as(body(inner), f"{name}.y")
        return inner.graph(name, [], [(f"{name}.y", kind, batch)])

    def product(name, source):
        return lambda g: g("Relu", g("MatMul", source, g.parameter(f"{name}.weight", width, width)))

    chosen = w("If", "flag", then_branch=branch(w, "then", product("then", x)),
               else_branch=branch(w, "else", lambda g: g("MatMul", product("else", x)(g), shared)))

    body = Writer(opset, dtype, w)
    body.scope("loop")
    step = body("Tanh", body("Add", body("MatMul", "loop.state", shared),
                             body.matmul(chosen, "loop.body", width, width)))
    even = body("Equal", body("Mod", "loop.i", body.constant(2)), body.constant(0))
    step = body("If", even,
                then_branch=branch(body, "even", product("even", step)),
                else_branch=branch(body, "odd", lambda g: g("Neg", step)))
    body.output_as(step, "loop.next")
    body.output_as(step, "loop.row")
    body.output_as("loop.going", "loop.on")
    steps = body.graph(
        "loop", [("loop.i", INT64, []), ("loop.going", BOOL, []), ("loop.state", kind, batch)],
        [("loop.on", BOOL, []), ("loop.next", kind, batch), ("loop.row", kind, batch)])
    state, rows = w("Loop", "steps", w.constant(True, np.bool_), x, outputs=2, body=steps)
    w.output_as(state, "state")
    w.output_as(rows, "rows")
    model = w.model([("x", kind, batch), ("flag", BOOL, []), ("steps", INT64, [])],
                    [("state", kind, batch), ("rows", kind, ["steps", "batch", width])])
    return model, {"x": _random(BATCH, width, dtype=dtype), "flag": np.array(False),
                   "steps": np.array(3)}


NETWORKS = {function.__name__: function
            for function in (bert, llama, lstm, gru, detector, generator, branches)}


# --- other ways to store weights ---


def graphs_of(graph):
    """A graph and all those inside of it."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from graphs_of(attribute.g)


def _move_initializers(model, chosen, nodes_for):
    """A copy of the model in which nodes take the place of the initializers that are chosen."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    for graph in graphs_of(model.graph):
        taken = [tensor for tensor in graph.initializer if chosen(tensor)]
        kept = [tensor for tensor in graph.initializer if not chosen(tensor)]
        nodes = list(graph.node)
        del graph.initializer[:], graph.node[:]
        graph.initializer.extend(kept)
        for tensor in taken:
            graph.node.extend(nodes_for(graph, tensor))
        graph.node.extend(nodes)
    return model


def in_constants(model):
    """Every initializer becomes a Constant node."""
    def constant(_, tensor):
        return [helper.make_node("Constant", [], [tensor.name], value=tensor)]

    return _move_initializers(model, lambda tensor: True, constant)


def in_bfloat16(model):
    """Every float32 matrix is stored as bfloat16 and cast where it was (from opset 13 on)."""
    def cast(graph, tensor):
        bits = numpy_helper.to_array(tensor).view(np.uint32) >> 16
        name = tensor.name + ".bfloat16"
        graph.initializer.append(helper.make_tensor(
            name, TensorProto.BFLOAT16, tensor.dims, bits.astype(np.uint16).tobytes(), raw=True))
        return [helper.make_node("Cast", [name], [tensor.name], to=FLOAT)]

    return _move_initializers(
        model, lambda tensor: tensor.data_type == FLOAT and len(tensor.dims) > 1, cast)
