"""The checks that every layer must pass: describe it as a `LayerCase`, then run `pairs(cases)`.

`harness_export.check_export` takes the same cases.

Checks do not depend on the class of a layer. Each exemption is part of a case and gives a reason.
"""

import dataclasses
import functools
import inspect
import json
import warnings
from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attn.export.tensor_spec import TensorSpec
from keras_attn.layers import recording
from keras_attn.layers.base.lora import Lora

# Batch, T, S: unequal, to detect swapped axes. Axes that differ between the two are dynamic.
SIZES = (2, 5, 7)
OTHER_SIZES = (4, 6, 8)
# No rows, no queries, no keys, and no queries and keys. A single row, for which Keras may treat an addend as a bias.
EMPTY_SIZES = ((0, 1, 1), (1, 0, 7), (1, 5, 0), (2, 0, 0))
# Step of finite differences, and tolerance relative to the norm of the gradient. Under JAX, tanh and RMS norms have
# the precision of float32 in float64 too: a smaller step is lost in it, a larger one crosses the kink of a ReLU.
_DIFFERENCES = {"tensorflow": (1e-5, 1e-6), "jax": (3e-5, 5e-3)}


@dataclasses.dataclass(frozen=True, eq=False)
class LayerCase:
    """A layer and its call arguments. Compared by identity.

    Args:
        name: An identifier.
        make: Takes constructor arguments that override those of the case, such as `dtype`; returns a new layer.
        inputs: Takes `(rng, B, T, S)`, returns the call arguments: arrays, tuples of arrays, or Python values.
        oracle: Takes `(weights, **inputs)` in float64, returns the expected outputs.
        masks: Dict from names of inputs to names of their padding masks.
        bad: `(arguments, regex)` pairs: constructor or call arguments that raise a ValueError with such a message.
        exempt: Dict from names of checks, or "export", to the reason for the exemption.
        output_mask: Function from the mask of the first masked input to that of the outputs.
    """

    name: str
    make: Callable
    inputs: Callable
    oracle: Callable | None = None
    masks: dict = dataclasses.field(default_factory=dict)
    bad: tuple = ()
    exempt: dict = dataclasses.field(default_factory=dict)
    output_mask: Callable = lambda mask: mask

    def arguments(self, sizes=SIZES, seed=0):
        return self.inputs(np.random.default_rng(seed), *sizes)

    @property
    def booleans(self):
        """The masks among the inputs, by name."""
        return {name: array for name, array in named_arrays(self.arguments()).items() if array.dtype == bool}

    @property
    def empty_sizes(self):
        return () if "empty" in self.exempt else EMPTY_SIZES


def check_oracle(case):
    layer, arguments = built(case)
    expected = case.oracle([np.asarray(w, "float64") for w in layer.get_weights()], **_as_float64(arguments))
    actual = flat_arrays(expected_outputs(case))
    for a, e in zip(actual, keras.tree.flatten(expected), strict=True):
        assert a.shape == e.shape
        np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-5)


def check_gradients(case):
    layer, arguments = build(case, dtype="float64")
    points = {n: x.astype("float64") for n, x in named_arrays(arguments).items() if x.dtype.kind == "f"}
    weights = layer.trainable_weights
    values = [np.asarray(w) for w in weights]
    rng = np.random.default_rng(1)
    cotangents = [rng.normal(size=x.shape) for x in flat_arrays(layer(**arguments)) if x.dtype.kind == "f"]

    def loss(outputs):
        floats = [x for x in keras.tree.flatten(outputs) if "float" in keras.backend.standardize_dtype(x.dtype)]
        return sum(keras.ops.sum(x * c) for x, c in zip(floats, cotangents, strict=True))

    gradients = _gradients(layer, arguments, points, loss)
    assert any(np.any(g) for g in gradients)

    h, tolerance = _DIFFERENCES[keras.backend.backend()]
    # The spread of the derivatives in random directions, since a single one may be small by chance.
    spread = np.sqrt(sum(np.sum(g**2) for g in gradients))
    for _ in range(3):
        direction = [rng.normal(size=g.shape) for g in gradients]

        def moved(sign, direction=direction):
            for weight, value, d in zip(weights, values, direction[len(points) :], strict=True):
                weight.assign(value + sign * h * d)
            steps = zip(points.items(), direction[: len(points)], strict=True)
            tensors = {n: keras.ops.convert_to_tensor(x + sign * h * d) for (n, x), d in steps}
            return float(loss(call_with(layer, arguments, tensors)))

        numeric = (moved(1) - moved(-1)) / (2 * h)
        analytic = sum(np.sum(g * d) for g, d in zip(gradients, direction, strict=True))
        np.testing.assert_allclose(analytic, numeric, rtol=0, atol=tolerance * spread)


def _gradients(layer, arguments, points, loss):
    """Gradients of `loss(outputs)` for each of the points and each trainable weight, on TensorFlow or JAX."""
    if keras.backend.backend() == "jax":
        import jax

        def objective(tensors, weights):
            frozen = [w.value for w in layer.non_trainable_variables]
            with keras.StatelessScope(
                [
                    *zip(layer.trainable_variables, weights, strict=True),
                    *zip(layer.non_trainable_variables, frozen, strict=True),
                ]
            ):
                return loss(call_with(layer, arguments, tensors))

        found = jax.jit(jax.grad(objective, argnums=(0, 1)))(points, [w.value for w in layer.trainable_variables])
        return [np.asarray(g) for g in (*(found[0][n] for n in points), *found[1])]
    tensors = {n: tf.constant(x) for n, x in points.items()}
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        objective = loss(call_with(layer, arguments, tensors))
    sources = [*tensors.values(), *(w.value for w in layer.trainable_weights)]
    found = tape.gradient(objective, sources, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return [np.asarray(tf.convert_to_tensor(g)) for g in found]


def check_config(case):
    layer, arguments = built(case)
    config = layer.get_config()
    clone = type(layer).from_config(json.loads(json.dumps(config)))
    clone(**arguments)
    assert json.dumps(clone.get_config()) == json.dumps(config)
    assert [(w.name, w.shape) for w in clone.weights] == [(w.name, w.shape) for w in layer.weights]
    clone.set_weights(layer.get_weights())
    _assert_equal(clone(**arguments), expected_outputs(case))


def check_keras_file(case, tmp_path):
    layer, arguments = built(case)
    model = _functional(case, layer, arguments)
    loaded = _reloaded(model, tmp_path)
    named = named_arrays(arguments)
    expected = flat_arrays(model(named))
    _assert_equal(loaded(named), expected)
    for weight in loaded.weights:
        weight.assign(weight * 2)
    _assert_equal(model(named), expected)


def check_saved_states(case, tmp_path):
    """Frozen, quantised and LoRA layers in a functional model keep their state in a file."""
    layer, arguments = build(case)
    frozen = type(layer).from_config({**layer.get_config(), "trainable": False})
    assert not _functional(case, frozen, arguments).trainable_weights
    for i, part in enumerate(x for x in layer._flatten_layers() if isinstance(x, Lora)):
        if "int8" not in case.exempt:
            part.quantize(config=_QUANTIZATION[i % len(_QUANTIZATION)])
        part.enable_lora(2, lora_alpha=3)
        for matrix in part._lora_matrices():
            matrix.assign(np.random.default_rng(i).normal(scale=0.3, size=matrix.shape))
    parts = [x for x in layer._flatten_layers(include_self=False) if x.weights]
    for part in parts[:1]:
        part.trainable = False
    model = _functional(case, layer, arguments)
    loaded = _reloaded(model, tmp_path)
    assert [(w.shape, w.dtype, w.trainable) for w in loaded.weights] == [
        (w.shape, w.dtype, w.trainable) for w in model.weights
    ]
    named = named_arrays(arguments)
    _assert_equal(loaded(named), model(named))
    layer.trainable = False
    copy = type(layer).from_config(json.loads(json.dumps(layer.get_config())))
    assert not _functional(case, copy, arguments).trainable_weights
    assert len(copy.weights) == len(layer.weights)


# Activations and weights, only weights, and weights by groups of channels.
_QUANTIZATION = (
    keras.quantizers.Int8QuantizationConfig(),
    keras.quantizers.Int8QuantizationConfig(activation_quantizer=None),
    keras.quantizers.Int4QuantizationConfig(block_size=4),
)


def _functional(case, layer, arguments):
    """A model of a single layer with dynamic axes."""
    inputs = {
        name: keras.Input(shape[1:], dtype=dtype, batch_size=shape[0], name=name)
        for name, (shape, dtype) in _free_shapes(case).items()
    }
    return keras.Model(inputs, keras.tree.flatten(call_with(layer, arguments, inputs)))


def _reloaded(model, tmp_path):
    model.save(tmp_path / "model.keras")
    return keras.saving.load_model(tmp_path / "model.keras")


def check_in_models(case):
    """Layers in Keras models: shapes before the call, summaries, clones and `TimeDistributed`.

    All of it with settings that are NumPy's numbers, and after somebody has cleared Keras' registry.
    """
    layer, arguments = built(case)
    expected = expected_outputs(case)
    registry = keras.saving.get_custom_objects()
    registered = dict(registry)
    try:
        registry.clear()
        given = case.make()
        _check_shapes(given, arguments, expected)
        given = type(layer).from_config(_numpy_numbers(given.get_config()))
        json.dumps(given.get_config())
        model = _functional(case, given, arguments)
        _check_shapes(given, arguments, expected)
        clone = keras.models.clone_model(model)
        if len(bare := _bare(case, arguments)) == len(flat_arrays(expected)) == 1:
            _check_time_distributed(case, type(layer).from_config(given.get_config()), bare)
    finally:
        registry.update(registered)
    for found in (model, clone):
        found.set_weights(layer.get_weights())
        _assert_close(found(named_arrays(arguments)), expected, 1e-5)
    for shown in (model, _Holder(given)):
        shown.summary(line_length=200, expand_nested=True, print_fn=(lines := []).append)
        assert f"({type(layer).__name__})" in "".join(lines)


class _Holder(keras.Model):
    """A layer outside of a functional graph, as in a subclassed model."""

    def __init__(self, layer):
        super().__init__()
        self.only = type(layer).from_config(layer.get_config())
        self.only.build(**layer._build_shapes_dict)
        self.built = True


def _check_shapes(layer, arguments, outputs):
    """`compute_output_shape` returns the shape of the first output."""
    shapes = {}
    first = next(iter(arguments))
    for name in inspect.signature(layer.compute_output_shape).parameters:
        # Keras' name for the shape of the first argument if a layer has no `build`.
        kind = first if name == "input_shape" else name.removesuffix("_shape")
        kind = kind if kind != name and kind in arguments else None
        if kind is not None:
            shapes[name] = keras.tree.map_structure(lambda x: x.shape, arguments[kind])
        elif name in arguments:
            shapes[name] = arguments[name]
    found = layer.compute_output_shape(**shapes)
    found = found if isinstance(found[0], int) else found[0]
    assert isinstance(found, tuple)
    assert found == tuple(keras.tree.flatten(outputs)[0].shape)


def _bare(case, arguments):
    """The arguments without masks."""
    return {name: value for name, value in arguments.items() if name not in case.booleans}


def _check_time_distributed(case, layer, arguments):
    """Calls the layer at each of three steps."""
    [(name, array)] = arguments.items()
    steps = np.stack([array, array[::-1], array], axis=1)
    inputs = keras.Input(steps.shape[1:], batch_size=len(steps), dtype=array.dtype.name)
    outputs = keras.Model(inputs, keras.layers.TimeDistributed(layer)(inputs))(steps)
    _assert_close(outputs, np.stack([layer(**{name: steps[:, i]}) for i in range(3)], axis=1), 1e-5)


def _numpy_numbers(config):
    """Settings of a layer with NumPy numbers, except inside the configs of Keras objects."""
    if isinstance(config, dict) and not config.keys() >= {"class_name", "config"}:
        return {name: _numpy_numbers(value) for name, value in config.items()}
    if isinstance(config, list | tuple):
        return type(config)(map(_numpy_numbers, config))
    if isinstance(config, bool) or not isinstance(config, int | float):
        return config
    return np.int16(config) if isinstance(config, int) else np.float32(config)


def check_half_precision(case):
    layer, arguments = built(case)
    expected = flat_arrays(expected_outputs(case))
    large = _map_floats(lambda x: x * 64, arguments)
    for dtype, tolerance in (("float16", 5e-3), ("bfloat16", 4e-2)):
        half = case.make(dtype=f"mixed_{dtype}")
        half(**arguments)
        half.set_weights(layer.get_weights())
        for actual, exact in zip(keras.tree.flatten(half(**arguments)), expected, strict=True):
            if exact.dtype.kind == "f":
                assert actual.dtype == dtype
                scale = max(1.0, np.abs(exact).max())
                np.testing.assert_allclose(np.asarray(actual, "float32") / scale, exact / scale, atol=tolerance)
        for actual in flat_arrays(half(**large)):
            assert np.all(np.isfinite(actual.astype("float32")))
        assert all(w.dtype == "float32" for w in half.trainable_weights)


def check_jit(case):
    layer, arguments = built(case)
    function = tf.function(lambda x: call_with(layer, arguments, x), jit_compile=True, autograph=False)
    _assert_close(function(_tensors(arguments)), expected_outputs(case), 1e-5)


def check_dynamic_shapes(case):
    layer, arguments = built(case)
    specs = {name: tf.TensorSpec(shape, dtype) for name, (shape, dtype) in _free_shapes(case).items()}
    function = tf.function(lambda x: call_with(layer, arguments, x), input_signature=[specs], autograph=False)
    for sizes in (SIZES, OTHER_SIZES, *case.empty_sizes):
        _assert_close(function(_tensors(case.arguments(sizes))), expected_outputs(case, sizes), 1e-6)
    assert function.experimental_get_tracing_count() == 1


def check_empty(case):
    large = tuple(3 * size for size in SIZES)
    shapes = [[x.shape for x in flat_arrays(expected_outputs(case, sizes))] for sizes in (SIZES, large)]
    for sizes in case.empty_sizes:
        sized = dict(zip(zip(SIZES, large, strict=True), sizes, strict=True))
        for output, *known in zip(flat_arrays(expected_outputs(case, sizes)), *shapes, strict=True):
            assert np.all(np.isfinite(output))
            for size, axis in zip(output.shape, zip(*known, strict=True), strict=True):
                # An axis that depends on the sizes in another way may have any size.
                assert size == sized.get(axis, axis[0] if axis[0] == axis[1] else size), f"{sizes}: {output.shape}"


def check_float_masks(case):
    layer, arguments = built(case)
    expected = expected_outputs(case)
    for name, mask in case.booleans.items():
        # A list is named by its argument: `memory_mask_0` is `memory_mask[0]`.
        argument = name.rstrip("_0123456789")
        floats = np.where(mask, 0, -np.inf).astype("float32")
        for given in (floats, mask.astype("float16"), keras.KerasTensor(mask.shape, "float32")):
            with pytest.raises(ValueError, match=f"`{argument}` must be boolean.* `bias=`"):
                call_with(layer, arguments, {name: given})
        _assert_equal(call_with(layer, arguments, {name: mask.astype("int32")}), expected)


def check_symbolic(case):
    arguments, eager = case.arguments(), expected_outputs(case)
    for shapes, known in ((_shapes(arguments), True), (_free_shapes(case), False)):
        symbols = {name: keras.KerasTensor(shape, dtype=dtype) for name, (shape, dtype) in shapes.items()}
        outputs = call_with(case.make(), arguments, symbols)
        keras.tree.assert_same_structure(outputs, eager)
        for output, exact in zip(keras.tree.flatten(outputs), keras.tree.flatten(eager), strict=True):
            assert output.dtype == keras.backend.standardize_dtype(exact.dtype)
            matches = [a == b or (a is None and not known) for a, b in zip(output.shape, exact.shape, strict=True)]
            assert all(matches), f"{output.shape} instead of {exact.shape}"
            assert all(output is not symbol for symbol in symbols.values())


def check_inference(case):
    layer, arguments = built(case)
    expected = expected_outputs(case)
    with recording():
        _assert_close(layer(**arguments), expected, 1e-6)
    if "return_attention_scores" in inspect.signature(layer.call).parameters:
        with_scores = layer(**{**arguments, "return_attention_scores": True})
        _assert_close(with_scores[0], keras.tree.flatten(expected)[0], 1e-6)
    config = layer.get_config()
    rates = {name: 0.5 for name in config if name.endswith("dropout")}
    if rates:
        dropping = type(layer).from_config({**config, **rates})
        dropping(**arguments)
        dropping.set_weights(layer.get_weights())
        _assert_equal(dropping(**arguments), expected)
        trained = flat_arrays(dropping(**arguments, training=True))
        assert np.all(np.isfinite(trained[0]))
        assert np.max(np.abs(trained[0] - flat_arrays(expected)[0])) > 1e-3


def check_masked_positions(case):
    layer, arguments = built(case)
    named = named_arrays(arguments)
    real = case.output_mask(named[next(iter(case.masks.values()))])
    assert not all(named[mask].all() for mask in case.masks.values())
    expected = flat_arrays(expected_outputs(case))[0][real]
    for value in (-3.0, 1e30):
        tensors = _tensors(arguments)
        for name, mask in case.masks.items():
            tensors[name] = tf.constant(np.where(_over(named[mask], named[name]), named[name], np.float32(value)))
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            outputs = tf.boolean_mask(keras.tree.flatten(call_with(layer, arguments, tensors))[0], real)
        np.testing.assert_array_equal(outputs, expected)
        gradients = tape.gradient(outputs, {name: tensors[name] for name in case.masks})
        for name, mask in case.masks.items():
            assert not np.any(gradients[name][~named[mask]])
            assert np.any(gradients[name][named[mask]])


def check_padding(case):
    layer, arguments = built(case)
    small = named_arrays(arguments)
    real = case.output_mask(small[next(iter(case.masks.values()))])
    expected = flat_arrays(expected_outputs(case))[0]
    batch, queries, keys = SIZES
    for sizes in ((batch, queries + 2, keys), (batch, queries, keys + 2)):
        padded = named_arrays(case.arguments(sizes, seed=1))
        if all(padded[mask].shape == small[mask].shape for mask in case.masks.values()):
            continue
        for name, array in small.items():
            if name in case.masks.values():
                padded[name][...] = False
            padded[name][tuple(map(slice, array.shape))] = array
        actual = flat_arrays(call_with(layer, arguments, padded))[0][tuple(map(slice, expected.shape))]
        np.testing.assert_allclose(actual[real], expected[real], atol=2e-6)


def check_implicit_masks(case):
    layer, arguments = built(case)
    explicit = keras.tree.flatten(expected_outputs(case))[0]
    bare = {name: value for name, value in arguments.items() if name not in case.masks.values()}
    tensors = _tensors(bare)
    for name, mask in case.masks.items():
        tensors[name]._keras_mask = tf.constant(named_arrays(arguments)[mask])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        output = keras.tree.flatten(call_with(layer, bare, tensors))[0]
    np.testing.assert_array_equal(output, explicit)
    real = case.output_mask(named_arrays(arguments)[next(iter(case.masks.values()))])
    # A mask of whole rows has no sequence axis for a Keras mask.
    assert (getattr(output, "_keras_mask", None) is None) == (real.ndim == 1)
    if real.ndim > 1:
        np.testing.assert_array_equal(output._keras_mask, real)


def check_fully_masked(case):
    layer, arguments = built(case)
    unmasked = flat_arrays(expected_outputs(case))[0]
    tensors = _tensors(arguments)
    for mask in case.masks.values():
        tensors[mask] = tf.constant(np.concatenate([np.zeros_like(tensors[mask][:1]), tensors[mask][1:]]))
    with tf.GradientTape() as tape:
        floats = {name: x for name, x in tensors.items() if x.dtype.is_floating}
        tape.watch(floats)
        output = keras.tree.flatten(call_with(layer, arguments, tensors))[0]
        masked = output[0]
    np.testing.assert_array_equal(masked, 0)
    np.testing.assert_array_equal(output[1:], unmasked[1:])
    sources = [*floats.values(), *(w.value for w in layer.trainable_weights)]
    for gradient in tape.gradient(masked, sources, unconnected_gradients=tf.UnconnectedGradients.ZERO):
        np.testing.assert_array_equal(tf.convert_to_tensor(gradient), 0)


def check_lora(case):
    layer, arguments = build(case)
    plain = case.make()
    plain(**arguments)
    expected = layer(**arguments)
    projections = _projections(layer)
    for projection in projections:
        projection.enable_lora(2)
    _assert_equal(layer(**arguments), expected)
    rng = np.random.default_rng(3)
    for projection in projections:
        projection.lora_kernel_b.assign(rng.normal(size=projection.lora_kernel_b.shape))
    merged = {id(p._kernel): p.kernel for p in projections}
    weights = [w for w in layer.weights if not w.name.startswith("lora")]
    plain.set_weights([np.asarray(merged.get(id(w), w)) for w in weights])
    _assert_close(layer(**arguments), plain(**arguments), 1e-4)


def check_int8(case):
    layer, arguments = build(case)
    expected = flat_arrays(layer(**arguments))
    for projection in _projections(layer):
        projection.quantize("int8")
        assert projection.quantization_mode == "int8"
        assert projection._kernel.dtype == "int8"
    for actual, exact in zip(flat_arrays(layer(**arguments)), expected, strict=True):
        if exact.dtype.kind == "f":
            np.testing.assert_allclose(actual, exact, atol=0.1 * np.abs(exact).max())


def _projections(layer):
    """The layers in `layer` with kernels, all of which must support LoRA and quantisation."""
    owners = [x for x in layer._flatten_layers() if any(w.name == "kernel" for w in x._trainable_variables)]
    assert all(hasattr(owner, "enable_lora") and hasattr(owner, "quantize") for owner in owners)
    return owners


def check_bad_arguments(case):
    layer, arguments = built(case)
    parameters = inspect.signature(layer.call).parameters
    for bad, message in case.bad:
        if bad.keys() <= parameters.keys():
            for called in (layer, case.make()):
                with pytest.raises(ValueError, match=message):
                    called(**{**arguments, **bad})
        else:
            with pytest.raises(ValueError, match=message):
                case.make(**bad)(**arguments)


CHECKS = (
    check_oracle,
    check_gradients,
    check_config,
    check_keras_file,
    check_saved_states,
    check_in_models,
    check_half_precision,
    check_jit,
    check_dynamic_shapes,
    check_empty,
    check_float_masks,
    check_symbolic,
    check_inference,
    check_masked_positions,
    check_padding,
    check_implicit_masks,
    check_fully_masked,
    check_lora,
    check_int8,
    check_bad_arguments,
)
# The attribute that a case needs for a check to apply.
_NEEDS = {
    check_oracle: "oracle",
    check_empty: "empty_sizes",
    check_float_masks: "booleans",
    check_masked_positions: "masks",
    check_padding: "masks",
    check_implicit_masks: "masks",
    check_fully_masked: "masks",
    check_bad_arguments: "bad",
}


def pairs(cases):
    """`(check, case)` parameters for pytest."""
    names = {check.__name__.removeprefix("check_"): check for check in CHECKS}
    assert len({case.name for case in cases}) == len(cases)
    assert all(name in names or name == "export" for case in cases for name in case.exempt)
    return [
        pytest.param(check, case, id=f"{case.name}-{name}")
        for case in cases
        for name, check in names.items()
        if name not in case.exempt and (check not in _NEEDS or getattr(case, _NEEDS[check]))
    ]


def run_check(check, case, tmp_path):
    """Runs a check on a case; passes `tmp_path` to checks that write files."""
    check(case, tmp_path) if "tmp_path" in inspect.signature(check).parameters else check(case)


def build(case, **config):
    """A layer with random weights (initial zeros or ones hide mistakes), and the arguments of a call."""
    layer, arguments = case.make(**config), case.arguments()
    layer(**arguments)
    rng = np.random.default_rng(2)
    layer.set_weights([rng.normal(scale=0.3, size=w.shape) for w in layer.weights])
    return layer, arguments


@functools.lru_cache(maxsize=1)
def built(case):
    """The cached result of `build` for all checks of a case, which must not change the layer."""
    return build(case)


@functools.lru_cache(maxsize=8)
def expected_outputs(case, sizes=SIZES):
    """What the layer of `built` returns for arguments of these sizes."""
    layer, _ = built(case)
    return layer(**case.arguments(sizes))


def named_arrays(arguments):
    """The arrays among the arguments by name; those in tuples as `name_0`, `name_1`, ..."""
    named = {}
    for name, value in arguments.items():
        if isinstance(value, tuple):
            named |= {f"{name}_{i}": array for i, array in enumerate(value)}
        elif isinstance(value, np.ndarray):
            named[name] = value
    return named


def call_with(layer, arguments, tensors):
    """Calls the layer with `tensors`, named as by `named_arrays`, instead of the arrays in the arguments."""
    tensors = {**named_arrays(arguments), **tensors}
    return layer(
        **{
            name: tuple(tensors[f"{name}_{i}"] for i in range(len(value)))
            if isinstance(value, tuple)
            else tensors.get(name, value)
            for name, value in arguments.items()
        }
    )


def _shapes(arguments):
    return {name: (array.shape, array.dtype.name) for name, array in named_arrays(arguments).items()}


def tensor_specs(case):
    """`TensorSpec` of each array; axes that depend on the sizes are dynamic and named after their two sizes."""
    others = named_arrays(case.arguments(OTHER_SIZES))
    return {
        name: TensorSpec(
            tuple(a if a == b else f"axis_{a}_{b}" for a, b in zip(array.shape, others[name].shape, strict=True)),
            array.dtype.name,
        )
        for name, array in named_arrays(case.arguments()).items()
    }


def _free_shapes(case):
    """As `_shapes`, with None for every axis that depends on the sizes."""
    return {name: (spec.shape, spec.dtype) for name, spec in tensor_specs(case).items()}


def _tensors(arguments):
    return {name: tf.constant(array) for name, array in named_arrays(arguments).items()}


def _map_floats(function, arguments):
    return keras.tree.map_structure(
        lambda x: function(x) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x, arguments
    )


def _as_float64(arguments):
    return _map_floats(lambda x: x.astype("float64"), arguments)


def flat_arrays(outputs):
    return [np.asarray(x) for x in keras.tree.flatten(outputs)]


def _over(mask, array):
    """A mask with the rank of an array."""
    return mask.reshape(mask.shape + (1,) * (array.ndim - mask.ndim))


def _assert_equal(actual, expected):
    for a, e in zip(flat_arrays(actual), flat_arrays(expected), strict=True):
        np.testing.assert_array_equal(a, e)


def _assert_close(actual, expected, tolerance):
    for a, e in zip(flat_arrays(actual), flat_arrays(expected), strict=True):
        np.testing.assert_allclose(a, e, rtol=tolerance, atol=tolerance)
