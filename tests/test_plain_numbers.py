"""NumPy's integers and floats are numbers for every argument; layers and models have checks of their own."""

import json

import keras
import numpy as np
import pytest

from keras_attn import GenerationConfig, LanguageModel, generation, layers, ops, training
from keras_attn.argument_checks import check_count, check_positive, check_positive_number, is_integer, is_number
from keras_attn.plain_numbers import PlainNumbers, plain
from keras_attn.training import MaskedCrossEntropy, TokenBlockDataset, Trainer


def test_plain():
    kept = {"a": [1, (2.5, "x")], "b": np.ones(2)}
    assert plain(kept) is kept
    found = plain({"a": [np.int8(3), (np.float32(0.5), "x")], "b": np.bool_(True), "c": None})
    assert found == {"a": [3, (0.5, "x")], "b": True, "c": None}
    assert [type(x) for x in (*found["a"][:1], *found["a"][1], found["b"])] == [int, float, str, bool]


def test_constructors():
    class Sized(PlainNumbers):
        def __init__(self, width, *, depth=1, **others):
            self.given = width, depth, others

    class Named(Sized):
        def __init__(self, name, width):
            super().__init__(width)

    assert Sized(np.int8(3), depth=np.float16(0.5), x=[np.int64(1)]).given == (3, 0.5, {"x": [1]})
    assert Named("n", np.int8(100)).given[0] * 100 == 10000


def test_checks():
    assert all(map(is_integer, (3, np.int8(3), np.uint64(3))))
    assert all(map(is_number, (0.5, np.float16(0.5), np.int8(3))))
    assert not any(map(is_number, (True, np.bool_(True), "1", None, np.ones(1))))
    check_positive(a=np.int64(1))
    check_count(a=np.uint8(0))
    check_positive_number(a=np.float32(0.5))
    for bad in (np.int64(0), np.float32(1), np.bool_(True)):
        with pytest.raises(ValueError, match="`a` must be a positive integer"):
            check_positive(a=bad)


I, F = np.int16, np.float32  # noqa: E741
SETTINGS = {
    "top k": lambda: generation.TopK(I(3)),
    "penalty": lambda: generation.RepetitionPenalty(F(1.25), prompt_ignore_length=I(1)),
    "banned": lambda: generation.BannedSequences(((I(3), I(4)),)),
    "sampling": lambda: generation.Sampling(seed=I(3), num_sequences=I(2)),
    "contrastive": lambda: generation.ContrastiveSearch(top_k=I(2), alpha=F(0.5)),
    "groups": lambda: generation.DiverseBeamSearch(I(4), num_groups=I(2), diversity_penalty=F(0.5)),
    "greedy": lambda: GenerationConfig(I(3), start_id=I(1), end_id=(I(2), I(4)), pad_id=I(0)),
    "rotary": lambda: layers.RotaryPositionEncoding(F(100), I(2), scaling={"rope_type": "linear", "factor": F(2)}),
    "schedule": lambda: training.LinearSchedule(F(0.5), I(10), I(2)),
    "optimizer": lambda: training.FusedAdamW(F(0.5), weight_decay=F(0.25)),
    "loss": lambda: training.MaskedCrossEntropy(ignore_id=I(0), label_smoothing=F(0.25)),
}


@pytest.mark.parametrize("make", SETTINGS.values(), ids=SETTINGS)
def test_settings(make):
    made = make()
    config = keras.saving.serialize_keras_object(made)
    copy = keras.saving.deserialize_keras_object(json.loads(json.dumps(config)))
    assert keras.saving.serialize_keras_object(copy) == config


def test_functions(tmp_path):
    model = LanguageModel(20, 1, 8, 2, 16)
    ids = np.array([[5, 6, 7]])
    pieces = list(generation.stream(model, ids, max_length=I(3), every=I(2), max_time=F(100)))
    np.testing.assert_array_equal(np.concatenate(pieces, axis=1), model.generate(ids, max_length=3))
    drawn = generation.minimum_bayes_risk(model, ids, I(3), num_samples=I(2), seed=I(1), utility=lambda a, b: 1.0)
    assert drawn.shape == (1, 3)
    assert generation.TokenAutomaton.from_phrases([[1, 2]], I(20)).vocabulary_size == 20
    scaling = {"rope_type": "linear", "factor": F(2)}
    np.testing.assert_allclose(*(ops.rotary_frequencies(n, scaling=scaling)[0] for n in (I(8), 8)))
    checkpoints = training.Checkpoints(tmp_path, every=I(1), keep=I(2), keep_best=I(1), monitor="loss")
    dataset = TokenBlockDataset(np.arange(1, 20), I(3), I(2), seed=I(3), epochs=I(1))
    trainer = Trainer(
        model, keras.optimizers.SGD(0.1), MaskedCrossEntropy(), accumulation_steps=I(1), checkpoints=checkpoints
    )
    trainer.fit(dataset, I(2))
    assert checkpoints.steps() == [1, 2]
