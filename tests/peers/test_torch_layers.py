"""Side by side with torch.nn, weights copied over."""

import numpy as np
import pytest
import tensorflow as tf
from peers.torch_weights import copy_decoder_layer, copy_encoder_layer, copy_multi_head_attention

from keras_attn.layers import DecoderBlock, EncoderBlock, MultiHeadAttention
from keras_attn.ops import AttentionMask, dense_attention

torch = pytest.importorskip("torch", reason="needs torch==2.13.0: make peers")

B, T, S, N, H = 2, 5, 7, 3, 4
D, DV, F = N * H, 17, 19
CAUSAL = np.tril(np.ones((T, T), "bool"))
REAL = np.arange(S) < np.array([[S - 2], [S]])


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def close(actual, expected):
    np.testing.assert_allclose(np.asarray(actual), expected.detach().numpy(), atol=1e-5)


def tensors(*arrays):
    return [torch.from_numpy(np.asarray(x)) for x in arrays]


def randomise(module):
    with torch.no_grad():
        for i, parameter in enumerate(module.parameters()):
            parameter.copy_(torch.from_numpy(normal(*parameter.shape, seed=i) * 0.3))
    return module.eval()


@pytest.mark.parametrize("masks", [{"value_mask"}, {"attention_mask"}, {"value_mask", "attention_mask"}, set()])
@pytest.mark.peer("MultiHeadAttention", "torch.nn.MultiheadAttention")
def test_attention_to_a_memory(masks):
    theirs = randomise(torch.nn.MultiheadAttention(D, N, kdim=DV, vdim=DV, batch_first=True))
    ours = MultiHeadAttention(N, H)
    query, memory = normal(B, T, D), normal(B, S, DV, seed=1)
    allowed = np.random.default_rng(2).random((T, S)) < 0.5
    allowed[:, 0] = True
    given = {"value_mask": REAL, "attention_mask": allowed}
    # torch's boolean masks say who is left out.
    names = {"value_mask": "key_padding_mask", "attention_mask": "attn_mask"}
    theirs_given = {names[name]: torch.from_numpy(~given[name]) for name in masks}
    ours(query, memory)
    copy_multi_head_attention(theirs, ours)
    output, scores = ours(query, memory, return_attention_scores=True, **{name: given[name] for name in masks})
    expected = theirs(*tensors(query, memory, memory), average_attn_weights=False, **theirs_given)
    close(output, expected[0])
    close(scores, expected[1])


@pytest.mark.parametrize("bias", [None, 0.3])
@pytest.mark.parametrize("names", [("add_bias_kv",), ("add_zero_attn",), ("add_bias_kv", "add_zero_attn")])
@pytest.mark.peer("MultiHeadAttention", "torch.nn.MultiheadAttention")
def test_extra_keys(names, bias):
    """A query whose own keys are all masked attends to the extra ones."""
    extras = dict.fromkeys(names, True)
    theirs = randomise(torch.nn.MultiheadAttention(D, N, kdim=DV, vdim=DV, batch_first=True, **extras))
    ours = MultiHeadAttention(N, H, **extras)
    query, memory = normal(B, T, D), normal(B, S, DV, seed=1)
    allowed = np.random.default_rng(2).random((T, S)) < 0.5
    allowed[2] = False
    ours(query, memory)
    copy_multi_head_attention(theirs, ours)
    given, added = {"value_mask": REAL, "attention_mask": allowed}, ~allowed
    if bias is not None:
        given["bias"] = np.full((1, 1, T, S), bias, "float32") * np.arange(S, dtype="float32")
        added = np.where(allowed, given["bias"][0, 0], -np.inf).astype("float32")
    output, scores = ours(query, memory, return_attention_scores=True, **given)
    masks = {"key_padding_mask": torch.from_numpy(~REAL), "attn_mask": torch.from_numpy(added)}
    if bias is not None:
        masks["key_padding_mask"] = torch.zeros(B, S).masked_fill(masks["key_padding_mask"], -torch.inf)
    expected = theirs(*tensors(query, memory, memory), average_attn_weights=False, **masks)
    close(output, expected[0])
    close(scores, expected[1])
    assert scores.shape[-1] == S + len(extras)


@pytest.mark.peer("MultiHeadAttention", "torch.nn.MultiheadAttention")
def test_causal_self_attention_and_its_gradients():
    theirs = randomise(torch.nn.MultiheadAttention(D, N, batch_first=True))
    ours = MultiHeadAttention(N, H, causal=True)
    x, cotangent = normal(B, T, D), normal(B, T, D, seed=1)
    ours(x)
    copy_multi_head_attention(theirs, ours)
    source, [their_source] = tf.constant(x), tensors(x)
    their_source.requires_grad_()
    with tf.GradientTape() as tape:
        tape.watch(source)
        output = ours(source)
        loss = tf.reduce_sum(output * cotangent)
    expected = theirs(*[their_source] * 3, attn_mask=torch.from_numpy(~CAUSAL), is_causal=True, need_weights=False)[0]
    (expected * torch.from_numpy(cotangent)).sum().backward()
    close(output, expected)
    close(tape.gradient(loss, source), their_source.grad)


@pytest.mark.parametrize("num_kv_heads", [6, 2, 1])
@pytest.mark.parametrize("kind", ["plain", "mask", "bias", "causal", "scale"])
@pytest.mark.peer("MultiHeadAttention", "torch.nn.functional.scaled_dot_product_attention")
def test_scaled_dot_product_attention(kind, num_kv_heads):
    q, k, v = (normal(B, n, length, H, seed=n + length) for n, length in ((6, T), (num_kv_heads, S), (num_kv_heads, S)))
    if kind == "causal":
        k, v = k[:, :, :T], v[:, :, :T]
    allowed, bias = REAL[:, None, None] & np.ones((1, 1, T, 1), "bool"), normal(1, 6, T, S)
    positions = np.arange(T)[None]
    ours, theirs = {
        "plain": ({}, {}),
        "mask": ({"mask": AttentionMask(explicit=allowed)}, {"attn_mask": torch.from_numpy(allowed)}),
        "bias": ({"bias": bias}, {"attn_mask": torch.from_numpy(bias)}),
        "causal": (
            {"mask": AttentionMask(query_positions=positions, key_positions=positions, causal=True)},
            {"is_causal": True},
        ),
        "scale": ({"scale": 0.9}, {"scale": 0.9}),
    }[kind]
    expected = torch.nn.functional.scaled_dot_product_attention(*tensors(q, k, v), enable_gqa=True, **theirs)
    close(dense_attention(q, k, v, **ours), expected)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.peer("EncoderBlock", "torch.nn.TransformerEncoderLayer")
def test_encoder(norm, activation):
    config = {"dim_feedforward": F, "activation": activation, "layer_norm_eps": 1e-6, "batch_first": True}
    theirs = randomise(torch.nn.TransformerEncoderLayer(D, N, norm_first=norm == "pre", **config))
    ours = EncoderBlock(N, F, norm=norm, activation=activation)
    x = normal(B, S, D)
    ours(x)
    copy_encoder_layer(theirs, ours)
    close(ours(x), theirs(*tensors(x)))
    actual, expected = ours(x, inputs_mask=REAL), theirs(*tensors(x), src_key_padding_mask=torch.from_numpy(~REAL))
    # What stands at padding is nobody's business, and differs.
    np.testing.assert_allclose(np.asarray(actual)[REAL], expected.detach().numpy()[REAL], atol=1e-5)


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.peer("DecoderBlock", "torch.nn.TransformerDecoderLayer")
def test_decoder(norm):
    theirs = randomise(
        torch.nn.TransformerDecoderLayer(
            D, N, dim_feedforward=F, layer_norm_eps=1e-6, batch_first=True, norm_first=norm == "pre"
        )
    )
    ours = DecoderBlock(N, F, norm=norm)
    x, memory = normal(B, T, D), normal(B, S, D, seed=1)
    ours(x, memory)
    copy_decoder_layer(theirs, ours)
    expected = theirs(
        *tensors(x, memory), tgt_mask=torch.from_numpy(~CAUSAL), memory_key_padding_mask=torch.from_numpy(~REAL)
    )
    close(ours(x, memory, memory_mask=REAL), expected)
