"""A backbone of KerasHub behind `keras_attn.generation` and `keras_attn.export`: a plain model with two methods."""

import itertools

import keras
import numpy as np
import pytest
from keras import ops

from keras_attn import GenerationConfig
from keras_attn.export import ExportError, export
from keras_attn.generation import BeamSearch, generate, score, stream

hub = pytest.importorskip("keras_hub", reason="needs keras-hub: make peers")

VOCABULARY, LAYERS, HEADS, WIDTH, PAD, END = 7, 2, 2, 8, 0, 3
PROMPTS = np.array([[5, 4, 6, 1], [6, 5, PAD, PAD], [4, PAD, PAD, PAD]])


class HubLanguageModel(keras.Model):
    """GPT-2 of KerasHub, with the caches of its own layers.

    These write all rows into one slot: generated tokens come after the padding of the prompts, which a mask hides.
    """

    vocabulary_size, pad_id, continues_prompts = VOCABULARY, PAD, True

    def __init__(self, backbone, **kwargs):
        super().__init__(**kwargs)
        self.backbone = backbone

    def last(self, ids):
        """The place of the last token of each prompt, `(B, 1)`."""
        return ops.sum(ops.cast(ops.not_equal(ids, PAD), "int32"), axis=1, keepdims=True) - 1

    def first_decoder_inputs(self, ids, mask, start_id):
        here = ops.equal(ops.arange(ops.shape(ids)[1]), self.last(ids))
        return ops.sum(ops.where(here, ids, 0), axis=1, keepdims=True), self.last(ids)

    def embed(self, ids, positions):
        tokens = self.backbone.token_embedding(ids)
        return tokens + self.backbone.position_embedding(tokens, positions=positions)

    def prefill(self, ids, mask=None, *, length, bounded=True):
        rows, width = ops.shape(ids)[0], ops.shape(ids)[1]
        x, caches = self.embed(ids, ops.arange(width)[None]), []
        for layer in self.backbone.transformer_layers:
            empty = ops.zeros((rows, 2, width + length, HEADS, WIDTH // HEADS))
            x, cache = layer(x, self_attention_cache=empty, self_attention_cache_update_index=0)
            caches.append(cache)
        known = ops.less(ops.arange(width + length), self.last(ids))
        return (caches, known, ops.zeros((rows, 1), "int32") + width), ()

    def decode(self, ids, positions, cache, memory=()):
        old, known, slot = cache
        known = ops.logical_or(known, ops.equal(ops.arange(ops.shape(known)[1]), slot))
        x, caches = self.embed(ids, positions), []
        mask = {"decoder_attention_mask": ops.expand_dims(known, 1), "use_causal_mask": False}
        for layer, one in zip(self.backbone.transformer_layers, old, strict=True):
            x, one = layer(x, self_attention_cache=one, self_attention_cache_update_index=slot[0, 0], **mask)
            caches.append(one)
        logits = self.backbone.token_embedding(self.backbone.layer_norm(x), reverse=True)
        return logits, (caches, known, slot + 1)


class WithoutCaches(HubLanguageModel):
    """The same model, whose cache is the ids: each step computes all of them again."""

    def prefill(self, ids, mask=None, *, length, bounded=True):
        return ops.pad(ids, [[0, 0], [0, length]]), ()

    def decode(self, ids, positions, cache, memory=()):
        here = ops.equal(ops.arange(ops.shape(cache)[1]), positions)
        cache = ops.where(here, ids, cache)
        # Causality hides what comes later.
        hidden = self.backbone({"token_ids": cache, "padding_mask": ops.ones_like(cache)})
        hidden = ops.sum(ops.where(ops.expand_dims(here, -1), hidden, 0.0), axis=1, keepdims=True)
        return self.backbone.token_embedding(hidden, reverse=True), cache


@pytest.fixture(scope="module")
def backbone():
    keras.utils.set_random_seed(1)
    made = hub.models.GPT2Backbone(VOCABULARY, LAYERS, HEADS, WIDTH, 16, max_sequence_length=128)
    rng = np.random.default_rng(0)
    made.set_weights([rng.normal(size=w.shape) for w in made.weights])
    return made


@pytest.fixture(scope="module", params=[HubLanguageModel, WithoutCaches])
def model(request, backbone):
    return request.param(backbone)


def cut(row):
    """A row of tokens up to its end."""
    row = [int(token) for token in row]
    return row[: row.index(END) + 1] if END in row else row


def real(prompt):
    return prompt[prompt != PAD]


def test_greedy_is_that_of_keras_hub(model, backbone):
    theirs = hub.models.GPT2CausalLM(backbone, preprocessor=None)
    theirs.compile(sampler="greedy", jit_compile=False)
    found = generate(model, PROMPTS, config=GenerationConfig(8, end_id=END))
    assert len({tuple(cut(row)) for row in found}) == len(PROMPTS)
    for prompt, row in zip(map(real, PROMPTS), found, strict=True):
        ids = np.pad(prompt, (0, 8))[None]
        mask = np.arange(ids.shape[1])[None] < len(prompt)
        expected = theirs.generate({"token_ids": ids, "padding_mask": mask}, stop_token_ids=None)["token_ids"]
        assert cut(row) == cut(expected[0, len(prompt) :])


def test_beams_find_the_best_of_all_sequences(model, backbone):
    """All are scored by the backbone without a cache; with as many beams as prefixes of two tokens, none is lost."""
    config = GenerationConfig(3, end_id=END, strategy=BeamSearch(VOCABULARY**2, length_penalty=0.0))
    outputs = generate(model, PROMPTS, config=config, return_dict=True)
    tails = np.array(list(itertools.product(range(VOCABULARY), repeat=3)))
    for prompt, tokens, found in zip(map(real, PROMPTS), outputs["tokens"], outputs["sequence_scores"], strict=True):
        ids = np.concatenate([np.tile(prompt, (len(tails), 1)), tails], axis=1)
        hidden = backbone({"token_ids": ids, "padding_mask": np.ones_like(ids)})
        log_p = ops.log_softmax(backbone.token_embedding(hidden, reverse=True))[:, len(prompt) - 1 : -1]
        log_p = np.take_along_axis(np.asarray(log_p), tails[:, :, None], axis=2)[:, :, 0]
        totals = {tuple(cut(tail)): row[: len(cut(tail))].sum() for tail, row in zip(tails, log_p, strict=True)}
        best = max(totals, key=totals.get)
        assert tuple(cut(tokens)) == best
        np.testing.assert_allclose(found, totals[best], atol=1e-4)


def test_streaming_scoring_and_xla_agree(model):
    config = GenerationConfig(6, end_id=END)
    outputs = generate(model, PROMPTS, config=config, return_dict=True)
    pieces = np.concatenate(list(stream(model, PROMPTS, config=config)), axis=1)
    np.testing.assert_array_equal(pieces, outputs["tokens"][:, : pieces.shape[1]])
    np.testing.assert_array_equal(generate(model, PROMPTS, config=config, jit_compile=True), outputs["tokens"])
    scores = score(model, PROMPTS, outputs["tokens"], config)["scores"]
    np.testing.assert_allclose(scores, outputs["scores"], atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "formats"), [(HubLanguageModel, ["saved_model", "tflite"]), (WithoutCaches, ["onnx"])]
)
def test_it_is_exported(kind, formats, backbone, tmp_path):
    model = kind(backbone)
    model.generation_config = GenerationConfig(5, end_id=END)
    report = export(model, tmp_path, formats)
    assert [row["format"] for row in report.rows] == formats
    assert all(row["ok"] and row["identical"] == row["total"] > 0 for row in report.rows)


def test_caches_of_keras_hub_are_not_exported_to_onnx(backbone, tmp_path):
    """They are written by `keras.ops.slice_update`, on TensorFlow an operator of XLA for which tf2onnx has no rule."""
    model = HubLanguageModel(backbone)
    model.generation_config = GenerationConfig(5, end_id=END)
    with pytest.raises(ExportError, match="onnx: generate needs operators that ONNX lacks: XlaDynamicUpdateSlice"):
        export(model, tmp_path, "onnx")
