"""The fused ONNX graph has ONNX' own operators where they mean what the model does, and answers as the model."""

import keras
import numpy as np
import pytest

from keras_attn import EncoderModel, GenerationConfig, LanguageModel, Transformer
from keras_attn.export import export, registry
from keras_attn.export.tensor_spec import TensorSpec
from keras_attn.layers import GatedFeedForward, RelativePositionBias
from keras_attn.ops import gelu_tanh
from keras_attn.text import CharacterTokenizer

V, L, D, N, F = 23, 2, 24, 6, 37
SIZES = {"num_layers": L, "hidden_dim": D, "num_heads": N, "intermediate_dim": F}
CONFIG = {"generation_config": GenerationConfig(5, end_id=22)}


def bert():
    return EncoderModel.bert_base(V, **SIZES)


def gpt2(**kwargs):
    return LanguageModel.gpt2(V, 61, **SIZES, **{**CONFIG, **kwargs})


def llama(**kwargs):
    return LanguageModel.llama(V, **SIZES, num_kv_heads=2, **CONFIG, **kwargs)


def t5():
    return Transformer(
        V,
        L,
        D,
        N,
        norm="pre",
        norm_layer="rms",
        use_attention_bias=False,
        feed_forward=GatedFeedForward(F, activation=gelu_tanh, use_bias=False),
        position=RelativePositionBias(N, 8, 11),
        decoder_position=RelativePositionBias(N, 8, 11, bidirectional=False),
        **CONFIG,
    )


def randomised(model):
    rng = np.random.default_rng(1)
    model.set_weights([w + 0.2 * rng.standard_normal(w.shape) for w in model.get_weights()])
    return model


def exported(model, folder, task, **options):
    """The operators of the fused artefact, once it is proven equal to the model."""
    keras.utils.set_random_seed(3)
    [row] = export(randomised(model), folder, "onnx_fused", tasks=task, **options).rows
    assert row["identical"] == row["total"] > 0
    writer = registry.load("formats", "onnx_fused")()
    return writer.operators(folder / writer.path(task))


# What each model has of an operator in `forward`: two layers, and norms before, between and behind.
FUSED = {
    "bert": (bert, {"Attention": L, "LayerNormalization": 2 * L + 1, "Gelu": L}),
    "gpt2": (gpt2, {"Attention": L, "LayerNormalization": 2 * L + 1, "Gelu": L}),
    "llama": (llama, {"Attention": L, "RMSNormalization": 2 * L + 1, "RotaryEmbedding": 2 * L}),
    "t5": (t5, {"Attention": 3 * L, "RMSNormalization": 5 * L + 2, "Gelu": 2 * L}),
}


@pytest.mark.parametrize("kind", FUSED)
def test_a_model_as_it_is_called(kind, tmp_path):
    make, expected = FUSED[kind]
    operators = exported(make(), tmp_path, "forward")
    assert {name: operators[name] for name in expected} == expected
    assert not operators.keys() & {"Softmax", "Erf", "Tanh"}


@pytest.mark.parametrize("kind", ["gpt2", "llama", "t5"])
def test_generation(kind, tmp_path):
    operators = exported(FUSED[kind][0](), tmp_path, "generate")
    # A prompt needs the last layer for its keys only.
    assert operators["Attention"] == (3 * L if kind == "t5" else 2 * L - 1)
    assert operators["Loop"] == 1
    if kind == "gpt2":
        # All but the last of the prompt's, and all of the loop's, whose weights are constants there too.
        assert operators["LayerNormalization"] == 2 * (2 * L + 1) - 2


def test_a_step_with_a_cache(tmp_path):
    assert exported(llama(), tmp_path, "step")["Attention"] == L


def test_a_tokenizer_inside(tmp_path):
    pytest.importorskip("onnxruntime_extensions", reason="needs keras_attn[onnx]")
    tokenizer = CharacterTokenizer("abcdefghij é日klmnop")
    assert tokenizer.vocabulary_size == V
    model = gpt2(tokenizer=tokenizer, generation_config=GenerationConfig(5))
    assert exported(model, tmp_path, "generate")["Attention"] == 2 * L - 1


def test_eight_bits(tmp_path):
    [row] = export(randomised(bert()), tmp_path, "onnx_fused", tasks="forward", precision="int8").rows
    assert row["cosine"] < 1
    operators = registry.load("formats", "onnx_fused")().operators(tmp_path / "forward.fused.int8.onnx")
    assert operators["Attention"] == L


@pytest.mark.parametrize("options", [{"logit_soft_cap": 7.0}, {"sinks": True}], ids=["soft-cap", "sinks"])
def test_what_the_operator_does_not_mean(options, tmp_path):
    operators = exported(llama(attention_options=options), tmp_path, "forward")
    assert operators["Attention"] == 0
    assert operators["Softmax"] == L


@pytest.mark.parametrize("format", ["onnx", "onnx_fused", "tflite"])
def test_graphs_are_lean(format, tmp_path):
    # Operators do not depend on widths: this is an encoder of six layers, whatever their size.
    model = EncoderModel(V, **{**SIZES, "num_layers": 6})
    task = registry.load("tasks", "forward")(model)
    task.inputs = {"token_ids": TensorSpec((1, 128), "int32")}
    writer = registry.load("formats", format)()
    writer.write(writer.convert([task], tmp_path), tmp_path)
    count = writer.operators(tmp_path / writer.path("forward")).total()
    assert count <= {"onnx": 360, "onnx_fused": 304, "tflite": 255}[format]
