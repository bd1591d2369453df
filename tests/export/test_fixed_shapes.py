"""Axes that the caller gives a size are fixed in the artefact, and those that follow from them."""

import os

import keras
import numpy as np
import pytest

from keras_attn import GenerationConfig, LanguageModel
from keras_attn.export import export, registry
from keras_attn.text import CharacterTokenizer


@pytest.fixture(scope="module")
def language_model():
    keras.utils.set_random_seed(3)
    return LanguageModel(
        23, num_layers=1, hidden_dim=16, num_heads=2, intermediate_dim=32, generation_config=GenerationConfig(5)
    )


def free_axes(path, format):
    """`(task, tensor, axis)` of all that have no size in an artefact's signatures."""
    signatures, _ = registry.load("formats", format)().contents(path)
    return {
        (task, tensor["name"], axis)
        for task, sides in signatures.items()
        for side in sides.values()
        for tensor in side
        for axis, size in enumerate(tensor["shape"])
        if not isinstance(size, int) or size < 1
    }


@pytest.mark.parametrize(("format", "paths"), [("tflite", ["model.tflite"]), ("onnx", ["prefill.onnx", "decode.onnx"])])
def test_what_follows_is_fixed_too(format, paths, language_model, tmp_path):
    shapes = {"batch": 2, "source_length": 6}
    report = export(language_model, tmp_path, format, tasks=["prefill", "decode"], shapes=shapes)
    assert report.ok
    assert [free_axes(tmp_path / path, format) for path in paths] == [set()] * len(paths)


def test_one_axis(classifier, tmp_path):
    samples = {"features": np.ones((7, 4, 3)), "extra": np.arange(21.0).reshape(7, 3)}
    [row] = export(classifier, tmp_path, "onnx", tasks="forward", shapes={"batch": 3}, samples=samples).rows
    # Two batches of three rows of four places; the seventh row makes none.
    assert row["identical"] == row["total"] == 24
    free = {(name, axis) for _, name, axis in free_axes(tmp_path / "forward.onnx", "onnx")}
    assert free == {("features", 1), ("logits", 1)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shapes": {"rows": 1}}, r"`shapes` must give \['batch', 'source_length'\] .*'generate' .*'rows': 1"),
        ({"shapes": {"batch": 0}}, r"positive sizes. Received: 'batch': 0"),
        ({"shapes": {"batch": True}}, r"positive sizes. Received: 'batch': True"),
        ({"shapes": {"batch": 2}, "tasks": "step"}, r"`shapes` must be None for 'step'"),
        ({"shapes": {"batch": 2}, "tokenizer": CharacterTokenizer("abcdefghijklmnopqrs")}, "`tokenizer=False`"),
        (
            {"shapes": {"source_length": 4}, "samples": {"source_ids": np.ones((3, 5))}},
            r"`samples\['source_ids'\]` must make arrays of shape \('batch', 4\). Received: shape \(3, 5\)",
        ),
        (
            {"shapes": {"batch": 4}, "samples": {"source_ids": np.ones((3, 5))}},
            r"`samples\['source_ids'\]` must make arrays of shape \(4, 'source_length'\). Received: shape \(3, 5\)",
        ),
    ],
)
def test_bad_arguments(arguments, message, language_model, tmp_path):
    with pytest.raises(ValueError, match=message):
        export(language_model, tmp_path / "out", "onnx", **arguments)
    assert os.listdir(tmp_path) == []
