import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attn.training import (
    Checkpoints,
    FusedAdam,
    MaskedAccuracy,
    MaskedCrossEntropy,
    Trainer,
)
from keras_attn.training.data.batch_sharding import untuned

VOCABULARY = 11


def language_model(**settings):
    import keras_attn

    keras.utils.set_random_seed(3)
    return keras_attn.LanguageModel(
        VOCABULARY, num_layers=1, hidden_dim=8, num_heads=2, intermediate_dim=16, **{"dropout": 0.0, **settings}
    )


def small_model(outputs=1, trainable=True):
    inputs = keras.Input((3,))
    return keras.Model(inputs, [keras.layers.Dense(1, trainable=trainable)(inputs) for _ in range(outputs)])


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "bfloat16", "float64"])
@pytest.mark.parametrize("loss", ["mse", keras.losses.Huber()])
def test_losses_of_keras_in_any_precision(loss, policy):
    x, y = np.random.default_rng(1).standard_normal((2, 8, 3)).astype("float32")
    data = tf.data.Dataset.from_tensor_slices((x, y[:, :1], np.arange(8))).batch(4)
    results = []
    for dtype in ("float32", policy):
        inputs = keras.Input((3,), dtype="float32")
        model = keras.Model(inputs, keras.layers.Dense(1, kernel_initializer="ones", dtype=dtype)(inputs))
        history = Trainer(model, keras.optimizers.SGD(0.1), loss).fit(data, 4, validation_data=data).history
        results.append([history["loss"][-1], history["val_loss"][-1]])
    np.testing.assert_allclose(*results, rtol=1e-4 if policy == "float64" else 3e-2)


def batches(count=4, rows=5, length=7, seed=0):
    rng = np.random.default_rng(seed)
    ids = rng.integers(1, VOCABULARY, (count, rows, length + 1), "int32")
    ids[:, 1, length // 2 :] = 0
    return tf.data.Dataset.from_tensor_slices(({"token_ids": ids[:, :, :-1]}, ids[:, :, 1:]))


def test_equals_fit_where_fit_is_right():
    ours, theirs = language_model(), language_model()
    Trainer(ours, keras.optimizers.Adam(1e-2, epsilon=1e-5), MaskedCrossEntropy()).fit(batches(), 6)
    theirs.compile(keras.optimizers.Adam(1e-2, epsilon=1e-5), MaskedCrossEntropy(), jit_compile=False)
    theirs.fit(batches().repeat(), steps_per_epoch=6, epochs=1, shuffle=False, verbose=0)
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6)


def test_inputs_in_a_tuple():
    ids = np.random.default_rng(1).integers(1, VOCABULARY, (6, 5))
    data = tf.data.Dataset.from_tensor_slices(((ids[:, :4], ids[:, 1:]), ids[:, :4])).batch(3)
    results = []
    for train in ("trainer", "fit"):
        keras.utils.set_random_seed(1)
        inputs = keras.Input((4,), dtype="int64"), keras.Input((4,), dtype="int64")
        table = keras.layers.Embedding(VOCABULARY, 8)
        model = keras.Model(inputs, keras.layers.Dense(VOCABULARY)(table(inputs[0]) * table(inputs[1])))
        if train == "trainer":
            Trainer(model, keras.optimizers.SGD(0.1), MaskedCrossEntropy()).fit(data, 2)
        else:
            model.compile(keras.optimizers.SGD(0.1), MaskedCrossEntropy())
            model.fit(data, shuffle=False, verbose=0)
        results.append(model.get_weights())
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_losses_of_keras_and_rows_of_weight():
    x, y = np.random.default_rng(1).standard_normal((2, 3, 5, 4)).astype("float32")
    weights = np.random.default_rng(2).uniform(0.1, 1, (3, 5)).astype("float32")
    results = []
    for train in ("trainer", "fit"):
        keras.utils.set_random_seed(1)
        inputs = keras.Input((4,))
        model = keras.Model(inputs, keras.layers.Dense(4, kernel_regularizer="l2")(inputs))
        loss = keras.losses.MeanSquaredError(reduction="mean_with_sample_weight")
        data = tf.data.Dataset.from_tensor_slices((x, y, weights))
        if train == "trainer":
            Trainer(model, keras.optimizers.SGD(0.1), loss).fit(data, 3)
        else:
            model.compile(keras.optimizers.SGD(0.1), loss)
            model.fit(data, shuffle=False, verbose=0)
        results.append(model.get_weights())
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_accumulated_batches_are_one_batch():
    whole = batches(count=2, rows=4)
    halves = whole.unbatch().batch(2)
    results = []
    for data, steps in ((whole, 1), (halves, 2)):
        model = language_model()
        Trainer(model, keras.optimizers.SGD(0.5), MaskedCrossEntropy(), accumulation_steps=steps).fit(data, 3)
        results.append(model.get_weights())
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_batch_normalization_and_metrics_and_validation():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.BatchNormalization()(inputs)))
    x = np.random.default_rng(1).normal(3, 2, (64, 4)).astype("float32")
    data = tf.data.Dataset.from_tensor_slices((x, x.sum(1, keepdims=True))).batch(16)
    trainer = Trainer(model, keras.optimizers.Adam(0.05), "mse", metrics=[keras.metrics.MeanAbsoluteError(name="mae")])
    history = trainer.fit(data, 400, validation_data=data, validation_freq=200).history
    assert history.keys() == {"loss", "mae", "val_loss", "val_mae", "learning_rate", "grad_norm"}
    np.testing.assert_allclose(model.layers[1].moving_mean, x.mean(0), atol=0.1)
    assert history["val_loss"][-1] < 0.2
    predictions = model.predict(x, verbose=0)
    np.testing.assert_allclose(history["val_mae"][-1], np.abs(predictions - x.sum(1, keepdims=True)).mean(), rtol=1e-5)


def test_validation_has_no_dropout_and_holds_no_logits(monkeypatch):
    model = language_model(dropout=0.5)
    with_logits = Trainer(model, keras.optimizers.SGD(), MaskedCrossEntropy(), [MaskedAccuracy()]).evaluate(batches(2))
    monkeypatch.setattr(model, "call", lambda *_, **__: pytest.fail("it computed all logits"))
    without = Trainer(model, keras.optimizers.SGD(), MaskedCrossEntropy()).evaluate(batches(2))
    assert without["loss"] == pytest.approx(with_logits["loss"], rel=1e-6)


def test_keras_callbacks(tmp_path):
    callbacks = [
        keras.callbacks.EarlyStopping("val_loss", patience=1, min_delta=100.0),
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
        keras.callbacks.TensorBoard(tmp_path / "board"),
        keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", monitor="val_loss", save_best_only=True),
    ]
    model = language_model()
    trainer = Trainer(model, FusedAdam(1e-2), MaskedCrossEntropy(), metrics=[MaskedAccuracy()])
    history = trainer.fit(batches(), 20, callbacks, validation_data=batches(), validation_freq=4).history
    assert len(history["loss"]) == 2
    assert trainer.step == 8
    assert (tmp_path / "log.csv").read_text().count("\n") == 3
    assert list((tmp_path / "board").rglob("events*"))
    assert keras.saving.load_model(tmp_path / "best.keras").count_params() == model.count_params()


def test_dropout_differs_by_step_and_not_by_run():
    def losses():
        keras.utils.set_random_seed(3)
        inputs = keras.Input((99,))
        x = keras.layers.Dropout(0.5)(inputs)
        model = keras.Model(inputs, keras.layers.Dense(1, kernel_initializer="ones")(x))
        x = np.random.default_rng(1).standard_normal((4, 99)).astype("float32")
        data = tf.data.Dataset.from_tensors((x, np.zeros((4, 1), "float32")))
        trainer = Trainer(model, keras.optimizers.SGD(0.0), "mse")
        return trainer.fit(data, 6, validation_freq=1).history["loss"]

    first = losses()
    assert len(set(first)) == 6
    assert first == losses()


def test_half_precision_skips_an_overflow():
    model = language_model(dtype="mixed_float16")
    trainer = Trainer(model, keras.optimizers.Adam(1e-2), MaskedCrossEntropy())
    assert isinstance(trainer.optimizer, keras.optimizers.LossScaleOptimizer)
    trainer.optimizer.dynamic_scale.assign(2.0**40)
    before = model.get_weights()
    trainer.fit(batches(), 1)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert float(trainer.optimizer.dynamic_scale) == 2.0**39
    trainer.optimizer.dynamic_scale.assign(2.0**10)
    losses = trainer.fit(batches(), 40, validation_freq=10).history["loss"]
    assert losses[-1] < losses[0]


def test_moving_averages_are_kerass():
    ours, theirs = language_model(), language_model()
    settings = {"learning_rate": 1e-2, "epsilon": 1e-5, "use_ema": True, "ema_momentum": 0.7}
    Trainer(ours, FusedAdam(**settings), MaskedCrossEntropy()).fit(batches(), 5)
    theirs.compile(keras.optimizers.Adam(**settings), MaskedCrossEntropy(), jit_compile=False)
    theirs.fit(batches().repeat(), steps_per_epoch=5, epochs=1, shuffle=False, verbose=0)
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6)


def test_the_best_weights_outlast_averages():
    stop = keras.callbacks.EarlyStopping("loss", mode="max", patience=2, restore_best_weights=True)
    model = small_model()
    data = tf.data.Dataset.from_tensors((np.ones((4, 3), "float32"), np.ones((4, 1), "float32")))
    Trainer(model, keras.optimizers.SGD(0.1, use_ema=True), "mse").fit(data, 9, [stop], validation_freq=1)
    assert (stop.best_epoch, stop.stopped_epoch) == (0, 2)
    for a, b in zip(model.get_weights(), stop.best_weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_failure_between_two_batches_leaves_no_gradients():
    class Failing:
        def __init__(self, fails):
            self.fails = fails

        def batches(self, start=0, shard=0, num_shards=1):
            for number, batch in enumerate(batches(6).repeat().as_numpy_iterator()):
                if self.fails and number == 3:
                    raise OSError("a disk is gone")
                if number >= start:
                    yield batch

    results = []
    for fails in (False, True):
        trainer = Trainer(language_model(), keras.optimizers.SGD(0.5), MaskedCrossEntropy(), accumulation_steps=2)
        if fails:
            with pytest.raises(OSError, match="a disk is gone"):
                trainer.fit(Failing(True), 3)
            assert trainer.step == 1
        trainer.fit(Failing(False), 3)
        results.append(trainer.model.get_weights())
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", ["int32", "float64"])
def test_a_loss_gets_labels_in_its_dtype(dtype):
    class Squares(keras.losses.Loss):
        def call(self, y_true, y_pred):
            return keras.ops.mean(keras.ops.square(y_pred - y_true), -1)

    data = tf.data.Dataset.from_tensors((np.ones((4, 3), "float32"), np.ones((4, 1), dtype)))
    assert Trainer(small_model(), keras.optimizers.SGD(0.1), Squares()).fit(data, 9).history["loss"][0] < 1


def test_a_loss_that_is_not_finite_names_the_layer():
    model = language_model()
    trainer = Trainer(model, keras.optimizers.SGD(0.1), MaskedCrossEntropy())
    block = model.decoder.blocks[0]
    kernel = next(v for v in block.weights if v.path.endswith("feed_forward/network/output/kernel"))
    value = kernel.numpy()
    kernel.assign(np.full_like(value, 3e38))
    before = model.get_weights()
    with pytest.raises(
        FloatingPointError, match=r"step 0 is not finite: the output of layer 'decoder/.*network/output'"
    ):
        trainer.fit(batches(), 2)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    kernel.assign(np.full_like(value, np.nan))
    with pytest.raises(FloatingPointError, match=r"weights.*output/kernel' are not finite"):
        trainer.fit(batches(), 2)


class Subclassed(keras.Model):
    def __init__(self, layers):
        super().__init__()
        self.all = layers

    def call(self, x):
        for layer in self.all:
            x = layer(x)
        return x


@pytest.mark.parametrize("kind", ["sequential", "nested", "subclassed", "recurrent"])
def test_any_model_names_the_layer(kind):
    layers = [keras.layers.Dense(3, name="first"), keras.layers.Dense(3, name="second"), keras.layers.Dense(3)]
    inputs = keras.Input((4, 3))
    if kind == "sequential":
        model = keras.Sequential([inputs, *layers])
    elif kind == "nested":
        model = keras.Model(inputs, keras.Sequential(layers, name="inner")(inputs))
    elif kind == "subclassed":
        model = Subclassed(layers)
        model(np.ones((1, 4, 3)))
    else:
        layers[1] = keras.layers.RNN(keras.layers.SimpleRNNCell(3, activation=None, name="second"))
        layers[2] = keras.layers.RepeatVector(4)
        model = keras.Sequential([inputs, *layers])
    data = tf.data.Dataset.from_tensors((np.ones((2, 4, 3), "float32"), np.ones((2, 4, 3), "float32")))
    trainer = Trainer(model, keras.optimizers.SGD(0.1), "mse")
    layers[1].weights[0].assign(np.full((3, 3), 3e38))
    layers[0].weights[1].assign(np.full(3, 1e3))
    with pytest.raises(FloatingPointError, match=r"the output of layer '([a-z0-9_]*/)*second'"):
        trainer.fit(data, 1)
    assert not any("call" in vars(layer) for layer in layers)


def test_tf_data_keeps_the_tuner_that_was_asked_for():
    options = tf.data.Options()
    options.autotune.enabled = True
    assert untuned(batches()).options().autotune.enabled is False
    assert untuned(batches().with_options(options)).options().autotune.enabled is True


def test_bad_data():
    trainer = Trainer(language_model(), keras.optimizers.SGD(0.1), MaskedCrossEntropy())

    class Short:
        def batches(self, start=0, shard=0, num_shards=1):
            return iter(list(batches().as_numpy_iterator())[start:2])

    class Empty:
        def batches(self, start=0, shard=0, num_shards=1):
            return iter(())

    with pytest.raises(ValueError, match=r"must hold batches. Received: an empty one"):
        trainer.fit(Empty(), 2)
    with pytest.raises(ValueError, match="empty one"):
        trainer.fit(batches().take(0), 2)
    with pytest.raises(ValueError, match="an end at step 2"):
        trainer.fit(Short(), 5)
    padding = batches().map(lambda x, y: (x, tf.zeros_like(y)))
    with pytest.raises(ValueError, match="padding or weights of 0 alone at step 2"):
        trainer.fit(padding, 5)
    with pytest.raises(ValueError, match="none, or weights of 0 alone"):
        trainer.evaluate(padding)
    foreign = batches().map(lambda x, y: ({"token_ids": x["token_ids"] + VOCABULARY}, y))
    with pytest.raises(ValueError, match=r"`dataset\['token_ids'\]` must hold ids .* 0 to 10. Received: \[1\d, "):
        trainer.fit(foreign, 5)
    for label in (VOCABULARY, -3):
        strange = batches().map(lambda x, y, label=label: (x, tf.where(y == 1, label, y)))
        for jit_compile in (False, True):
            trainer = Trainer(language_model(), FusedAdam(), MaskedCrossEntropy(), jit_compile=jit_compile)
            with pytest.raises(ValueError, match=rf"`dataset labels` must hold ids .* 0 to 10. Received: \[{label}, "):
                trainer.fit(strange, 5)
            with pytest.raises(ValueError, match="`dataset labels` must hold ids"):
                trainer.evaluate(strange)
        with pytest.raises(ValueError, match="`validation_data labels` must hold ids"):
            Trainer(language_model(), FusedAdam(), MaskedCrossEntropy()).fit(batches(), 1, validation_data=strange)
    with pytest.raises(ValueError, match=r"`dataset` .*only inputs"):
        trainer.fit(batches().map(lambda x, y: x), 5)
    wide = batches().map(lambda x, y: (x, y, tf.ones((5, 7, 7))))
    with pytest.raises(ValueError, match=r"labels of shape \(5, 7\) and weights of \(5, 7, 7\)"):
        trainer.fit(wide, 5)
    validated = {"dataset": batches(), "steps": 1}
    for validation, message in (
        (batches().take(0), "`validation_data` must hold tokens that count"),
        (padding, "`validation_data` must hold tokens that count"),
        (batches().map(lambda x, y: x), "`validation_data` must yield .*only inputs"),
        (foreign, r"`validation_data\['token_ids'\]` must hold ids"),
    ):
        with pytest.raises(ValueError, match=message):
            Trainer(language_model(), FusedAdam(), MaskedCrossEntropy()).fit(**validated, validation_data=validation)
    with pytest.raises(ValueError, match="`callbacks` must leave it to `checkpoints`"):
        trainer.fit(batches(), 5, keras.callbacks.BackupAndRestore("folder"))
    with pytest.raises(ValueError, match=r"`dataset` must be a tf.data.Dataset.*Received: a ndarray"):
        trainer.fit(np.ones((2, 3)), 5)
    with pytest.raises(ValueError, match=r"`validation_data` must be a tf.data.Dataset.*Received: a tuple"):
        trainer.fit(batches(), 5, validation_data=(np.ones(2), np.ones(2)))
    with pytest.raises(ValueError, match="`validation_data` must be a finite"):
        trainer.fit(batches(), 5, validation_data=batches().repeat())
    for name in ("steps", "validation_freq"):
        with pytest.raises(ValueError, match=f"`{name}` must be a positive integer. Received: {name}=0"):
            trainer.fit(batches(), **{"steps": 5, name: 0})
    assert trainer.step == 0


class OwnCall(keras.losses.MeanSquaredError):
    def __call__(self, y_true, y_pred, sample_weight=None):
        return 3 * super().__call__(y_true, y_pred, sample_weight)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"accumulation_steps": 0}, "`accumulation_steps`"),
        ({"optimizer": "adam"}, "`optimizer` must be"),
        ({"optimizer": keras.optimizers.SGD(gradient_accumulation_steps=2)}, "`optimizer` must not accumulate"),
        ({"loss": keras.losses.MeanSquaredError(reduction=None)}, "`loss` must have a reduction.*Received: .*None"),
        ({"loss": OwnCall(), "accumulation_steps": 2}, "`loss` must leave `__call__`.* with 2 parts"),
        ({"accumulation_steps": True}, "`accumulation_steps`"),
        ({"loss": None}, "`loss` must be"),
        ({"metrics": [keras.metrics.Mean(), "closeness"]}, "`metrics` must be a list .*Received: 'closeness'"),
        ({"weighted_metrics": [3]}, "`weighted_metrics` must be a list .*Received: 3"),
        ({"strategy": "mirrored"}, "`strategy` must be a tf.distribute.Strategy"),
        ({"checkpoints": "runs"}, "`checkpoints` must be a keras_attn.training.Checkpoints"),
        ({"model": 3}, "`model` must be"),
        ({"model": keras.Sequential()}, "`model` must be a built"),
        ({"model": small_model(trainable=False)}, "`model` must have weights to train"),
        ({"model": small_model(outputs=2)}, "`model` must have one output. Received: one with 2"),
    ],
)
def test_bad_arguments(settings, message):
    model = small_model()
    settings = {"model": model, "optimizer": keras.optimizers.SGD(), "loss": "mse", **settings}
    with pytest.raises(ValueError, match=message):
        Trainer(**settings)


def test_bad_checkpoint_settings(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"`folder` must be a folder.*Received: .*file, a file"):
        Checkpoints(tmp_path / "file")
    with pytest.raises(ValueError, match="`every`"):
        Checkpoints("x", every=0)
    with pytest.raises(ValueError, match="`mode`"):
        Checkpoints("x", mode="least")
