"""Fused optimizers are Keras' own, in fewer operations."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from training_processes import run_script

from keras_attn.training import FusedAdam, FusedAdamW, LinearSchedule

PAIRS = {FusedAdam: keras.optimizers.Adam, FusedAdamW: keras.optimizers.AdamW}
SHAPES = ((7, 5), (5, 3), (3,))
STEPS = 20


def gradients_of(step, sparse=False):
    rng = np.random.default_rng(step)
    dense = [tf.constant(rng.standard_normal(shape), "float32") for shape in SHAPES]
    rows = tf.constant(rng.permutation(7)[:4], "int32")
    if not sparse:
        return dense
    return [tf.IndexedSlices(tf.gather(dense[0], rows), rows, tf.constant([7, 5])), *dense[1:]]


def trained(optimizer, mode="eager", sparse=False, dtype="float32", steps=STEPS):
    """Weights after some steps, those of the optimizer behind."""
    rng = np.random.default_rng(3)
    variables = [keras.Variable(rng.standard_normal(shape), dtype=dtype, name=f"v{len(shape)}") for shape in SHAPES]
    optimizer.build(variables)

    def apply(*gradients):
        optimizer.apply(gradients, variables)

    if mode != "eager":
        apply = tf.function(apply, jit_compile=mode == "xla")
    for step in range(steps):
        apply(*gradients_of(step, sparse))
    own = optimizer.inner_optimizer if hasattr(optimizer, "inner_optimizer") else optimizer
    return [np.asarray(v.numpy(), "float64") for v in (*variables, *own.variables)]


def assert_same(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("fused", PAIRS)
@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
@pytest.mark.parametrize("sparse", [False, True])
def test_twenty_steps(fused, mode, sparse):
    arguments = {"learning_rate": 0.01, "beta_2": 0.98, "epsilon": 1e-4}
    assert_same(trained(fused(**arguments), mode, sparse), trained(PAIRS[fused](**arguments), "eager", sparse))


def test_a_row_that_is_there_twice_counts_as_its_sum():
    table = np.random.default_rng(3).standard_normal((7, 5)).astype("float32")
    results = []
    for optimizer, sparse in ((FusedAdam(1e-3), True), (keras.optimizers.Adam(1e-3), False)):
        variable = keras.Variable(table)
        for step in range(1, STEPS + 1):
            gradient = tf.IndexedSlices(tf.constant(step / table[:4]), tf.constant([2, 5, 2, 2]), tf.constant([7, 5]))
            optimizer.apply([gradient if sparse else tf.convert_to_tensor(gradient)], [variable])
        results.append(variable.numpy())
    np.testing.assert_allclose(*results, atol=1e-6)


@pytest.mark.parametrize(
    "arguments",
    [
        {"weight_decay": 0.1},
        {"clipnorm": 0.5},
        {"clipvalue": 0.3},
        {"global_clipnorm": 0.7},
        {"use_ema": True, "ema_momentum": 0.9, "ema_overwrite_frequency": 7},
        {"gradient_accumulation_steps": 3},
        {"amsgrad": True},
        {"loss_scale_factor": 4.0},
        {"learning_rate": LinearSchedule(0.01, 15, 5)},
    ],
    ids=lambda arguments: next(iter(arguments)),
)
def test_every_argument_of_keras(arguments):
    assert_same(trained(FusedAdam(**arguments), "graph"), trained(keras.optimizers.Adam(**arguments), "graph"))


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_variables_of_other_dtypes_are_updated_as_in_keras(dtype):
    arguments = {"learning_rate": 0.25, "beta_1": 0.5, "beta_2": 0.75, "epsilon": 0.125}
    ours, theirs = (trained(kind(**arguments), dtype=dtype) for kind in (FusedAdam, keras.optimizers.Adam))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


def test_excluded_variables_do_not_decay():
    def make(kind):
        optimizer = kind(0.01, weight_decay=0.5)
        optimizer.exclude_from_weight_decay(var_names=["v1"])
        return optimizer

    ours = trained(make(FusedAdamW))
    assert_same(ours, trained(make(keras.optimizers.AdamW)))
    assert_same(ours[2:3], trained(keras.optimizers.Adam(0.01))[2:3])


def test_a_scaled_loss():
    ours, theirs = (
        trained(keras.optimizers.LossScaleOptimizer(kind(0.01), initial_scale=8.0, dynamic_growth_steps=4), "graph")
        for kind in (FusedAdam, keras.optimizers.Adam)
    )
    assert_same(ours, theirs)


@pytest.mark.parametrize("fused", PAIRS)
def test_interface_config_and_weights_are_those_of_keras(fused):
    arguments = {"learning_rate": 0.02, "beta_1": 0.8, "weight_decay": 0.1, "global_clipnorm": 3.0, "name": "adam"}
    ours, theirs = fused(**arguments), PAIRS[fused](**arguments)
    assert isinstance(ours, PAIRS[fused])
    assert ours.get_config() == theirs.get_config()
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(ours))
    assert type(copy) is fused
    assert copy.get_config() == ours.get_config()
    variables = [keras.Variable(np.zeros(shape), name=f"v{i}") for i, shape in enumerate(SHAPES)]
    for optimizer in (ours, theirs):
        optimizer.build(variables)
    assert [(v.path, v.shape) for v in ours.variables] == [(v.path, v.shape) for v in theirs.variables]


def test_a_compiled_model_goes_on_training_from_a_file(tmp_path):
    rng = np.random.default_rng(5)
    ids, labels = rng.integers(0, 11, (8, 5)), rng.integers(0, 3, 8)
    model = keras.Sequential(
        [keras.layers.Embedding(11, 4), keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(3)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(FusedAdamW(0.01, global_clipnorm=1.0), loss, jit_compile=True)
    model.fit(ids, labels, epochs=2, verbose=0, shuffle=False)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded.optimizer) is FusedAdamW
    for m in (model, loaded):
        m.fit(ids, labels, epochs=2, verbose=0, shuffle=False)
    states = [[*m.weights, *m.optimizer.variables] for m in (model, loaded)]
    for a, b in zip(*states, strict=True):
        np.testing.assert_array_equal(a, b)


def test_one_operation_a_variable():
    def count(optimizer, size):
        variables = [keras.Variable(np.zeros(3, "float32")) for _ in range(size)]
        optimizer.build(variables)
        graph = tf.function(lambda *gradients: optimizer.apply(gradients, variables)).get_concrete_function(
            *[tf.TensorSpec((3,))] * size
        )
        operations = [op.type for op in graph.graph.get_operations() if op.type not in ("Placeholder", "NoOp")]
        assert operations.count("ResourceApplyAdam") == size
        return len(operations)

    # The update itself, the three resources that it is given, and what the strategy passes the gradient through.
    assert count(FusedAdam(), 7) - count(FusedAdam(), 5) <= 2 * 6


def test_on_two_replicas():
    script = """
import keras, numpy as np, tensorflow as tf
from keras_attn.training import FusedAdam, FusedAdamW
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
table, rows = np.arange(21.0).reshape(7, 3) / 7, tf.constant([[1, 1], [4, 6]])
strategy = tf.distribute.MirroredStrategy(["cpu:0", "cpu:1"])
for fused, plain in ((FusedAdam, keras.optimizers.Adam), (FusedAdamW, keras.optimizers.AdamW)):
    results = []
    for kind in (fused, plain):
        with strategy.scope():
            embedding, weight = keras.Variable(table, dtype="float32"), keras.Variable(np.ones((3, 2), "float32"))
            optimizer = kind(1e-3, beta_2=0.96875)
            optimizer.build([embedding, weight])

        def step(scale):
            index = rows[tf.distribute.get_replica_context().replica_id_in_sync_group]
            with tf.GradientTape() as tape:
                loss = scale * tf.reduce_sum(tf.sin(tf.gather(embedding.value, index) @ weight.value))
            gradients = tape.gradient(loss, [embedding.value, weight.value])
            if kind is plain:
                gradients[0] = tf.convert_to_tensor(gradients[0])
            optimizer.apply(gradients, [embedding, weight])

        run = tf.function(lambda scale: strategy.run(step, (scale,)))
        for i in range(20):
            run(tf.constant(1.0 + i))
        replicas = [v.value.values for v in (embedding, weight, *optimizer.variables[2:])]
        for one, other in replicas:
            np.testing.assert_array_equal(one, other)
        results.append([np.asarray(one) for one, _ in replicas])
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)
print("equal")
"""
    result = run_script(script)
    assert result.stdout.endswith("equal\n"), result.stderr
