"""Each task leaves with every kind of model that can do it, and is refused for others."""

import json

import keras
import numpy as np
import onnx
import pytest
from onnx_checks import check_axes, empty_constants
from training_processes import run_script

from keras_attn import EncoderModel, GenerationConfig, LanguageModel, Seq2SeqRNN, Transformer
from keras_attn.export import export, registry
from keras_attn.export.tasks import reference
from keras_attn.generation import BeamSearch, generate
from keras_attn.layers import EmbeddingHead, LearnedPositionEmbedding
from keras_attn.text import BytePairTokenizer, CharacterTokenizer

FORMATS = ["saved_model", "tflite", "onnx"]
TOKENIZER = CharacterTokenizer("abcdefghij é日")
SIZES = {"num_layers": 2, "hidden_dim": 16, "num_heads": 2, "intermediate_dim": 32}
LENGTH = 5


def make(cls, **kwargs):
    keras.utils.set_random_seed(3)
    sizes = {"num_layers": 2, "hidden_dim": 16} if cls is Seq2SeqRNN else SIZES
    if cls is not EncoderModel:
        kwargs = {"generation_config": GenerationConfig(LENGTH, end_id=3), **kwargs}
    model = cls(TOKENIZER.vocabulary_size, **{**sizes, **kwargs})
    rng = np.random.default_rng(1)
    model.set_weights([w + 0.2 * rng.standard_normal(w.shape) for w in model.get_weights()])
    return model


WINDOWED = {"window": 3, "attention_options": {"sink_tokens": 2}}
CLASSIFIER = {"head": "sequence_classification", "num_classes": 3}
CASES = {
    "classifier": (EncoderModel, CLASSIFIER, ["classify", "encode"]),
    "transformer": (Transformer, {}, ["prefill", "decode", "encode"]),
    "windowed": (LanguageModel, WINDOWED, ["prefill", "decode"]),
    "recurrent": (Seq2SeqRNN, {}, ["prefill", "decode", "encode"]),
    "beams": (LanguageModel, {"num_layers": 1}, ["beam"]),
}


@pytest.mark.parametrize("case", CASES)
def test_a_task_leaves_in_every_format(case, tmp_path):
    cls, settings, tasks = CASES[case]
    report = export(make(cls, **settings), tmp_path, FORMATS, tasks=tasks)
    assert [row["task"] for row in report.rows] == tasks * len(FORMATS)
    assert all(row["ok"] and row["identical"] == row["total"] > 0 for row in report.rows)
    for task in tasks:
        assert all(sizes["batch"] for sizes in check_axes(tmp_path, task))
        assert empty_constants(onnx.load(tmp_path / f"{task}.onnx")) == []


@pytest.mark.parametrize(
    ("cls", "task", "message"),
    [
        (LanguageModel, "encode", "'encode' only for a model of this package with an encoder. Received: LanguageModel"),
        (LanguageModel, "classify", "'classify' only for a model with one input of ids"),
        (Transformer, "classify", "'classify' only for a model with one input of ids"),
        (
            Transformer,
            "step",
            "'step' only for a LanguageModel; use 'prefill' and 'decode' for others. Received: Transformer",
        ),
        (EncoderModel, "prefill", "'prefill' only for a model that generates and whose `generation_config` is set"),
        (EncoderModel, "decode", "'prefill' only for a model that generates and whose `generation_config` is set"),
        (EncoderModel, "beam", "'beam' only for a model that generates and whose `generation_config` is set"),
    ],
)
def test_a_task_that_a_model_cannot_do(cls, task, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        export(make(cls), tmp_path / "out", "onnx", tasks=task)
    assert not (tmp_path / "out").exists()


def test_a_step_knows_the_caches_of_multi_head_attention_only(tmp_path):
    attention = keras.layers.MultiHeadAttention(2, 8)
    model = make(LanguageModel, attention=attention, position=LearnedPositionEmbedding(16))
    with pytest.raises(ValueError, match=r"whose `attention` is MultiHeadAttention.*use 'prefill' and 'decode'"):
        export(model, tmp_path / "out", "onnx", tasks="step")


def test_a_step_is_for_onnx(tmp_path):
    with pytest.raises(ValueError, match=r"'step' only for \['onnx'\]. Received: format=\['tflite'\]"):
        export(make(LanguageModel), tmp_path / "out", ["tflite", "onnx"], tasks="step")


def test_a_users_classifier(tmp_path):
    keras.utils.set_random_seed(2)
    words = keras.Input((None,), dtype="int32", name="words")
    x = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(11, 6)(words))
    model = keras.Model(words, keras.layers.Dense(4)(x))
    report = export(model, tmp_path, ["tflite", "onnx"], tasks="classify")
    assert report.ok
    task = registry.load("tasks", "classify")(model)
    outputs = reference.outputs(task.call, {"source_ids": np.array([[1, 2, 3]], "int32")})
    expected = keras.ops.softmax(model(np.array([[1, 2, 3]])))
    np.testing.assert_allclose(outputs["probabilities"], expected, atol=1e-6)
    np.testing.assert_array_equal(outputs["label"], np.argmax(expected, axis=-1))


def test_beams_of_a_greedy_model():
    model = make(Transformer)
    ids = np.array([[5, 6, 7], [8, 9, 0]], "int32")
    outputs = reference.outputs(registry.load("tasks", "beam")(model).call, {"source_ids": ids})
    config = GenerationConfig(LENGTH, end_id=3, strategy=BeamSearch(4, num_sequences=4))
    np.testing.assert_array_equal(outputs["tokens"], generate(model, ids, config=config))
    assert outputs["sequence_scores"].shape == (2, 4)


def test_vectors_are_the_models_own():
    model = make(EncoderModel)
    ids = np.array([[5, 6, 7], [8, 9, 0]], "int32")
    outputs = reference.outputs(registry.load("tasks", "encode")(model).call, {"source_ids": ids})
    expected = np.array(model({"token_ids": ids}))
    np.testing.assert_allclose(outputs["vectors"][0], expected[0], atol=1e-6)
    assert not np.any(outputs["vectors"][1, 2])
    np.testing.assert_allclose(outputs["mean_vector"][1], expected[1, :2].mean(axis=0), atol=1e-6)


def test_embeddings_are_the_models_own_and_no_classes():
    model = make(EncoderModel, head=EmbeddingHead())
    ids = np.array([[5, 6, 7], [8, 9, 0]], "int32")
    outputs = reference.outputs(registry.load("tasks", "encode")(model).call, {"source_ids": ids})
    np.testing.assert_allclose(outputs["sentence_embedding"], model({"token_ids": ids}), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(outputs["sentence_embedding"], axis=-1), 1, atol=1e-6)
    with pytest.raises(ValueError, match="this one returns embeddings, which the task 'encode' exports"):
        registry.load("tasks", "classify")(model)


# Drives `prefill` and `decode` as an application would.
DRIVER = """
import sys
import numpy as np

sys.path.insert(0, sys.argv[1])
from {client} import {artefact} as Artefact

prefill, decode = (Artefact(path, task) for path, task in {paths})
ids = np.array({ids}, "int32")
state = prefill({{"source_ids": ids}})
tokens = []
for step in range({length}):
    inputs = {{name.replace("present_", "past_"): value for name, value in state.items()}}
    outputs = decode(inputs)
    token = np.argmax(outputs.pop("logits"), axis=-1).astype("int32")[:, None]
    tokens.append(token)
    state = {{**state, **outputs, "token_ids": token, "positions": state["positions"] + 1}}
print(np.concatenate(tokens, axis=1).tolist())
"""


@pytest.mark.parametrize(
    ("cls", "format"), [(LanguageModel, "onnx"), (Transformer, "tflite"), (Seq2SeqRNN, "saved_model")]
)
def test_an_application_can_drive_the_steps(cls, format, tmp_path):
    from keras_attn.export.verification import clients

    model = make(cls)
    ids = [[5, 6, 7, 4], [8, 9, 0, 0]]
    assert export(model, tmp_path, format, tasks=["prefill", "decode"]).ok
    names = {
        "onnx": ("{}.onnx", "ONNX"),
        "tflite": ("model.tflite", "TFLite"),
        "saved_model": ("saved_model", "SavedModel"),
    }
    file, prefix = names[format]
    code = DRIVER.format(
        client=f"run_{format}",
        artefact=f"{prefix}Artefact",
        paths=[(str(tmp_path / file.format(task)), task) for task in ("prefill", "decode")],
        ids=ids,
        length=LENGTH,
    )
    folder = clients.script(format).parent
    run = run_script(code, folder)
    assert run.returncode == 0, run.stderr
    expected = model.generate(np.array(ids, "int32"))
    tokens = np.array(json.loads(run.stdout.splitlines()[-1]))
    # The driver goes on behind the end of a row.
    ended = np.cumsum(tokens == 3, axis=1) - (tokens == 3) > 0
    np.testing.assert_array_equal(np.where(ended, 0, tokens), expected)


class TestStep:
    """The graph that onnxruntime-genai drives."""

    def past(self, task, batch, length):
        sizes = {"batch": batch, "past_length": length}
        return {
            name: np.zeros([sizes.get(axis, axis) for axis in spec.axes], "float32")
            for name, spec in task.inputs.items()
            if name.startswith("past")
        }

    @pytest.mark.parametrize("settings", [{}, {"num_kv_heads": 1}, WINDOWED], ids=["plain", "grouped", "windowed"])
    def test_a_prompt_in_pieces_is_the_model(self, settings):
        model = make(LanguageModel, **settings)
        task = registry.load("tasks", "step")(model)
        ids = np.array([[5, 6, 7, 8, 4, 9]], "int64")
        state, logits = self.past(task, 1, 0), []
        for start, end in ((0, 3), (3, 4), (4, 6)):
            given = {"input_ids": ids[:, start:end], "attention_mask": np.ones((1, end), "int64"), **state}
            outputs = reference.outputs(task.call, given)
            logits.append(outputs.pop("logits"))
            state = {name.replace("present", "past_key_values"): value for name, value in outputs.items()}
        expected = model({"token_ids": ids.astype("int32")})
        np.testing.assert_allclose(np.concatenate(logits, axis=1), expected, atol=1e-5)

    def test_padding_before_a_prompt(self):
        model = make(LanguageModel)
        task = registry.load("tasks", "step")(model)
        padded = {"input_ids": np.array([[0, 0, 5, 6, 7]]), "attention_mask": np.array([[0, 0, 1, 1, 1]])}
        logits = reference.outputs(task.call, {**padded, **self.past(task, 1, 0)})["logits"]
        np.testing.assert_allclose(logits[:, 2:], model({"token_ids": np.array([[5, 6, 7]])}), atol=1e-5)

    def test_files_beside_the_model(self, tmp_path):
        model = make(LanguageModel, num_kv_heads=1)
        assert export(model, tmp_path, "onnx", tasks="step").ok
        files = {"config.json", "generation_config.json", "genai_config.json", "model.onnx"}
        assert {path.name for path in (tmp_path / "step").iterdir()} == files

    def test_what_never_ends_ends_at_padding(self):
        tokenizer = BytePairTokenizer(["a", "b", "<pad>"], [], None, None, "<pad>")
        model = LanguageModel(3, **SIZES, tokenizer=tokenizer)
        files = registry.load("tasks", "step")(model).companions()
        assert json.loads(files["genai_config.json"])["model"]["eos_token_id"] == 2
        assert "eos_token_id" not in json.loads(files["generation_config.json"])
