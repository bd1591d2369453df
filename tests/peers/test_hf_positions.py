"""Positions side by side with Hugging Face's."""

import numpy as np
import pytest

from keras_attn.layers import (
    ALiBiPositionBias,
    MultiHeadAttention,
    RelativePositionBias,
    RotaryPositionEncoding,
    ShawRelativePosition,
    SinusoidalPositionEncoding,
    SinusoidalPositionEncoding2D,
)
from keras_attn.ops import distance_buckets

torch = pytest.importorskip("torch", reason="needs torch==2.13.0: make peers")
pytest.importorskip("transformers", reason="needs transformers==5.24.0: make peers")

B, N, T, H = 2, 3, 7, 16
MAX_LENGTH = 64
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": MAX_LENGTH}
LONG = {"rope_type": "longrope", "original_max_position_embeddings": MAX_LENGTH}
LONG |= {"short_factor": np.linspace(1, 1.5, H // 2).tolist(), "long_factor": np.linspace(1, 9, H // 2).tolist()}
SCALINGS = [
    {"rope_type": "default"},
    {"rope_type": "linear", "factor": 2.5},
    {"rope_type": "dynamic", "factor": 3.0, "original_max_position_embeddings": MAX_LENGTH},
    YARN,
    {**YARN, "attention_factor": 0.7, "truncate": False},
    {**YARN, "mscale": 0.7, "mscale_all_dim": 0.9, "beta_fast": 8, "beta_slow": 2},
    {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": MAX_LENGTH,
    },
    {**LONG, "factor": 4.0},
    {**LONG, "attention_factor": 1.19},
]


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def close(actual, expected, tolerance=1e-5):
    np.testing.assert_allclose(np.asarray(actual), expected.detach().numpy(), atol=tolerance, rtol=tolerance)


@pytest.mark.peer("RotaryPositionEncoding", "transformers.models.llama.modeling_llama.LlamaRotaryEmbedding")
@pytest.mark.parametrize("start", [0, 2 * MAX_LENGTH])
@pytest.mark.parametrize("scaling", SCALINGS, ids=str)
def test_llama_rotary(scaling, start):
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

    config = LlamaConfig(
        hidden_size=N * H,
        num_attention_heads=N,
        max_position_embeddings=MAX_LENGTH,
        rope_parameters={**scaling, "rope_theta": 5000.0},
    )
    x, positions = normal(B, N, T, H), start + np.arange(T)[None].repeat(B, axis=0)
    cos, sin = LlamaRotaryEmbedding(config)(torch.from_numpy(x), torch.from_numpy(positions))
    expected, _ = apply_rotary_pos_emb(torch.from_numpy(x), torch.from_numpy(x), cos, sin)
    close(RotaryPositionEncoding(base=5000.0, scaling=scaling).rotate(x, positions), expected, 5e-5)


@pytest.mark.peer("RotaryPositionEncoding", "transformers.models.gpt_neox.modeling_gpt_neox.GPTNeoXRotaryEmbedding")
def test_partial_rotary_of_gpt_neox():
    from transformers import GPTNeoXConfig
    from transformers.models.gpt_neox.modeling_gpt_neox import GPTNeoXRotaryEmbedding, apply_rotary_pos_emb

    parameters = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25}
    config = GPTNeoXConfig(hidden_size=N * H, num_attention_heads=N, rope_parameters=parameters)
    x, positions = normal(B, N, T, H), np.array([np.arange(T), np.arange(T) * 5])
    cos, sin = GPTNeoXRotaryEmbedding(config)(torch.from_numpy(x), torch.from_numpy(positions))
    expected, _ = apply_rotary_pos_emb(torch.from_numpy(x), torch.from_numpy(x), cos, sin)
    close(RotaryPositionEncoding(rotary_dim=H // 4).rotate(x, positions), expected)


@pytest.mark.peer("RotaryPositionEncoding", "transformers.models.gptj.modeling_gptj.GPTJRotaryEmbedding")
def test_interleaved_rotary_of_gptj():
    from transformers import GPTJConfig
    from transformers.models.gptj.modeling_gptj import GPTJRotaryEmbedding, apply_rotary_pos_emb

    rotary_dim = 10
    x, positions = normal(B, N, T, H), np.array([np.arange(T), np.arange(T) * 5])
    rotated = torch.from_numpy(x[..., :rotary_dim]).transpose(1, 2)
    sin, cos = GPTJRotaryEmbedding(GPTJConfig(rotary_dim=rotary_dim))(rotated, torch.from_numpy(positions))
    expected = apply_rotary_pos_emb(rotated, sin, cos).transpose(1, 2)
    actual = RotaryPositionEncoding(rotary_dim=rotary_dim, interleaved=True).rotate(x, positions)
    close(actual[..., :rotary_dim], expected)
    np.testing.assert_array_equal(actual[..., rotary_dim:], x[..., rotary_dim:])


@pytest.mark.peer("RelativePositionBias", "transformers.models.t5.modeling_t5.T5Attention")
@pytest.mark.parametrize(("num_buckets", "max_distance"), [(32, 128), (8, 20), (64, 500)])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_t5_bias(bidirectional, num_buckets, max_distance):
    from transformers import T5Config
    from transformers.models.t5.modeling_t5 import T5Attention

    config = T5Config(
        num_heads=N,
        relative_attention_num_buckets=num_buckets,
        relative_attention_max_distance=max_distance,
        is_decoder=not bidirectional,
    )
    theirs = T5Attention(config, has_relative_attention_bias=True, layer_idx=0)
    table = normal(num_buckets, N)
    with torch.no_grad():
        theirs.relative_attention_bias.weight.copy_(torch.from_numpy(table))
    ours = RelativePositionBias(N, num_buckets, max_distance, bidirectional)
    ours.build()
    ours.set_weights([table])
    queries, keys = np.arange(600, dtype="int32")[None], np.arange(610, dtype="int32")[None]
    expected = theirs._relative_position_bucket(
        torch.from_numpy(keys - queries.T), bidirectional, num_buckets, max_distance
    )
    buckets = distance_buckets(
        queries, keys, num_buckets=num_buckets, max_distance=max_distance, bidirectional=bidirectional
    )
    np.testing.assert_array_equal(buckets[0], expected)
    close(ours.logit_bias(queries, keys), theirs.compute_bias(600, 610))


@pytest.mark.peer("ALiBiPositionBias", "transformers.models.bloom.modeling_bloom.build_alibi_tensor")
@pytest.mark.parametrize("num_heads", [1, 5, 8, 12])
def test_bloom_alibi(num_heads):
    from transformers.models.bloom.modeling_bloom import build_alibi_tensor

    # Theirs is `slope * key`, ours `-slope * (query - key)`: under causality one number a query apart, which softmax
    # does not see.
    theirs = build_alibi_tensor(torch.ones(1, T), num_heads, torch.float32).reshape(1, num_heads, 1, T)
    positions = np.arange(T, dtype="int32")[None]
    bias = np.asarray(ALiBiPositionBias(num_heads).logit_bias(positions, positions))
    causal = np.tril(np.ones((T, T), "bool"))
    logits = normal(B, num_heads, T, T)

    def weights(bias):
        return torch.softmax(torch.from_numpy(np.where(causal, logits + bias, -np.inf)), dim=-1)

    close(weights(bias), weights(theirs.numpy()))
    offset = (theirs.numpy() - bias)[0, :, causal]
    np.testing.assert_allclose(offset, (theirs.numpy() - bias)[0, :, :, 0][:, np.nonzero(causal)[0]].T, atol=1e-5)


@pytest.mark.peer("SinusoidalPositionEncoding2D", "transformers.models.vit_mae.modeling_vit_mae.ViTMAEEmbeddings")
def test_mae_code():
    from transformers import ViTMAEConfig
    from transformers.models.vit_mae.modeling_vit_mae import ViTMAEEmbeddings

    embeddings = ViTMAEEmbeddings(ViTMAEConfig(hidden_size=24, image_size=20, patch_size=4))
    embeddings.initialize_weights()
    code = SinusoidalPositionEncoding2D(width=5, num_prefix=1)(np.zeros((1, 26, 24), "float32"))
    assert np.abs(np.asarray(code)[0, 2] - np.asarray(code)[0, 6]).max() > 0.1
    close(code, embeddings.position_embeddings)


@pytest.mark.peer(
    "ShawRelativePosition", "transformers.models.wav2vec2_bert.modeling_wav2vec2_bert.Wav2Vec2BertSelfAttention"
)
def test_relative_keys_of_wav2vec2_bert():
    from transformers import Wav2Vec2BertConfig
    from transformers.models.wav2vec2_bert.modeling_wav2vec2_bert import Wav2Vec2BertSelfAttention

    config = Wav2Vec2BertConfig(
        hidden_size=N * H,
        num_attention_heads=N,
        position_embeddings_type="relative_key",
        left_max_position_embeddings=3,
        right_max_position_embeddings=3,
        attn_implementation="eager",
    )
    theirs = Wav2Vec2BertSelfAttention(config).eval()
    ours = MultiHeadAttention(N, H, position=ShawRelativePosition(max_distance=3, key_dim=H))
    x = normal(B, T, N * H)
    ours(x)
    weights = [theirs.distance_embedding.weight]
    for projection in (theirs.linear_q, theirs.linear_k, theirs.linear_v):
        weights += [projection.weight.T.reshape(-1, N, H), projection.bias.reshape(N, H)]
    weights += [theirs.linear_out.weight.T.reshape(N, H, -1), theirs.linear_out.bias]
    ours.set_weights([w.detach().numpy() for w in weights])
    close(ours(x), theirs(torch.from_numpy(x))[0])


@pytest.mark.peer("ALiBiPositionBias", "transformers.models.mpt.modeling_mpt.build_mpt_alibi_tensor")
@pytest.mark.parametrize(("num_heads", "most"), [(4, 8), (8, 5), (6, 16), (5, 1)])
def test_mpt_alibi(num_heads, most):
    from transformers.models.mpt.modeling_mpt import build_mpt_alibi_tensor

    theirs = build_mpt_alibi_tensor(num_heads, T, alibi_bias_max=most)
    positions = np.arange(T, dtype="int32")[None]
    bias = ALiBiPositionBias(num_heads, alibi_bias_max=most).logit_bias(positions[:, -1:], positions)
    close(bias[0], theirs)


@pytest.mark.peer("SinusoidalPositionEncoding", "transformers.models.marian.modeling_marian")
@pytest.mark.parametrize("dim", [8, 14, 7])
def test_marian_sinusoids(dim):
    from transformers.models.marian.modeling_marian import MarianSinusoidalPositionalEmbedding

    theirs = MarianSinusoidalPositionalEmbedding(20, dim)
    theirs.weight.data = torch.as_tensor(theirs.create_weight())
    ours = SinusoidalPositionEncoding(interleaved=False)(np.zeros((B, T, dim), "float32"))
    close(ours[0], theirs((B, T)))


@pytest.mark.peer("SinusoidalPositionEncoding", "transformers.models.m2m_100.modeling_m2m_100")
@pytest.mark.parametrize("dim", [8, 14])
def test_m2m_100_sinusoids(dim):
    from transformers.models.m2m_100.modeling_m2m_100 import M2M100SinusoidalPositionalEmbedding

    theirs = M2M100SinusoidalPositionalEmbedding(20, dim, padding_idx=1)
    layer = SinusoidalPositionEncoding(interleaved=False, offset=2, endpoint=True)
    close(layer(np.zeros((1, T, dim), "float32")), theirs(torch.full((1, T), 5)))
