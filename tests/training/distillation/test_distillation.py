"""The loss of a student against NumPy, and training with it."""

import types

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_attn
from keras_attn.text import CharacterTokenizer
from keras_attn.training import Checkpoints, CTCLoss, MaskedAccuracy, MaskedCrossEntropy, Trainer, trainer_checks
from keras_attn.training.distillation import Distillation

RNG = np.random.default_rng(0)
IDS = RNG.integers(1, 19, (6, 5)).astype("int32")
IDS[:, 3:] *= np.array([[1, 1], [1, 0], [0, 0], [1, 1], [1, 0], [1, 1]], "int32")
CLASSES, WEIGHTS = IDS[:, 0] % 3, np.array([1, 2, 0, 0.5, 1, 1], "float32")


def encoder(layers, width, heads=2, **settings):
    settings = {"head": "sequence_classification", "num_classes": 3, "dropout": 0.0} | settings
    return keras_attn.EncoderModel(20, layers, width, heads, 2 * width, **settings)


def writer(layers, width, heads=2, **settings):
    return keras_attn.LanguageModel(20, layers, width, heads, 2 * width, dropout=0.0, **settings)


def translator(layers, width, heads=2, **settings):
    return keras_attn.Transformer(20, layers, width, heads, 2 * width, dropout=0.0, **settings)


# `(maker, inputs, labels, ids of the output)`
CASES = {
    "encoder": (encoder, {"token_ids": IDS}, CLASSES),
    "decoder": (writer, {"token_ids": IDS}, np.roll(IDS, -1, axis=1)),
    "both": (translator, {"source_ids": IDS[:, ::-1].copy(), "target_ids": IDS}, np.roll(IDS, -1, axis=1)),
}
CASES["both"][1]["source_ids"][:, 1:] = IDS[:, 1:]


def log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def entry_weights(labels, ignored):
    weights = WEIGHTS.astype("float64").reshape(-1, *[1] * (labels.ndim - 1)) * np.ones(labels.shape)
    return np.where(labels == ignored, 0, weights)


def expected_of_logits(labels, ours, theirs, weights, alpha, temperature):
    hard = -np.take_along_axis(log_softmax(ours), labels[..., None], -1)[..., 0]
    p, q = log_softmax(theirs / temperature), log_softmax(ours / temperature)
    soft = temperature**2 * (np.exp(p) * (p - q)).sum(-1)
    return (weights * ((1 - alpha) * hard + alpha * soft)).sum()


def row_means(x, real):
    return np.where(real, x, 0).sum(-1) / np.maximum(real.sum(-1), 1)


def vectors(model, inputs):
    """The input and the outputs of the blocks of each stack."""
    found = {}
    for name in ("encoder", "decoder"):
        if not hasattr(model, name):
            continue
        blocks = getattr(model, name).blocks
        taken = found[name] = []
        for i, block in enumerate(blocks):
            call = block.call

            def spy(x, *args, call=call, first=i == 0, taken=taken, **kwargs):
                y = call(x, *args, **kwargs)
                taken.extend([x, y] if first else [y])
                return y

            object.__setattr__(block, "call", spy)
    model(inputs, training=False)
    for name in found:
        for block in getattr(model, name).blocks:
            object.__delattr__(block, "call")
    return {name: [np.asarray(x, "float64") for x in taken] for name, taken in found.items()}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("alpha", "temperature"), [(0.3, 2.0), (1.0, 0.5), (0.0, 4.0)])
def test_logits(case, alpha, temperature):
    make, inputs, labels = CASES[case]
    student, teacher = make(1, 8), make(2, 12)
    loss = MaskedCrossEntropy(ignore_id=None if case == "encoder" else 0)
    distillation = Distillation(student, teacher, loss, alpha=alpha, temperature=temperature)
    assert distillation.model is student
    total, weight, logits = distillation(student, inputs, labels, WEIGHTS, False)
    ours, theirs = (np.asarray(model(inputs), "float64") for model in (student, teacher))
    weights = entry_weights(labels, None if case == "encoder" else 0)
    np.testing.assert_allclose(np.asarray(logits), ours, atol=1e-6)
    np.testing.assert_allclose(float(weight), weights.sum(), rtol=1e-6)
    expected = expected_of_logits(labels, ours, theirs, weights, alpha, temperature)
    np.testing.assert_allclose(float(total), expected, rtol=1e-5)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("heads", [2, 3])
def test_hidden_vectors_and_attention(case, heads):
    make, inputs, labels = CASES[case]
    student, teacher = make(1, 8), make(2, 12, heads)
    loss = MaskedCrossEntropy(ignore_id=None if case == "encoder" else 0)
    distillation = Distillation(student, teacher, loss, alpha=0.0, hidden_weight=0.7, attention_weight=0.2)
    total, *_ = distillation(distillation.model, inputs, labels, WEIGHTS, False)
    weights = entry_weights(labels, None if case == "encoder" else 0)
    expected = expected_of_logits(labels, *[np.asarray(student(inputs), "float64")] * 2, weights, 0, 1)
    by_row = weights.reshape(len(IDS), -1).sum(-1)
    for name, theirs in vectors(teacher, inputs).items():
        ids = inputs["source_ids"] if case == "both" and name == "encoder" else IDS
        ours = vectors(student, inputs)[name]
        # The embeddings, and block 1 of 1 from block 2 of 2.
        for i, j in ((0, 0), (1, 2)):
            kernel = np.asarray(distillation.model.projections[f"{name}_{i}"].kernel)
            apart = ((ours[i] @ kernel - theirs[j]) ** 2).mean(-1)
            expected += 0.7 * (by_row * row_means(apart, ids != 0)).sum()
        scores, known = (
            [x for path, x in keras_attn.attention_maps(model, inputs).items() if f"/{name}/" in f"/{path}"]
            for model in (student, teacher)
        )
        assert len(known) == 2 * len(scores)
        for x, y in zip(scores, known[len(scores) :], strict=True):
            if heads == 3:
                x, y = x.mean(1, keepdims=True), y.mean(1, keepdims=True)
            expected += 0.2 * (by_row * row_means(((x - y) ** 2).sum(-1).mean(1), ids != 0)).sum()
    np.testing.assert_allclose(float(total), expected, rtol=1e-5)


def test_padding_and_parts_of_a_batch_change_nothing():
    student, teacher = encoder(1, 8), encoder(2, 12)
    distillation = Distillation(student, teacher, hidden_weight=1.0, attention_weight=1.0)
    whole = distillation(distillation.model, {"token_ids": IDS}, CLASSES, WEIGHTS, False)
    halves = [
        distillation(distillation.model, {"token_ids": IDS[rows]}, CLASSES[rows], WEIGHTS[rows], False)
        for rows in (slice(0, 2), slice(2, None))
    ]
    wider = np.pad(IDS, ((0, 0), (0, 4)))
    padded = distillation(distillation.model, {"token_ids": wider}, CLASSES, WEIGHTS, False)
    for i in range(2):
        np.testing.assert_allclose(float(halves[0][i] + halves[1][i]), float(whole[i]), rtol=1e-5)
        np.testing.assert_allclose(float(padded[i]), float(whole[i]), rtol=1e-5)


def test_nothing_is_left_to_learn_from_a_copy():
    teacher = encoder(2, 12)
    student = encoder(2, 12)
    student.set_weights(teacher.get_weights())
    distillation = Distillation(student, teacher, alpha=1.0, attention_weight=1.0)
    total, *_ = distillation(student, {"token_ids": IDS}, CLASSES, WEIGHTS, False)
    assert abs(float(total)) < 1e-5


def rows(count=32):
    ids = np.random.default_rng(1).integers(1, 20, (count, 6)).astype("int32")
    return tf.data.Dataset.from_tensor_slices(({"token_ids": ids}, ids[:, 0] % 3)).batch(8)


def trained(steps, folder, dropout=0.1, optimizer=None, jit_compile=False):
    """The student after some steps, and the history."""
    keras.utils.set_random_seed(0)
    student, teacher = encoder(1, 8, dropout=dropout), encoder(2, 12)
    given = teacher.get_weights()
    distillation = Distillation(student, teacher, hidden_weight=0.5, attention_weight=0.5)
    kernels = [np.asarray(layer.kernel) for layer in distillation.model.projections.values()]
    trainer = Trainer(
        distillation.model,
        optimizer or keras.optimizers.Adam(1e-2),
        distillation.loss,
        [MaskedAccuracy(name="accuracy")],
        compute_loss=distillation,
        jit_compile=jit_compile,
        checkpoints=Checkpoints(folder, every=5),
    )
    history = trainer.fit(rows(), steps, validation_data=rows()).history
    assert all(map(np.array_equal, teacher.get_weights(), given))
    assert not any(map(np.array_equal, kernels, [x.kernel for x in distillation.model.projections.values()]))
    return student, history


def test_training_goes_on_where_it_stopped(tmp_path):
    trained(5, tmp_path / "parts")
    student, history = trained(20, tmp_path / "parts")
    whole, _ = trained(20, tmp_path / "whole")
    assert all(map(np.array_equal, student.get_weights(), whole.get_weights()))
    assert history["val_loss"][-1] < history["loss"][0]
    assert len(student.get_weights()) == len(encoder(1, 8).get_weights())


def test_xla(tmp_path):
    (student, _), (expected, _) = (
        trained(3, tmp_path / str(x), 0.0, keras.optimizers.SGD(0.1), jit_compile=x) for x in (True, False)
    )
    for x, y in zip(student.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-4)


def test_layers_can_be_chosen():
    student, teacher = encoder(2, 8), encoder(3, 12)
    with pytest.raises(ValueError, match="`layer_map` must say which layers of the encoder"):
        Distillation(student, teacher, hidden_weight=1.0)
    distillation = Distillation(student, teacher, hidden_weight=1.0, layer_map={2: 3})
    assert list(distillation.model.projections) == ["encoder_2"]
    with pytest.raises(ValueError, match=r"layers from 0 to 2 of the student's encoder .*Received: layer_map=\{3: 1\}"):
        Distillation(student, teacher, hidden_weight=1.0, layer_map={3: 1})


@pytest.mark.parametrize(
    ("teacher", "settings", "message"),
    [
        (lambda: encoder(1, 8, num_classes=4), {}, "logits of the same classes.*Received: 3 and 4"),
        (lambda: encoder(1, 8, labels=["a", "b", "x"]), {}, r"the same labels.*'x'"),
        (
            lambda: encoder(1, 8, tokenizer=CharacterTokenizer("abcdef")),
            {},
            "the same tokenizer, as ids of one are other tokens",
        ),
        (lambda: keras_attn.EncoderModel(21, 1, 8, 2, 8, head="sequence_classification", num_classes=3), {},
         "the same vocabularies.*20.*21"),
        (lambda: encoder(1, 8), {"alpha": 1.5}, "`alpha` must be between 0 and 1"),
        (lambda: encoder(1, 8), {"temperature": 0}, "`temperature` must be a positive number"),
        (lambda: encoder(1, 8), {"alpha": "x"}, "`alpha` must be a finite number"),
        (lambda: encoder(1, 8, pad_id=1), {}, "the same `pad_id`. Received: pad_id=0 and 1"),
        (lambda: encoder(1, 8, head="token_classification"), {}, "outputs of the same rank"),
        (lambda: encoder(1, 8), {"loss": "sparse_categorical_crossentropy"}, "`loss` must have `total`"),
        (lambda: encoder(1, 8), {"attention_weight": 1.0, "layer_map": {0: 0}}, "`layer_map` must map a block"),
        (lambda: encoder(1, 8, attention=keras.layers.MultiHeadAttention(2, 4)), {"attention_weight": 1.0},
         "as many layers of `MultiHeadAttention`"),
        (lambda: encoder(1, 8), {"hidden_weight": -1}, "`hidden_weight` must be at least 0"),
        (lambda: encoder(1, 8), {"layer_map": {1: 1}}, "`layer_map` needs `hidden_weight` or"),
        (lambda: encoder(1, 8, remat=True), {"attention_weight": 1.0}, "must be 0 with `remat`"),
        (lambda: keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]), {"hidden_weight": 1.0},
         "the same vocabularies|the same stacks"),
    ],
)  # fmt: skip
def test_bad_arguments(teacher, settings, message):
    student = encoder(1, 8, labels=["a", "b", "c"], tokenizer=CharacterTokenizer("abcde"))
    with pytest.raises(ValueError, match=message):
        Distillation(student, teacher(), **settings)
    with pytest.raises(ValueError, match="`teacher` must be another model than `student`"):
        Distillation(student, student)


@pytest.mark.parametrize("given", ["no", "the same", "another"])
@pytest.mark.parametrize("case", ["encoder", "decoder"])
def test_the_trainer_tells_the_loss_which_labels_are_padding(case, given):
    make, inputs, labels = CASES[case]
    student, teacher, loss = make(1, 8), make(2, 12), MaskedCrossEntropy()
    distillation = Distillation(student, teacher, loss)
    others = {"no": None, "the same": loss, "another": MaskedCrossEntropy()}
    trainer = Trainer(student, keras.optimizers.Adam(), others[given], compute_loss=distillation)
    weights = np.where(labels == (-1 if case == "encoder" else 0), 0.0, 1.0)
    logits = [np.asarray(model(inputs), "float64") for model in (student, teacher)]
    expected = expected_of_logits(labels, *logits, weights, 0.5, 2.0) / weights.sum()
    data = tf.data.Dataset.from_tensors((inputs, labels))
    np.testing.assert_allclose(trainer.evaluate(data)["loss"], expected, rtol=1e-5)


@pytest.mark.parametrize("count", [2, 100])
def test_losses_of_whole_rows_count_by_row(count):
    """Also where the loss of the labels, which does not count, is infinite: no alignment has 100 of them."""
    student, teacher = (encoder(1, w, head="token_classification", num_classes=5) for w in (8, 12))
    inputs, labels = {"token_ids": IDS}, np.array([[1, 2]] * 4 + [[3, 1]] * 2).repeat(count // 2, 1)
    distillation = Distillation(student, teacher, CTCLoss(), alpha=1.0, temperature=1.0)
    total, *_ = distillation(student, inputs, labels, WEIGHTS, False)
    p, q = (log_softmax(np.asarray(model(inputs), "float64")) for model in (teacher, student))
    by_row = (np.exp(p) * (p - q)).sum((-1, -2))
    np.testing.assert_allclose(float(total), (WEIGHTS * by_row).sum(), rtol=1e-4)


@pytest.mark.parametrize("weight", ["hidden_weight", "attention_weight"])
def test_what_the_model_does_not_read_does_not_count(weight):
    student, teacher = (encoder(1, width, end_id=19) for width in (8, 12))
    distillation = Distillation(student, teacher, alpha=0.0, **{weight: 1.0})
    texts = [[[5, 6, 19, 7, 8]], [[5, 6, 19, 3, 2]], [[5, 6, 19]]]
    found = [
        float(distillation(distillation.model, {"token_ids": np.array(ids)}, np.array([1]), None, False)[0])
        for ids in texts
    ]
    np.testing.assert_allclose(found[1:], found[0], rtol=1e-5)


def test_choices_of_a_row_count_as_one():
    student, teacher = (encoder(1, width, head="multiple_choice", num_classes=None) for width in (8, 12))
    distillation = Distillation(student, teacher, hidden_weight=1.0, attention_weight=1.0)
    ids, labels = RNG.integers(1, 19, (4, 3, 5)), np.array([0, 2, 1, 1])
    total, weight, _ = distillation(distillation.model, {"token_ids": ids}, labels, WEIGHTS[:4], False)
    parts = [
        distillation(distillation.model, {"token_ids": ids[i : i + 1]}, labels[i : i + 1], WEIGHTS[i : i + 1], False)[
            :2
        ]
        for i in range(4)
    ]
    np.testing.assert_allclose(np.sum(parts, axis=0), [float(total), float(weight)], rtol=1e-5)


def test_another_model_is_refused():
    student, teacher = encoder(1, 8), encoder(2, 12)
    for distillation in (Distillation(student, teacher, hidden_weight=1.0), Distillation(encoder(1, 8), teacher)):
        trainer = Trainer(student, keras.optimizers.SGD(0.1), compute_loss=distillation)
        with pytest.raises(ValueError, match=r"`model` of the `Trainer` must be `distillation.model`"):
            trainer.fit(rows(), 1)


def test_projections_are_not_trained_without_a_teacher():
    distillation = Distillation(encoder(1, 8), encoder(2, 12), hidden_weight=1.0)
    with pytest.raises(ValueError, match="`compute_loss` must be the `Distillation` whose `model` this is"):
        Trainer(distillation.model, keras.optimizers.SGD(0.1), MaskedCrossEntropy())


def test_the_student_is_seen_through_its_projections():
    student = encoder(1, 8, dtype="mixed_float16", tokenizer=CharacterTokenizer("abc"))
    distillation = Distillation(student, encoder(1, 12), hidden_weight=1.0)
    trainer = Trainer(distillation.model, keras.optimizers.SGD(0.1), compute_loss=distillation)
    assert isinstance(trainer.optimizer, keras.optimizers.LossScaleOptimizer)
    for name in ("max_lengths", "tokenizer", "pad_id", "labels", "vocabularies", "generation_config", "hidden_dim"):
        assert getattr(distillation.model, name) == getattr(student, name)
    with pytest.raises(AttributeError, match="nothing"):
        _ = distillation.model.nothing
    with pytest.raises(ValueError, match="no longer than the"):
        trainer.fit(tf.data.Dataset.from_tensors(({"token_ids": np.ones((2, 600), "int32")}, np.ones(2, "int32"))), 1)


def test_a_student_made_outside_the_scope_is_refused():
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:0"][:1])
    check = trainer_checks._check_variables
    assert check(encoder(1, 8), strategy) is None
    several = types.SimpleNamespace(num_replicas_in_sync=2)
    with pytest.raises(ValueError, match="`model` must be made in the scope of `strategy`"):
        check(encoder(1, 8), several)
    with strategy.scope():
        assert check(encoder(1, 8), several) is None
