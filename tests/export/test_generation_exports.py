"""Every kind of model leaves with every kind of decoding inside."""

import keras
import numpy as np
import pytest

from keras_attn import GenerationConfig, LanguageModel, Seq2SeqRNN, Transformer
from keras_attn.export import export
from keras_attn.generation import (
    BeamSearch,
    ClassifierFreeGuidance,
    NoRepeatNGram,
    RepetitionPenalty,
    Sampling,
    Temperature,
    TopK,
    TopP,
)

SIZES = {"hidden_dim": 16, "num_heads": 2, "intermediate_dim": 32}
MODELS = {
    "language": lambda **kwargs: LanguageModel(23, 1, **SIZES, **kwargs),
    "windowed": lambda **kwargs: LanguageModel(
        23, 1, **SIZES, window=3, attention_options={"sink_tokens": 2}, **kwargs
    ),
    "transformer": lambda **kwargs: Transformer(23, 1, **SIZES, **kwargs),
    "recurrent": lambda **kwargs: Seq2SeqRNN(23, num_layers=2, hidden_dim=16, **kwargs),
}
SAMPLING = {"strategy": Sampling(3, num_sequences=2), "processors": (Temperature(0.9), TopK(20), TopP(0.95))}
BEAMS = {
    "strategy": BeamSearch(3, num_sequences=2, early_stopping="never"),
    "processors": (NoRepeatNGram(2), RepetitionPenalty(1.3)),
}
# Two of the four models have each kind of decoding; greedy is exported in the tests of each model.
CASES = [
    ("language", {"cache": "int8", **SAMPLING}),
    ("windowed", SAMPLING),
    ("transformer", BEAMS),
    ("recurrent", BEAMS),
    ("language", {"strategy": ClassifierFreeGuidance(1.7, (4, 9), sampling=True)}),
]


@pytest.mark.parametrize(
    ("kind", "settings"), CASES, ids=["int8-sampling", "window-sampling", "beams", "rnn-beams", "guidance"]
)
def test_generation_leaves_in_every_format(kind, settings, tmp_path):
    keras.utils.set_random_seed(3)
    model = MODELS[kind](generation_config=GenerationConfig(5, end_id=22, **settings))
    rng = np.random.default_rng(1)
    model.set_weights([w + 0.2 * rng.standard_normal(w.shape) for w in model.get_weights()])
    report = export(model, tmp_path, ["saved_model", "tflite", "onnx"], tasks=["generate"])
    assert report.ok
    assert all(row["identical"] == row["total"] > 0 for row in report.rows)
