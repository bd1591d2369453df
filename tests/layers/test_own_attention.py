"""A self-attention layer of a user's own, of public names alone: DeepSeek's, with its small cache."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_attn import GenerationConfig, LanguageModel
from keras_attn.export import export
from keras_attn.generation import BeamSearch
from keras_attn.layers import Projection
from keras_attn.ops import AttentionMask, dense_attention
from keras_attn.ops import cache as kv_cache

FORMATS = ["saved_model", "tflite", "onnx"]


@keras.saving.register_keras_serializable(package="tests")
class LatentAttention(keras.layers.Layer):
    """Keys and values of all heads from one small vector a token, and one rotated key a token, DeepSeek-AI, 2024.

    The cache holds these two alone.
    """

    def __init__(self, num_heads, key_dim, rotary_dim, latent_dim, position=None, **kwargs):
        super().__init__(**kwargs)
        self.num_heads, self.key_dim, self.rotary_dim, self.latent_dim = num_heads, key_dim, rotary_dim, latent_dim
        self.position = position

    def build(self, inputs_shape):
        width, latent = inputs_shape[-1], self.latent_dim
        heads = "abc,cde->abde", (None, self.num_heads, self.key_dim + self.rotary_dim)
        self.query_dense = self._projection("query", width, *heads)
        self.down = self._projection("down", width, "abc,cd->abd", (None, latent))
        self.rotary_key = self._projection("rotary_key", width, "abc,cd->abd", (None, self.rotary_dim))
        self.norm = keras.layers.RMSNormalization(dtype=self.dtype_policy, name="norm")
        self.norm.build((None, None, latent))
        self.up = self._projection("up", latent, "abc,cde->abde", (None, self.num_heads, 2 * self.key_dim))
        self.output_dense = Projection("abde,dec->abc", (None, width), dtype=self.dtype_policy, name="output")
        self.output_dense.build((None, None, self.num_heads, self.key_dim))

    def _projection(self, name, width, equation, shape):
        projection = Projection(equation, shape, dtype=self.dtype_policy, name=name)
        projection.build((None, None, width))
        return projection

    def empty_cache(self, batch, length):
        return kv_cache.empty(batch, length, 1, (self.latent_dim, self.rotary_dim), self.compute_dtype)

    def call(
        self,
        inputs,
        query_mask=None,
        attention_mask=None,
        positions=None,
        cache=None,
        slots=None,
        use_causal_mask=False,
    ):
        if positions is None:
            positions = ops.expand_dims(ops.arange(ops.shape(inputs)[1], dtype="int32"), 0)
        q, latent = heads_first(self.query_dense(inputs)), ops.expand_dims(self.norm(self.down(inputs)), 1)
        k = self.position.rotate(ops.expand_dims(self.rotary_key(inputs), 1), positions)
        latent, k, key_positions, cache = stored((latent, k), positions, cache, slots)
        up = heads_first(self.up(ops.squeeze(latent, 1)))
        mask = AttentionMask(
            query_positions=positions,
            key_positions=key_positions,
            causal=use_causal_mask,
            key_mask=query_mask if cache is None else None,
            # Beam search looks at several rows of tokens through one.
            explicit=None if attention_mask is None else ops.expand_dims(attention_mask, 1),
        )
        scale = (self.key_dim + self.rotary_dim) ** -0.5
        rotated = self.position.rotate(q[..., self.key_dim :], positions)
        bias = ops.matmul(rotated, ops.swapaxes(k, -1, -2)) * scale
        contents = q[..., : self.key_dim], up[..., : self.key_dim], up[..., self.key_dim :]
        output = self.output_dense(heads_first(dense_attention(*contents, mask=mask, bias=bias, scale=scale)))
        return output if cache is None else (output, cache)

    def get_config(self):
        names = ("num_heads", "key_dim", "rotary_dim", "latent_dim")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}, "position": None}


def heads_first(x):
    return ops.transpose(x, (0, 2, 1, 3))


def stored(new, positions, held, slots):
    """`(*tensors, positions, cache)`: of all tokens so far, those in a cache and the `new` ones."""
    if not held:
        return *new, positions, held if held is None else tuple(map(kv_cache.store, new))
    write_slots, key_positions = slots or (positions, ops.expand_dims(ops.arange(ops.shape(held[0])[2]), 0))
    held = tuple(kv_cache.write(*pair, write_slots) for pair in zip(held, new, strict=True))
    return *(kv_cache.load(x, new[0].dtype) for x in held), key_positions, held


def deepseek(**options):
    model = LanguageModel(23, 2, 12, 2, 16, attention=LatentAttention(2, 4, 6, 5), tie_output=False, **options)
    rng = np.random.default_rng(0)
    weights = [rng.normal(scale=0.3, size=weight.shape) for weight in model.weights]
    gains = [weight.name in ("gamma", "scale") for weight in model.weights]
    model.set_weights([weight + gain for weight, gain in zip(weights, gains, strict=True)])
    return model


PROMPTS = np.array([[5, 6, 7, 9], [8, 9, 0, 0]])


def test_latent_attention_generates_as_it_would_without_a_cache():
    model = deepseek()
    found = model.generate(PROMPTS, max_length=6)
    for prompt, tokens in zip(PROMPTS, np.asarray(found), strict=True):
        ids = prompt[prompt > 0]
        for token in tokens:
            assert token == np.argmax(model(ids[None])[0, -1])
            ids = np.append(ids, token)
    assert min(len(set(tokens)) for tokens in np.asarray(found).tolist()) >= 4
    # With a beam for each token, nothing of two tokens is missed.
    exhaustive = GenerationConfig(2, strategy=BeamSearch(23, early_stopping="never"))
    first = np.asarray(model(PROMPTS[:1]))[0, -1]
    second = np.asarray(model(np.stack([np.append(PROMPTS[0], token) for token in range(23)])))[:, -1]
    scores = (first - np.logaddexp.reduce(first))[:, None] + second - np.logaddexp.reduce(second, axis=1)[:, None]
    best = np.unravel_index(np.argmax(scores), scores.shape)
    np.testing.assert_array_equal(np.asarray(model.generate(PROMPTS[:1], config=exhaustive))[0], best)


def test_latent_attention_caches_latents_alone(tmp_path):
    model = deepseek()
    caches = model.decoder.empty_caches(2, 7)
    assert [[x.shape for x in layer] for layer in caches] == [[(2, 1, 7, 5), (2, 1, 7, 6)]] * 2
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(PROMPTS), model(PROMPTS))


@pytest.mark.parametrize(("strategy", "formats"), [(None, FORMATS), (BeamSearch(3), ["onnx"])])
def test_latent_attention_generates_in_artefacts(strategy, formats, tmp_path):
    model = deepseek(generation_config=GenerationConfig(5, strategy=strategy))
    report = export(model, tmp_path, formats, tasks=["generate"])
    assert [row["format"] for row in report.rows] == formats
    assert all(row["ok"] and row["identical"] == row["total"] > 0 for row in report.rows)
