"""Attention kernels side by side with torch's, values and gradients."""

import numpy as np
import pytest
import tensorflow as tf

from keras_attn.ops import AttentionMask, blockwise_attention, dense_attention

torch = pytest.importorskip("torch", reason="needs torch==2.13.0: make peers")

B, N, K, T, H, HV = 2, 6, 2, 521, 11, 7


def normal(*shape, seed):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


@pytest.mark.parametrize("rule", ["free", "causal", "explicit", "bias"])
@pytest.mark.parametrize(
    "kernel",
    [
        pytest.param(kernel, marks=pytest.mark.peer(name, "torch.nn.functional.scaled_dot_product_attention"))
        for name, kernel in (("dense_attention", dense_attention), ("blockwise_attention", blockwise_attention))
    ],
)
def test_scaled_dot_product_attention(kernel, rule):
    arrays = [normal(*shape, seed=i) for i, shape in enumerate(((B, N, T, H), (B, K, T, H), (B, K, T, HV)))]
    cotangent, positions = normal(B, N, T, HV, seed=3), np.arange(T)[None]
    explicit = np.random.default_rng(4).random((B, 1, T, T)) < 0.5
    explicit[:, :, :, 0] = True
    bias = normal(1, N, T, T, seed=5)
    causal = AttentionMask(query_positions=positions, key_positions=positions, causal=True)
    ours, theirs = {
        "free": ({}, {}),
        "causal": ({"mask": causal}, {"is_causal": True}),
        "explicit": ({"mask": AttentionMask(explicit=explicit)}, {"attn_mask": torch.from_numpy(explicit)}),
        "bias": ({"bias": bias}, {"attn_mask": torch.from_numpy(bias)}),
    }[rule]
    tensors = [torch.from_numpy(x).requires_grad_() for x in arrays]
    expected = torch.nn.functional.scaled_dot_product_attention(*tensors, enable_gqa=True, **theirs)
    expected.backward(torch.from_numpy(cotangent))
    arrays = [tf.constant(x) for x in arrays]
    with tf.GradientTape() as tape:
        tape.watch(arrays)
        output = kernel(*arrays, **ours)
    np.testing.assert_allclose(output, expected.detach().numpy(), atol=1e-5)
    for actual, tensor in zip(tape.gradient(output, arrays, cotangent), tensors, strict=True):
        np.testing.assert_allclose(actual, tensor.grad.numpy(), atol=2e-5)
