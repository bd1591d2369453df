import keras
import numpy as np
import oracle
import pytest
import tensorflow as tf

from keras_attn.ops import AttentionMask, blockwise_attention, dense_attention
from keras_attn.ops.local_attention import local_attention

B, N, T, S, H, HV = 2, 3, 5, 7, 11, 13


def arrays(num_heads=N, num_kv_heads=N):
    rng = np.random.default_rng(0)
    shapes = ((B, num_heads, T, H), (B, num_kv_heads, S, H), (B, num_kv_heads, S, HV))
    return [rng.normal(size=shape).astype("float32") for shape in shapes]


def explicit():
    mask = np.random.default_rng(1).random((B, 1, T, S)) < 0.5
    mask[0, 0, 1] = False
    return mask


@pytest.mark.parametrize("num_kv_heads", [6, 3, 2, 1])
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"mask": explicit()},
        {"bias": np.random.default_rng(2).normal(size=(1, 1, T, S)).astype("float32")},
        {"scale": 0.7},
        {"logit_soft_cap": 1.5, "bias": np.linspace(-5, 5, S, dtype="float32")},
    ],
    ids=lambda arguments: "-".join(arguments) or "plain",
)
def test_equals_oracle(arguments, num_kv_heads):
    q, k, v = arrays(6, num_kv_heads)
    names = {"logit_soft_cap": "soft_cap"}
    truth = {names.get(name, name): value for name, value in arguments.items()}
    expected = oracle.attention(*(x.astype("float64") for x in (q, k, v)), **truth)
    if "mask" in arguments:
        arguments = {"mask": AttentionMask(explicit=arguments["mask"])}
    output, scores = dense_attention(q, k, v, return_scores=True, **arguments)
    np.testing.assert_allclose(output, expected[0], atol=1e-5)
    np.testing.assert_allclose(scores, expected[1], atol=1e-6)
    np.testing.assert_array_equal(dense_attention(q, k, v, **arguments), output)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_large_logits_in_half_precision(dtype):
    q, k, v = (keras.ops.cast(x, dtype) for x in arrays())
    q = q * 2000
    exact = [np.asarray(keras.ops.cast(x, "float64")) for x in (q, k, v)]
    assert np.abs(np.einsum("bnth,bnsh->bnts", *exact[:2])).max() > 1e4
    output = dense_attention(q, k, v, mask=AttentionMask(explicit=explicit()))
    assert output.dtype == dtype
    output = np.asarray(keras.ops.cast(output, "float64"))
    np.testing.assert_allclose(output, oracle.attention(*exact, explicit())[0], atol=3e-2)


def test_float64_stays():
    q, k, v = (x.astype("float64") for x in arrays())
    output = dense_attention(q, k, v)
    assert output.dtype == "float64"
    np.testing.assert_allclose(output, oracle.attention(q, k, v)[0], atol=1e-7)


def test_dropout_keeps_the_mean_and_acts_in_training_only():
    q, k, v = (tf.tile(x[:1], (500, 1, 1, 1)) for x in arrays())
    exact = dense_attention(q, k, v, dropout=0.5, seed=1)
    np.testing.assert_array_equal(exact, dense_attention(q, k, v))
    dropped = dense_attention(q, k, v, dropout=0.5, seed=1, training=True)
    assert np.abs(dropped - exact).max() > 0.1
    np.testing.assert_allclose(np.mean(dropped, axis=0), exact[0], atol=0.15)


@pytest.mark.parametrize(("dtype", "masked"), [("float32", 1e30), ("bfloat16", 1e30), ("float16", 6e4)])
def test_gradients_are_finite_whatever_is_masked(dtype, masked):
    q, k, v = (tf.cast(x, dtype) for x in arrays())
    k = tf.where(np.arange(S)[:, None] == 3, tf.cast(masked, dtype), k)
    mask = AttentionMask(explicit=explicit() & (np.arange(S) != 3))
    with tf.GradientTape() as tape:
        tape.watch([q, k, v])
        output = dense_attention(q, k, v, mask=mask)
    dq, dk, dv = (np.asarray(g, "float32") for g in tape.gradient(output, [q, k, v]))
    assert all(np.all(np.isfinite(g)) and np.any(g) for g in (dq, dk, dv))
    assert not np.any(dk[:, :, 3])
    assert not np.any(dv[:, :, 3])
    assert not np.any(dq[0, :, 1])


@pytest.mark.parametrize("kernel", [dense_attention, blockwise_attention, local_attention])
@pytest.mark.parametrize("kind", ["causal", "other causal", "window", "padding", "bias"])
def test_hidden_keys_of_the_largest_logits(kernel, kind):
    """The last key has a logit of 1e38 and is hidden, those that are seen have -1e38 and less."""
    length = 300
    positions, is_last = np.arange(length)[None], np.arange(length) == length - 1
    masks = {
        "causal": AttentionMask(query_positions=positions, key_positions=positions, causal=True),
        "other causal": AttentionMask(query_positions=positions, key_positions=positions.copy(), causal=True),
        "window": AttentionMask(query_positions=positions, key_positions=positions, causal=True, window=length),
        "padding": AttentionMask(key_mask=~is_last[None]),
    }
    bias = np.where(is_last, -np.inf, 0).astype("float32").reshape(1, 1, 1, length) if kind == "bias" else None
    q = np.full((1, 1, length, 1), 1e19, "float32")
    k = np.where(is_last, 1e19, np.linspace(-0.9e19, -1e19, length)).astype("float32").reshape(1, 1, length, 1)
    v = np.random.default_rng(0).normal(size=(1, 1, length, 3)).astype("float32")
    q = tf.constant(q)
    with tf.GradientTape() as tape:
        tape.watch(q)
        output = kernel(q, k, v, mask=masks.get(kind), bias=bias, scale=1.0)
    gradient = tape.gradient(output, q)
    np.testing.assert_allclose(output[0, 0, :-1], np.tile(v[0, 0, :1], (length - 1, 1)), atol=1e-6)
    assert np.isfinite(gradient).all()
