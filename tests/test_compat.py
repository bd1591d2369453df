"""Each private name of Keras, TensorFlow and others in `keras_attn.compat` is there and means what is said of it."""

import contextlib
import threading
import time
import types
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_attn import compat
from keras_attn.export.formats import converter_compat


def dense(units=2, **kwargs):
    layer = keras.layers.Dense(units, **kwargs)
    layer.build((None, 3))
    return layer


def test_unnumbered():
    assert compat.unnumbered("encoder_1/dense_12/kernel") == "encoder/dense/kernel"
    assert compat.unnumbered(f"{dense().name}/x") == "dense/x"


def nested():
    """`(model, inner model, dense layer of the inner model)`."""
    x = keras.Input((3,))
    layer = keras.layers.Dense(2)
    inner = keras.Sequential([layer])
    return keras.Model(x, inner(x)), inner, layer


# Layers.


def test_layers_of():
    model, inner, layer = nested()
    found = compat.layers_of(model)
    assert len(found) == len(set(found))
    assert set(found) >= {model, *model.layers, inner, layer}
    assert set(found) - set(compat.layers_of(model, include_self=False)) == {model}


def test_sublayers_of():
    _, inner, layer = nested()
    assert layer in compat.sublayers_of(inner)
    outer = keras.layers.Wrapper(layer)
    assert list(compat.sublayers_of(outer)) == [layer]


def test_attributes_of():
    layer = keras.layers.Layer()
    layer.held, layer.number = [dense()], 3
    found = compat.attributes_of(layer)
    assert found["held"][0] is layer.held[0]
    assert found["number"] == 3
    assert not any(value is compat.sublayers_of(layer) for value in found.values())


def test_set_untracked():
    layer, held = keras.layers.Layer(), {"a": [dense()]}
    compat.set_untracked(layer, "held", held)
    assert layer.held is held
    assert not layer.weights
    layer.held = held
    assert layer.held is not held
    assert layer.weights


def test_overriding_call():
    layer, x = dense(), np.ones((2, 3), "float32")
    before, attributes = np.array(layer(x)), set(vars(layer))
    with compat.overriding_call(layer, lambda inputs: inputs + 1):
        np.testing.assert_array_equal(layer(x), x + 1)
    np.testing.assert_array_equal(layer(x), before)
    assert set(vars(layer)) == attributes


def test_takes_training():
    assert compat.takes_training(keras.layers.LSTMCell(2))
    assert not compat.takes_training(keras.layers.Reshape((1,)))
    layer = keras.layers.Dropout(0.5)
    with compat.overriding_call(layer, lambda *args, **kwargs: args[0]):
        assert compat.takes_training(layer)


def test_build_hook():
    built = []

    class Base(compat.BuildHook, keras.layers.Layer):
        def after_build(self):
            built.append(hasattr(self, "weight"))

    class Sub(Base):
        def build(self, shape):
            super().build(shape)
            self.weight = self.add_weight(shape=shape[1:])

        def call(self, x):
            return x

    Sub().build((2, 3))
    Sub()(np.ones((2, 3)))
    assert built == [True, True]


def test_before_add_weight():
    seen = []
    with compat.before_add_weight(lambda layer, shape: seen.append((layer, tuple(shape)))):
        layer = dense()
        other = threading.Thread(target=dense)
        other.start()
        other.join()
    dense()
    assert seen == [(layer, (3, 2)), (layer, (2,))]


def test_without_initial_values():
    seen = []
    with compat.without_initial_values(lambda layer, shape: seen.append(tuple(shape)), "ones"):
        layer = dense()
        norm = keras.layers.LayerNormalization()
        norm.build((None, 3))
    assert seen == [(3, 2), (2,), (3,), (3,)]
    np.testing.assert_array_equal(layer.kernel, 1)
    np.testing.assert_array_equal(layer.bias, 0)
    assert np.ptp(np.asarray(dense().kernel)) > 0


# Weights.


def test_own_trainable():
    layer = dense()
    assert compat.own_trainable(layer) is True
    layer.trainable = False
    assert compat.own_trainable(layer) is False
    assert compat.own_trainable(keras.layers.Dense(2, trainable=False)) is False


def test_set_own_trainable():
    _, inner, layer = nested()
    compat.set_own_trainable(inner, False)
    assert (inner.trainable, layer.trainable) == (False, True)
    layer.enable_lora(1)
    for value in (False, True):
        compat.set_own_trainable(layer, value)
        assert (layer.trainable, layer.bias.trainable, layer.lora_kernel_a.trainable) == (value,) * 3
        assert not compat.stored_weights(layer).trainable


def test_replace_weight():
    layer = dense()
    layer.enable_lora(1)
    old, names = layer.lora_kernel_b, [x.name for x in layer.weights]
    compat.replace_weight(layer, "lora_kernel_b", (1, 7), "ones")
    assert sorted(x.name for x in layer.weights) == sorted(names)
    assert not any(x is old for x in layer.weights)
    assert (layer.lora_kernel_b.shape, layer.lora_kernel_b.path) == ((1, 7), old.path)
    np.testing.assert_array_equal(layer.lora_kernel_b, 1)


def test_put_first():
    class Late(keras.layers.Layer):
        def build(self, shape):
            for name in ("scale", "kernel", "shift", "bias"):
                self.add_weight(name=name, shape=())

    layer = Late()
    layer.build((1,))
    compat.put_first(layer, ("kernel", "bias"))
    assert [variable.name for variable in layer.trainable_variables] == ["kernel", "bias", "scale", "shift"]
    assert [variable.name for variable in layer.weights] == ["kernel", "bias", "scale", "shift"]


def test_set_dtype_policy():
    layer = dense()
    compat.set_dtype_policy(layer, keras.dtype_policies.get("int8_from_float32"))
    assert layer.dtype_policy.name == "int8_from_float32"
    assert layer.quantization_mode == "int8"
    assert layer.kernel.dtype == "float32"


def test_build_anew():
    layer = dense()
    compat.set_dtype_policy(layer, keras.dtype_policies.get("int8_from_float32"))
    compat.build_anew(layer)
    quantised = dense()
    quantised.quantize("int8")
    found = [(v.name, v.dtype, tuple(v.shape), v.trainable) for v in layer.variables]
    assert found == [(v.name, v.dtype, tuple(v.shape), v.trainable) for v in quantised.variables]
    assert layer.built
    assert layer.get_build_config() == quantised.get_build_config()
    np.testing.assert_array_equal(layer(np.ones((1, 3))), np.zeros((1, 2)))


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (keras.layers.Dense(2), "kernel"),
        (keras.layers.EinsumDense("ab,bc->ac", 2), "kernel"),
        (keras.layers.Embedding(3, 2), "embeddings"),
        (keras.layers.ReversibleEmbedding(3, 2), "embeddings"),
    ],
    ids=lambda x: type(x).__name__ if not isinstance(x, str) else "",
)
def test_stored_weights(layer, name):
    layer.build((None, 3))
    stored = compat.stored_weights(layer)
    assert any(stored is variable for variable in layer.trainable_variables)
    layer.enable_lora(1)
    getattr(layer, f"lora_{name}_b").assign(np.ones((1, 2)))
    assert compat.stored_weights(layer) is stored
    assert not np.array_equal(getattr(layer, name), stored)


def test_layers_without_stored_weights():
    assert compat.stored_weights(keras.layers.Dropout(0.5)) is None


@pytest.mark.parametrize(
    ("layer", "name", "x"),
    [
        (keras.layers.EinsumDense("ab,bc->ac", 4), "kernel", np.eye(3, dtype="float32")),
        (keras.layers.Embedding(3, 4), "embeddings", np.arange(3)),
    ],
    ids=["kernel", "embeddings"],
)
def test_add_to_quantized(layer, name, x):
    before = np.array(layer(x))
    layer.quantize("int8")
    a, b = np.random.default_rng(0).normal(size=(2, 4)).astype("float32"), np.ones((4, 4), "float32")
    a = np.resize(a, (3, 4))
    attributes = set(vars(layer))
    compat.add_to_quantized(layer, name, a, b, np.float32(0.5))
    np.testing.assert_allclose(layer(x), before + 0.5 * a @ b, atol=0.05)
    assert set(vars(layer)) == attributes
    assert not layer.lora_enabled


# Functional models and tensors.


class Refusing(compat.CloneHook, keras.Model):
    def check_clone(self):
        raise ValueError("no clone")


def test_clone_hook():
    x = keras.Input((3,))
    model = Refusing(x, keras.layers.Dense(2)(x))
    assert model(np.ones((4, 3))).shape == (4, 2)
    with pytest.raises(ValueError, match="no clone"):
        keras.models.clone_model(model)
    with pytest.raises(ValueError, match="no clone"):
        keras.models.clone_model(model, clone_function=lambda layer: layer)


class SumOfBoth(keras.layers.Layer):
    def call(self, x, y=None):
        return x if y is None else x + y


def test_symbolic_outputs():
    x, y = keras.Input((3,), name="x"), keras.Input((3,), name="y", optional=True)
    model = keras.Model({"x": x, "y": y}, SumOfBoth()(x, y))
    for shape in ((None, 3), (5, 3)):
        outputs = compat.symbolic_outputs(model, {"x": keras.KerasTensor(shape), "y": None})
        assert isinstance(outputs, keras.KerasTensor)
        assert outputs.shape == shape


def test_operation_of_a_tensor_and_its_inputs():
    x, layer = keras.Input((3,), name="x"), keras.layers.Dense(3)
    first = layer(x)
    second = layer(first)
    assert compat.operation_of(second) is layer
    assert isinstance(compat.operation_of(x), keras.layers.InputLayer)
    assert compat.operation_inputs(first)[0] is x
    assert compat.operation_inputs(second)[0] is first


def test_keras_mask():
    ids = np.array([[1, 0]])
    vectors = keras.layers.Embedding(3, 2, mask_zero=True)(ids)
    np.testing.assert_array_equal(compat.keras_mask(vectors), [[True, False]])
    assert compat.keras_mask(vectors + 1) is None


def test_attach_keras_mask():
    class Masks(keras.layers.Layer):
        supports_masking = True

        def call(self, x, mask=None):
            return ops.cast(mask, "int32")

    x = ops.ones((1, 2, 2))
    compat.attach_keras_mask(x, ops.array([[True, False]]))
    np.testing.assert_array_equal(Masks()(x), [[1, 0]])
    compat.attach_keras_mask(object(), None)


# Scopes and random numbers.


def test_current_stateless_scope():
    assert compat.current_stateless_scope() is None
    with keras.StatelessScope() as scope:
        assert compat.current_stateless_scope() is scope
        assert scope.state_mapping == {}
    assert compat.current_stateless_scope() is None


def test_random_seed():
    keras.utils.set_random_seed(57)
    assert compat.random_seed() == 57


@pytest.mark.parametrize("jit_compile", [False, True])
def test_in_xla_context(jit_compile):
    found = []

    @tf.function(jit_compile=jit_compile, autograph=False)
    def outer(x):
        found.append(compat.in_xla_context())
        return tf.while_loop(
            lambda x: x < 3.0, lambda x: [x + float(found.append(compat.in_xla_context()) is None)], [x]
        )

    outer(tf.constant(0.0))
    assert set(found) == {jit_compile}


# Losses, metrics and callbacks.


def test_function_arguments():
    assert compat.function_arguments(keras.losses.Huber(delta=0.25))["delta"] == 0.25
    assert compat.function_arguments(keras.metrics.BinaryAccuracy(threshold=0.25))["threshold"] == 0.25
    assert compat.function_arguments(keras.metrics.Mean()) == {}
    assert compat.function_arguments(len) == {}


@pytest.mark.parametrize(
    "metric",
    [keras.metrics.AUC(multi_label=True), keras.metrics.R2Score(), keras.metrics.FBetaScore(average=None)],
    ids=lambda metric: metric.name,
)
def test_is_built(metric):
    before = len(metric.variables)
    assert not compat.is_built(metric)
    metric.update_state(np.ones((2, 3)), np.ones((2, 3)))
    assert compat.is_built(metric)
    assert len(metric.variables) > before


def test_metrics_that_are_built_at_once():
    assert compat.is_built(keras.metrics.Mean())


def fitted(callback, epochs=2, **kwargs):
    """The callback after a fit in which the loss is 0."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.compile(keras.optimizers.SGD(0.0, **kwargs), "mse", run_eagerly=True)
    data = np.zeros((4, 1), "float32")
    model.fit(data, data, batch_size=1, epochs=epochs, verbose=0, callbacks=[callback])
    return callback


def test_callback_state_of_early_stopping():
    callback = fitted(keras.callbacks.EarlyStopping("loss", patience=5, restore_best_weights=True), epochs=3)
    state = {name: getattr(callback, name) for name in compat.callback_state(callback)}
    assert isinstance(state.pop("best_weights"), list)
    assert state == {"best": 0.0, "best_epoch": 0, "wait": 2, "stopped_epoch": 0}


def test_callback_state_of_a_model_checkpoint(tmp_path):
    callback = fitted(keras.callbacks.ModelCheckpoint(tmp_path / "model.keras", "loss", save_freq=3), epochs=1)
    names = compat.callback_state(callback)
    assert all(hasattr(callback, name) for name in names)
    assert [getattr(callback, name) for name in names if name != "best"] == [1, 3]


def test_callback_state_of_a_plateau():
    callback = fitted(keras.callbacks.ReduceLROnPlateau("loss", patience=9), epochs=3)
    state = {name: getattr(callback, name) for name in compat.callback_state(callback)}
    assert state == {"best": 0.0, "wait": 2, "cooldown_counter": 0}


def test_callback_state_of_swapped_averages():
    callback = fitted(keras.callbacks.SwapEMAWeights(), use_ema=True)
    (name,) = compat.callback_state(callback)
    assert getattr(callback, name) is False
    callback.on_test_begin()
    assert getattr(callback, name) is True


def test_callbacks_without_a_state():
    assert compat.callback_state(keras.callbacks.History()) == ()


@pytest.mark.parametrize("callback", [keras.callbacks.EarlyStopping, keras.callbacks.ReduceLROnPlateau])
@pytest.mark.parametrize(("mode", "expected"), [("min", "less"), ("max", "greater")])
def test_set_monitor_op(callback, mode, expected):
    callback = callback("loss", mode=mode)
    callback.set_model(keras.Sequential())
    callback.monitor_op = None
    compat.set_monitor_op(callback)
    assert callback.monitor_op.__name__ == expected


# Optimizers.


def test_update_hooks():
    seen = []

    class Optimizer(compat.UpdateHooks, keras.optimizers.SGD):
        def prepared_rate(self, learning_rate):
            return learning_rate, "prepared"

        def update_step(self, gradient, variable, learning_rate):
            seen.append(learning_rate)

    variable, gradient = keras.Variable(np.ones(2, "float32")), ops.zeros(2)
    optimizer = Optimizer(0.5, weight_decay=0.1)
    optimizer.apply([gradient], [variable])
    assert float(seen[0][0]) == 0.5
    assert seen[0][1] == "prepared"
    np.testing.assert_allclose(variable, 0.95)
    Optimizer.decays_in_update_step = True
    optimizer.apply([gradient], [variable])
    np.testing.assert_allclose(variable, 0.95)


def test_the_hooks_change_no_update():
    class Optimizer(compat.UpdateHooks, keras.optimizers.SGD):
        pass

    found = []
    for optimizer in (Optimizer(0.5, weight_decay=0.1), keras.optimizers.SGD(0.5, weight_decay=0.1)):
        variable = keras.Variable(np.ones(2, "float32"))
        optimizer.apply([ops.ones(2)], [variable])
        found.append(np.array(variable))
    np.testing.assert_array_equal(*found)


def test_is_decayed():
    optimizer = keras.optimizers.AdamW(weight_decay=0.1)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    layer = dense()
    optimizer.build(layer.trainable_variables)
    assert compat.is_decayed(optimizer, layer.kernel)
    assert not compat.is_decayed(optimizer, layer.bias)


def test_adam_moments():
    layer, optimizer = dense(), keras.optimizers.Adam(beta_1=0.75, beta_2=0.5)
    optimizer.apply([ops.ones((3, 2)), ops.full((2,), 2.0)], layer.trainable_variables)
    for variable, first, second in ((layer.kernel, 0.25, 0.5), (layer.bias, 0.5, 2.0)):
        m, v = compat.adam_moments(optimizer, variable)
        np.testing.assert_allclose(m, np.full(variable.shape, first))
        np.testing.assert_allclose(v, np.full(variable.shape, second))


def test_without_all_reduce():
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        variable, optimizer = keras.Variable(0.0), keras.optimizers.SGD(1.0)
        optimizer.build([variable])
    reduced = []

    def all_reduce(context, op, tensors):
        reduced.append(op)
        return tensors

    patch = pytest.MonkeyPatch()
    patch.setattr(tf.distribute.ReplicaContext, "all_reduce", all_reduce)
    try:
        attributes = set(vars(optimizer))
        with compat.without_all_reduce(optimizer):
            strategy.run(lambda: optimizer.apply([tf.constant(1.0)]))
        assert not reduced
        assert float(variable.value.values[0]) == -1.0
        assert set(vars(optimizer)) == attributes
        strategy.run(lambda: optimizer.apply([tf.constant(1.0)]))
        assert reduced == [tf.distribute.ReduceOp.SUM]
    finally:
        patch.undo()


def test_moving_averages():
    layer, optimizer = dense(), keras.optimizers.SGD(0.0, use_ema=True)
    optimizer.apply([ops.ones((3, 2)), ops.ones((2,))], layer.trainable_variables)
    for average, variable in zip(compat.moving_averages(optimizer), layer.trainable_variables, strict=True):
        np.testing.assert_allclose(average, variable)


def test_strategy_of():
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        assert compat.strategy_of(keras.optimizers.Adam()) is strategy
    assert compat.strategy_of(keras.optimizers.Adam()) is not strategy


# TensorFlow.


@pytest.mark.parametrize("is_allowed", [False, True])
def test_allow_retracing(is_allowed, caplog, monkeypatch):
    monkeypatch.setattr(tf.get_logger(), "propagate", True)
    monkeypatch.setattr(tf.get_logger(), "level", 0)
    function = tf.function(lambda x: x, autograph=False)
    if is_allowed:
        compat.allow_retracing(function)
    for size in range(8):
        function(tf.zeros(size))
    assert ("triggered tf.function retracing" not in caplog.text) is is_allowed


def test_lookup_tables_of():
    (table,) = compat.lookup_tables_of(keras.layers.StringLookup(vocabulary=["a", "b"]))
    assert isinstance(table, tf.lookup.StaticHashTable | tf.lookup.experimental.DenseHashTable)
    assert not compat.lookup_tables_of(dense())


def tflite():
    """A `.tflite` file of a product and a tanh."""
    kernel = tf.random.stateless_normal((8, 8), (0, 1))
    spec = tf.TensorSpec((2, 8), name="x")
    function = tf.function(lambda x: {"y": tf.tanh(x @ kernel)}, autograph=False).get_concrete_function(spec)
    return tf.lite.TFLiteConverter.from_concrete_functions([function], tf.Module()).convert()


def test_tflite_calibration_and_quantization():
    from keras_attn.export.formats.tflite import graphs

    values = np.linspace(-3, 4, 16, dtype="float32").reshape(2, 8)
    calibrated = bytes(converter_compat.calibrate_tflite(tflite(), [("serving_default", {"x": values})]))
    _, model = graphs.unpacked(calibrated)
    tensor = model.subgraphs[0].tensors[model.subgraphs[0].inputs[0]]
    assert (tensor.quantization.min[0], tensor.quantization.max[0]) == (-3, 4)
    content = bytes(converter_compat.quantize_tflite(calibrated, ["TANH"], []))
    schema, model = graphs.unpacked(content)
    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
    dtypes = {}
    for operator in model.subgraphs[0].operators:
        name = names[model.operatorCodes[operator.opcodeIndex].builtinCode]
        dtypes[name] = model.subgraphs[0].tensors[operator.inputs[0]].type
    assert dtypes["FULLY_CONNECTED"] == schema.TensorType.INT8
    assert dtypes["TANH"] == schema.TensorType.FLOAT32
    assert tensor.type == model.subgraphs[0].tensors[model.subgraphs[0].inputs[0]].type == schema.TensorType.FLOAT32


def test_tflite_converter(tmp_path, monkeypatch):
    from tensorflow.lite.python import lite

    from keras_attn.export.formats.tflite import graphs

    module = tf.Module()
    module.kernel = tf.Variable(np.ones((3, 5)), dtype="float32")
    spec = tf.TensorSpec((None, 3), name="x")
    calls = {"product": lambda x: {"y": x @ module.kernel}, "both": lambda x: {"y": tf.tanh(x @ module.kernel)}}
    functions = {name: tf.function(call).get_concrete_function(spec) for name, call in calls.items()}
    tf.saved_model.save(module, str(tmp_path), signatures=functions)
    known = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path), signature_keys=[*functions]).convert()
    monkeypatch.setattr(lite, "_load", lambda *_: pytest.fail("the SavedModel is loaded"))
    made = converter_compat.tflite_converter(str(tmp_path), [*functions]).convert()
    assert graphs.operators(made) == graphs.operators(known)
    assert graphs.signatures(made) == graphs.signatures(known)
    assert graphs.constants(made) == graphs.constants(known)
    assert len(made) == len(known)


# tf2onnx.


def onnx_graph(function):
    """What tf2onnx makes of a function of a 2 x 3 matrix."""
    from tf2onnx import tfonnx

    concrete = tf.function(function, autograph=False).get_concrete_function(tf.TensorSpec((2, 3), name="x"))
    ends = {"input_names": [concrete.inputs[0].name], "output_names": [concrete.outputs[0].name]}
    frozen = converter_compat.frozen_graph(concrete, **ends)
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(frozen, name="")
        return tfonnx.process_tf_graph(graph, opset=18, **ends)


def test_frozen_graph():
    from tf2onnx import tf_loader

    kernel = tf.Variable(np.arange(15.0).reshape(3, 5), dtype="float32")

    def function(x):
        steps = tf.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, tf.tanh(y + kernel[0, 0])), (0, x @ kernel))
        return {"y": steps[1]}

    concrete = tf.function(function, autograph=False).get_concrete_function(tf.TensorSpec((None, 3), name="x"))
    ends = {"input_names": ["x:0"], "output_names": [concrete.outputs[0].name]}
    made, known = converter_compat.frozen_graph(concrete, **ends), tf_loader.from_function(concrete, **ends)

    def contents(graph):
        nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
        return sorted((node.op, node.attr["value"].tensor.tensor_content) for node in nodes)

    assert "While" in str(contents(made))
    assert "VarHandleOp" not in str(contents(made))
    assert contents(made) == contents(known)


def test_tf2onnx_passes():
    graph = onnx_graph(lambda x: tf.transpose(tf.transpose(x)))
    assert sum(node.type == "Transpose" for node in graph.get_nodes()) == 2
    changed = []
    for optimization in converter_compat.tf2onnx_passes():
        optimization.opt_iteration = 0
        graph = converter_compat.run_pass(optimization, graph)
        changed.append(optimization.graph_been_opt)
    graph.delete_unused_nodes(graph.outputs)
    assert any(changed)
    assert not any(node.type == "Transpose" for node in graph.get_nodes())


def test_copying_conditions_alone(monkeypatch):
    from tf2onnx.graph import Node

    def loop(x):
        x = tf.matmul(x, tf.reshape(x, (3, 2)))
        return tf.while_loop(lambda y: tf.reduce_sum(y) < 8, lambda y: [y + 1], [x])[0]

    def reduced(node, protocol):
        nodes.append(node.type)
        return object.__reduce_ex__(node, protocol)

    nodes, counts = [], []
    monkeypatch.setattr(Node, "__reduce_ex__", reduced)
    for scope in (contextlib.nullcontext, converter_compat.copying_conditions_alone):
        nodes.clear()
        with scope():
            onnx_graph(loop)
        counts.append((nodes.count("MatMul"), nodes.count("ReduceSum")))
    # The condition is copied to before the loop and into it.
    assert counts == [(2, 3), (0, 2)]


def test_ops_that_tf2onnx_lacks(caplog):
    with converter_compat.ops_that_tf2onnx_lacks() as lacking:
        onnx_graph(tf.tanh)
        assert lacking == set()
        onnx_graph(lambda x: tf.math.igamma(x, x))
    assert lacking == {"Igamma"}
    assert not [record for record in caplog.records if record.name.startswith("tf2onnx")]


# Protocol buffers.


def test_protobuf_implementation(monkeypatch):
    found = compat.protobuf_implementation()
    assert found == "upb"
    assert "google._upb._message" in {base.__module__ for base in tf.compat.v1.GraphDef.__mro__}
    monkeypatch.setenv("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python")
    assert compat.protobuf_implementation() == found


# Archives.


@pytest.mark.parametrize("year", [1970, 2026, 2120])
def test_years_of_archives(year, tmp_path, monkeypatch):
    monkeypatch.setattr(time, "localtime", lambda *_: types.SimpleNamespace(tm_year=year))
    before = zipfile.time
    with compat.years_of_archives():
        if 1980 <= year <= 2107:
            assert zipfile.time is before
        else:
            with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
                archive.writestr("a", "a")
            assert zipfile.ZipFile(tmp_path / "a.zip").read("a") == b"a"
    assert zipfile.time is before
