"""Kernels become sparse during training."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_attn
from keras_attn import compat
from keras_attn.training import Checkpoints, MaskedCrossEntropy, Trainer
from keras_attn.training.pruning import MagnitudePruning


def model(**settings):
    keras.utils.set_random_seed(0)
    settings = {"head": "sequence_classification", "num_classes": 3, "dropout": 0.1} | settings
    return keras_attn.EncoderModel(20, 1, 8, 2, 16, **settings)


def rows(count=32):
    ids = np.random.default_rng(1).integers(1, 20, (count, 6)).astype("int32")
    return tf.data.Dataset.from_tensor_slices(({"token_ids": ids}, ids[:, 0] % 3)).batch(8)


def kernels(one):
    """The kernels as matrices from inputs to outputs, by path."""
    found = {}
    for variable in one.variables:
        if variable.path.endswith("/kernel"):
            value = np.asarray(variable)
            # Heads are outputs, but inputs of the projection behind attention.
            rows = value.shape[0] * value.shape[1] if "attention/output" in variable.path and value.ndim == 3 else 8
            found[variable.path] = value.reshape(16 if value.shape == (16, 8) else rows, -1)
    return found


def trained(steps=12, folder=None, **settings):
    one = model()
    settings = {"sparsity": 0.75, "end": 8, "every": 3} | settings
    pruning = MagnitudePruning(**settings)
    checkpoints = None if folder is None else Checkpoints(folder, every=5)
    trainer = Trainer(one, keras.optimizers.Adam(1e-2), MaskedCrossEntropy(), checkpoints=checkpoints)
    trainer.fit(rows(), steps, [pruning])
    return one, pruning


def test_the_schedule():
    pruning = MagnitudePruning(0.8, end=110, begin=10)
    assert [pruning.sparsity_at(step) for step in (0, 10, 110, 500)] == [0, 0, 0.8, 0.8]
    assert pruning.sparsity_at(60) == pytest.approx(0.8 * (1 - 0.5**3))


@pytest.mark.parametrize("scores", ["magnitude", "movement"])
def test_single_weights(scores):
    one, _ = trained(scores=scores)
    found = kernels(one)
    assert len(found) == 8
    for matrix in found.values():
        assert (matrix == 0).mean() == pytest.approx(0.75, abs=0.5 / matrix.size)


def test_two_of_four():
    one, _ = trained(pattern="2:4", sparsity=0.5)
    for matrix in kernels(one).values():
        zeros = (matrix.reshape(-1, 4, matrix.shape[1]) == 0).sum(axis=1)
        assert (zeros == 2).all()


def test_blocks():
    one, _ = trained(pattern=(4, 2), sparsity=0.5, layers="encoder/*")
    for path, matrix in kernels(one).items():
        zeros = (matrix == 0).reshape(matrix.shape[0] // 4, 4, -1, 2).sum(axis=(1, 3)) if "encoder" in path else 0
        assert set(np.unique(zeros)) == ({0, 8} if "encoder" in path else {0})
        assert (matrix == 0).mean() == (0.5 if "encoder" in path else 0)


def test_the_smallest_go_and_stay_zero():
    one = model()
    pruning = MagnitudePruning(0.5, end=1, every=1)
    pruning.set_model(one)
    pruning.set_params({"steps": 10})
    pruning.on_train_begin()
    pruning.on_epoch_begin(0)
    before = kernels(one)
    pruning.on_train_batch_begin(0)
    pruning.on_train_batch_end(0)
    for path, matrix in kernels(one).items():
        sizes = np.abs(before[path])
        kept = matrix != 0
        assert sizes[kept].min() >= sizes[~kept].max()
        np.testing.assert_array_equal(matrix[kept], before[path][kept])
    zero = {path: matrix == 0 for path, matrix in kernels(one).items()}
    for kernel, _ in pruning._kernels:
        kernel.assign(np.asarray(kernel) + 1)
    pruning.on_train_batch_begin(1)
    pruning.on_train_batch_end(1)
    for path, matrix in kernels(one).items():
        np.testing.assert_array_equal(matrix == 0, zero[path])


def test_movement_keeps_what_moves_away_from_zero():
    inputs = keras.Input((1,))
    one = keras.Model(inputs, keras.layers.Dense(4, use_bias=False)(inputs))
    one.layers[1].kernel.assign([[0.1, 0.1, -9.0, 5.0]])
    pruning = MagnitudePruning(0.5, end=2, every=2, scores="movement")
    pruning.set_model(one)
    pruning.on_train_begin()
    for batch, change in enumerate(([0.2, -0.2, 1.0, -1.0], [0.2, 0.1, 1.0, 0.5])):
        pruning.on_train_batch_begin(batch)
        one.layers[1].kernel.assign_add([change])
        pruning.on_train_batch_end(batch)
    # 0.1 * 0.2 + 0.3 * 0.2, 0.1 * -0.2 - 0.1 * 0.1, ...
    np.testing.assert_allclose(pruning.movements[0], [[0.08, -0.03, -17.0, -3.0]], rtol=1e-5)
    np.testing.assert_allclose(np.asarray(one.layers[1].kernel), [[0.5, 0, 0, 0]])


@pytest.mark.parametrize("scores", ["magnitude", "movement"])
def test_a_resumed_run_is_the_same(scores, tmp_path):
    whole, _ = trained(scores=scores, folder=tmp_path / "whole")
    trained(steps=5, scores=scores, folder=tmp_path / "parts")
    parts, pruning = trained(scores=scores, folder=tmp_path / "parts")
    assert pruning.pruned_to == 0.75
    for x, y in zip(whole.get_weights(), parts.get_weights(), strict=True):
        np.testing.assert_array_equal(x, y)


def test_an_end_that_training_does_not_reach():
    with pytest.warns(UserWarning, match="ended before `end`, step 8, with 71% of zeros instead of 75%"):
        trained(steps=5, every=1)


def test_fit_of_keras():
    one = model()
    one.compile(keras.optimizers.Adam(1e-2), MaskedCrossEntropy(), jit_compile=False)
    one.fit(rows(), epochs=3, verbose=0, callbacks=[MagnitudePruning(0.5, end=6, every=2)])
    for matrix in kernels(one).values():
        assert (matrix == 0).mean() == pytest.approx(0.5, abs=0.5 / matrix.size)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sparsity": 1.0}, "`sparsity` must be above 0 and below 1"),
        ({"sparsity": float("nan")}, "`sparsity` must be a finite number"),
        ({"begin": 8}, "`end` must be after `begin`. Received: begin=8, end=8"),
        ({"every": 0}, "`every`"),
        ({"scores": "size"}, "`scores` must be 'magnitude' or 'movement'"),
        ({"pattern": "2:4"}, "`sparsity` must be 0.5 with pattern='2:4'"),
        ({"pattern": "4:8"}, "`pattern` must be 'unstructured', '2:4' or the sizes"),
        ({"pattern": (0, 4)}, "inputs_of_pattern"),
        ({"pattern": (3, 1)}, r"`pattern` must divide the kernels.*with \(16, 8\)"),
        ({"pattern": 4}, "`pattern` must be 'unstructured', '2:4' or the sizes"),
        ({"sparsity": "0.5"}, "`sparsity` must be a finite number"),
        ({"layers": None}, "`layers` must be patterns of paths"),
        ({"layers": ["*/nowhere/*"]}, "`layers` must match trainable kernels of the model, such as"),
    ],
)
def test_bad_arguments(settings, message):
    with pytest.raises(ValueError, match=message):
        trained(steps=1, **settings)


def test_lora_must_be_merged_first():
    one = model()
    keras_attn.pretrained.enable_lora(one, 2)
    pruning = MagnitudePruning(0.5, end=6)
    pruning.set_model(one)
    with pytest.raises(ValueError, match="`layers` must match layers with trainable float kernels"):
        pruning.on_train_begin()


def shares(one):
    return {path: float((matrix == 0).mean()) for path, matrix in kernels(one).items()}


@pytest.mark.parametrize("keras_fit", [False, True])
def test_averages_of_the_weights_have_the_zeros_too(keras_fit):
    one, pruning = model(), MagnitudePruning(0.5, end=6, every=2)
    optimizer, data = keras.optimizers.Adam(1e-2, use_ema=True, ema_momentum=0.9), rows().repeat()
    if keras_fit:
        one.compile(optimizer, MaskedCrossEntropy(), jit_compile=False)
        one.fit(data, steps_per_epoch=8, verbose=0, callbacks=[pruning])
    else:
        Trainer(one, optimizer, MaskedCrossEntropy()).fit(data, 8, [pruning])
    assert set(shares(one).values()) == {0.5}
    averages = dict(zip([v.path for v in one.trainable_variables], compat.moving_averages(optimizer), strict=True))
    for (kernel, _), mask in zip(pruning._kernels, pruning.masks, strict=True):
        assert not np.asarray(averages[kernel.path])[~mask].any()


def test_restored_weights_are_masked():
    one = model()
    stopping = keras.callbacks.EarlyStopping("loss", patience=0, min_delta=9, start_from_epoch=1)
    stopping.restore_best_weights = True
    pruning = MagnitudePruning(0.5, end=6, every=1)
    trainer = Trainer(one, keras.optimizers.Adam(1e-2), MaskedCrossEntropy())
    trainer.fit(rows().repeat(), 9, [stopping, pruning], validation_freq=2)
    for (kernel, _), mask in zip(pruning._kernels, pruning.masks, strict=True):
        assert not np.asarray(kernel)[~mask].any()


def test_a_later_fit_keeps_the_zeros():
    one, pruning = model(), MagnitudePruning(0.5, end=6, begin=4, every=1)
    one.compile(keras.optimizers.Adam(1e-2), MaskedCrossEntropy(), jit_compile=False)
    one.fit(rows(), epochs=3, verbose=0, callbacks=[pruning])
    one.fit(rows().take(3), verbose=0, callbacks=[pruning])
    assert set(shares(one).values()) == {0.5}
    # Another model starts afresh.
    pruning.set_model(model())
    pruning.on_train_begin()
    assert pruning.pruned_to == 0
    assert all(mask.all() for mask in pruning.masks)


def test_several_steps_per_call():
    one, seen = model(), []
    pruning = MagnitudePruning(0.5, end=12, every=2)
    update = pruning._update_masks
    pruning._update_masks = lambda values: (seen.append(pruning.step), update(values))
    one.compile(keras.optimizers.Adam(1e-2), MaskedCrossEntropy(), jit_compile=False, steps_per_execution=3)
    one.fit(rows().repeat(), steps_per_epoch=12, verbose=0, callbacks=[pruning])
    assert seen == [3, 6, 9, 12]
    assert set(shares(one).values()) == {0.5}


@pytest.mark.parametrize("scores", ["magnitude", "movement"])
def test_frozen_kernels_stay(scores):
    one = model()
    one.encoder.trainable = False
    before = kernels(one)
    pruning = MagnitudePruning(0.5, end=4, every=1, scores=scores)
    Trainer(one, keras.optimizers.Adam(1e-2), MaskedCrossEntropy()).fit(rows().repeat(), 6, [pruning])
    for path, share in shares(one).items():
        assert share == (0 if path.startswith("encoder/") else 0.5)
        assert not path.startswith("encoder/") or np.array_equal(before[path], kernels(one)[path])
    one.trainable = False
    pruning.set_model(one)
    with pytest.raises(ValueError, match="`layers` must match trainable kernels"):
        pruning.on_train_begin()


def test_layers_of_the_same_path_are_all_pruned():
    inputs = keras.Input((8,))
    parts = []
    for _ in range(2):
        x = keras.Input((8,))
        parts.append(keras.Model(x, keras.layers.Dense(8, name="d")(x)))
    one = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.add([part(inputs) for part in parts])))
    assert parts[0].layers[1].kernel.path == parts[1].layers[1].kernel.path
    one.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    one.fit(np.ones((4, 8)), np.ones(4), verbose=0, callbacks=[MagnitudePruning(0.5, end=1, every=1)])
    assert [float((np.asarray(part.layers[1].kernel) == 0).mean()) for part in parts] == [0.5, 0.5]


@pytest.mark.parametrize(
    ("then", "now", "message"),
    [
        ({"layers": "*/query"}, {"layers": "*/value"}, "`layers` must be as in the run"),
        ({"layers": "*/query"}, {"layers": "*"}, "`layers` must be as in the run"),
        ({}, {"scores": "movement"}, "`scores` must be as in the run"),
        ({"sparsity": 0.5}, {"sparsity": 0.5, "pattern": (2, 1)}, "`pattern` must be as in the run"),
    ],
)
def test_a_run_goes_on_with_the_same_kernels(then, now, message, tmp_path):
    trained(steps=5, folder=tmp_path, **then)
    with pytest.raises(ValueError, match=message):
        trained(folder=tmp_path, **now)


def test_a_resumed_run_may_prune_more(tmp_path):
    trained(steps=10, folder=tmp_path, sparsity=0.5)
    one, _ = trained(steps=12, folder=tmp_path, sparsity=0.75)
    assert set(shares(one).values()) == {0.75}
