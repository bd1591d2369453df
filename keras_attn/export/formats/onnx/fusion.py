"""Rules that fuse expressions of a converted model into single ONNX operators.

Every rule takes a `Scope` and the name of a tensor, see `patterns.rewrite`. An expression is not fused if the operator
would compute something else, as for capped logits and sinks.
"""

import numpy as np

from keras_attn.export.formats.onnx import graphs
from keras_attn.export.formats.onnx.layouts import lay_out
from keras_attn.export.formats.onnx.loops import hoist
from keras_attn.export.formats.onnx.patterns import rewrite
from keras_attn.ops.masked_softmax import MASKING_BIAS

# The first opset with Attention, RMSNormalization and RotaryEmbedding, and its IR version.
OPSET, IR_VERSION = 23, 11
# Operators whose meaning changed after opset 18.
_CHANGED = ("DFT", "GroupNormalization")


def _normed(x, squares):
    """Patterns of `scale * x / sqrt(mean(squares))`: TensorFlow may order the factors either way."""
    inverse = "Reciprocal", ("Sqrt", ("Add", ("ReduceMean", squares, "axes"), "epsilon"))
    return ("Mul", ("Mul", x, inverse), "scale"), ("Mul", x, ("Mul", inverse, "scale"))


_MEAN = ("ReduceMean", "x", "mean_axes")
_CENTERED = ("Sub", "x", _MEAN)
_RMS_NORMS = _normed("x", ("Mul", "x", "x"))
_CENTERED_NORMS = _normed("centered", ("Mul", "centered", "centered"))
_SCALED_DEVIATION = _normed("x", ("Mul", "centered", "centered"))[1]
_LAYER_NORMS = (
    *(("Add", norm, "bias") for norm in _CENTERED_NORMS),
    # The form of Keras' own layer.
    ("Add", _SCALED_DEVIATION, ("Add", ("Mul", ("Neg", _MEAN), _SCALED_DEVIATION[2]), "bias")),
)
_GELUS = (
    ("Mul", ("Mul", 0.5, "x"), ("Sub", 1.0, ("Erf", ("Mul", ("Neg", "x"), 0.5**0.5)))),
    # The form that `portable` produces.
    ("Mul", ("Mul", "x", ("Add", ("Erf", ("Div", "x", 2**0.5)), 1.0)), 0.5),
)
_CUBIC = ("Add", "x", ("Mul", 0.044715, ("Pow", "x", 3.0)))
_GELU_TANH = ("Mul", ("Mul", 0.5, "x"), ("Add", 1.0, ("Tanh", ("Mul", (2 / np.pi) ** 0.5, _CUBIC))))
_ROTARY = (
    "Concat",
    ("Sub", ("Mul", "first", "cos"), ("Mul", "second", "sin")),
    ("Add", ("Mul", "second", "cos"), ("Mul", "first", "sin")),
)
_ATTENTION = ("MatMul", ("Softmax", "logits"), "v")
_PRODUCT = ("MatMul", "q", "transposed")
# Query heads that share a key head are concatenated along the query axis.
_GROUPED_ATTENTION = ("Reshape", ("MatMul", ("Reshape", ("Softmax", "logits"), "lined_up"), "v"), "apart")
_GROUPED_PRODUCT = ("Reshape", ("MatMul", ("Reshape", "q", "queries_lined_up"), "transposed"), "logits_apart")
# Logits up to this value count as masked.
_BLOCKED = -1e30


def portable(model, arrays):
    """Fuses operators of opset 18, and uses the forms that onnxruntime's optimizer recognises.

    Args:
        model: `onnx.ModelProto`.
        arrays: The weights outside of it, see `weights`.
    """
    hoist(model)
    lay_out(model, arrays)
    rewrite(model, [layer_norm, gelu_for_optimizers, choice_of_zero])


def fused(model):
    """Upgrades a model from opset 18 to 23 and fuses its new operators.

    Raises:
        ValueError: If the model has an operator whose meaning changed in between.
    """
    if changed := sorted(graphs.operators(model).keys() & set(_CHANGED)):
        raise ValueError(f"opset {OPSET} changes the meaning of {', '.join(changed)}")
    rewrite(model, [rms_norm, gelu, gelu_tanh, rotary, attention])
    for opset in model.opset_import:
        opset.version = OPSET if opset.domain in ("", "ai.onnx") else opset.version
    model.ir_version = max(model.ir_version, IR_VERSION)


def layer_norm(scope, name):
    """Fuses LayerNormalization."""
    found = scope.match_any(_LAYER_NORMS, name)
    if found is None or (centered := scope.match(_CENTERED, found["centered"])) is None:
        return None
    if any(found.get(part, tensor) != tensor for part, tensor in centered.items()):
        return None
    # Equal constants may have different names.
    axes = [scope.constant(name) for name in (found["axes"], centered["mean_axes"])]
    if axes[0] is None or not np.array_equal(*axes):
        return None
    return _norm(scope, "LayerNormalization", found | centered, "scale", "bias")


def rms_norm(scope, name):
    """Fuses RMSNormalization."""
    found = scope.match_any(_RMS_NORMS, name)
    return found and _norm(scope, "RMSNormalization", found, "scale")


def gelu(scope, name):
    """Fuses the exact Gelu."""
    found = scope.match_any(_GELUS, name)
    return found and ("Gelu", [found["x"]], {})


def gelu_tanh(scope, name):
    """Fuses the tanh approximation of Gelu."""
    found = scope.match(_GELU_TANH, name)
    return found and ("Gelu", [found["x"]], {"approximate": "tanh"})


def gelu_for_optimizers(scope, name):
    """Rewrites Gelu as `x (1 + erf(x / sqrt(2))) / 2`, which saves one operator and which onnxruntime fuses."""
    found = scope.match(_GELUS[0], name)
    if found is None:
        return None
    one, half, root = (scope.new_constant(np.float32(value)) for value in (1.0, 0.5, 2**0.5))
    erf = scope.add("Erf", scope.add("Div", found["x"], root))
    return "Mul", [scope.add("Mul", found["x"], scope.add("Add", erf, one)), half], {}


def choice_of_zero(scope, name):
    """Replaces the zeros in a `Where` between a tensor and zeros of its shape by a scalar."""
    found = scope.match(("Where", "condition", "x", ("ConstantOfShape", ("Shape", "x"))), name)
    if found is None:
        return None
    from onnx import numpy_helper

    zeros = scope.producers[scope.producers[name].input[2]]
    value = numpy_helper.to_array(zeros.attribute[0].t) if zeros.attribute else np.zeros(1, "float32")
    if np.any(value):
        return None
    return "Where", [found["condition"], found["x"], scope.new_constant(value.reshape(()))], {}


def rotary(scope, name):
    """Fuses RotaryEmbedding of all channels, not interleaved."""
    found = scope.match(_ROTARY, name)
    split = found and scope.producers.get(found["first"])
    if not found or split is not scope.producers.get(found["second"]) or split is None or split.op_type != "Split":
        return None
    heads, angles = scope.shape(split.input[0]), scope.shape(found["cos"])
    whole = None not in (heads, angles) and len(heads) == len(angles) == 4 and angles[1] == 1
    if not whole or list(split.output) != [found["first"], found["second"]] or heads[3] != 2 * (angles[3] or 0):
        return None
    inputs = [split.input[0]]
    for table in (found["cos"], found["sin"]):
        table = scope.add("Squeeze", table, scope.new_constant(np.array([1])))
        # The operator does not broadcast one row of angles over the batch.
        if not (heads[0] == angles[0] == 1):
            rows = scope.add("Shape", split.input[0], start=0, end=1)
            shape = scope.add("Concat", rows, scope.new_constant(np.array([1, 1])), axis=0)
            table = scope.add("Expand", table, shape)
        inputs.append(table)
    return "RotaryEmbedding", inputs, {}


def attention(scope, name):
    """Fuses attention; terms added to the logits become its mask."""
    is_grouped = (found := scope.match(_ATTENTION, name)) is None
    found = found or scope.match(_GROUPED_ATTENTION, name)
    terms = found and _terms(scope, found["logits"], _GROUPED_PRODUCT if is_grouped else _PRODUCT)
    if not terms:
        return None
    product, addends = terms
    shapes = [scope.shape(x) for x in (product["q"], product["transposed"], found["v"])]
    if any(shape is None or len(shape) != 4 or shape[1] is None for shape in shapes):
        return None
    (_, num_heads, _, width), (_, num_kv_heads, key_width, _) = shapes[:2]
    if width is None or width != key_width or num_kv_heads != shapes[2][1] or num_heads % num_kv_heads:
        return None
    if not is_grouped and num_heads != num_kv_heads:
        return None
    mask = _mask(scope, addends, product["q"])
    if mask is None:
        return None
    q, scale = _without_scale(scope, product["q"])
    inputs, attributes = [q, _transposed(scope, product["transposed"]), found["v"], *mask], {"scale": scale}
    if not is_grouped or _is(scope.shape(name), num_heads, shapes[2][3]):
        return "Attention", inputs, attributes
    # The converter has merged this reshape with a later one.
    return "Reshape", [scope.add("Attention", *inputs, **attributes), found["apart"]], {}


def _is(shape, num_heads, width):
    """Whether a shape is `(B, num_heads, T, width)`."""
    return shape is not None and len(shape) == 4 and (shape[1], shape[3]) == (num_heads, width)


def _norm(scope, operator, found, *weights):
    """The norm operator if the norm is over the last axis and its weights are constant along the others, else None."""
    shape, axes = scope.shape(found["x"]), scope.constant(found["axes"])
    if shape is None or axes is None or axes.size != 1 or int(axes.flat[0]) not in (-1, len(shape) - 1):
        return None
    values, epsilon = [scope.constant(found[weight]) for weight in weights], scope.scalar(found["epsilon"])
    if epsilon is None or any(value is None or value.shape[-1:] != (value.size,) for value in values):
        return None
    if any(value.size != shape[-1] for value in values):
        return None
    names = [scope.new_constant(value.reshape(-1)) for value in values]
    return operator, [found["x"], *names], {"axis": -1, "epsilon": epsilon}


def _terms(scope, name, pattern):
    """`(product, addends)`: the match of `pattern` in the logits `name`; names and shapes of terms added to it."""
    if product := scope.match(pattern, name):
        return product, []
    found = scope.match(("Where", "allowed", "logits", "blocked"), name)
    if found and _blocks(scope, found["blocked"]) and (terms := _terms(scope, found["logits"], pattern)):
        zero, blocked = (scope.new_constant(np.float32(value)) for value in (0, MASKING_BIAS))
        addend = scope.add("Where", found["allowed"], zero, blocked)
        return terms[0], [*terms[1], (addend, scope.shape(found["allowed"]))]
    if found := scope.match(("Add", "left", "right"), name):
        for one, other in (("left", "right"), ("right", "left")):
            if terms := _terms(scope, found[one], pattern):
                return terms[0], [*terms[1], (found[other], scope.shape(found[other]))]
    return None


def _blocks(scope, name):
    value = scope.scalar(name)
    return value is not None and value <= _BLOCKED


def _without_scale(scope, q):
    scaled = ("Mul", "heads", "scale")
    found = scope.match(scaled, q) or scope.match(("Transpose", scaled), q)
    for heads, scale in (("heads", "scale"), ("scale", "heads")):
        value = found and scope.scalar(found[scale])
        if value is not None:
            moved = scope.producers[q].op_type == "Transpose"
            order = {"perm": list(scope.producers[q].attribute[0].ints)} if moved else {}
            return (scope.add("Transpose", found[heads], **order) if moved else found[heads]), value
    return q, 1.0


def _transposed(scope, keys):
    """Swaps the last two axes of `keys`."""
    producer = scope.producers.get(keys)
    if producer is None or producer.op_type != "Transpose":
        return scope.add("Transpose", keys, perm=[0, 1, 3, 2])
    *first, last, width = producer.attribute[0].ints
    if [*first, width, last] == [0, 1, 2, 3]:
        return producer.input[0]
    return scope.add("Transpose", producer.input[0], perm=[*first, width, last])


def _mask(scope, addends, q):
    """The sum of all terms added to the logits, as a list of at most one name; None if they do not fit a mask."""
    if any(not shape or len(shape) > 4 or shape[-1] == 1 for _, shape in addends):
        return None
    names, shapes = [], []
    for name, shape in addends:
        missing = 4 - len(shape)
        axes = scope.new_constant(np.arange(missing))
        names.append(scope.add("Unsqueeze", name, axes) if missing else name)
        shapes.append((1,) * missing + shape)
    if not names:
        return []
    mask = names[0]
    for name in names[1:]:
        mask = scope.add("Add", mask, name)
    if all(shape[2] == 1 for shape in shapes) and (length := scope.shape(q)[2]) != 1:
        # onnxruntime requires a mask row per query.
        one = scope.new_constant(np.array([1]))
        if length is None:
            rows = scope.add("Concat", scope.add("Shape", q, start=2, end=3), one, axis=0)
        else:
            rows = scope.new_constant(np.array([length, 1]))
        mask = scope.add("Expand", mask, rows)
    return [mask]
