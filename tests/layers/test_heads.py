"""Heads of encoders."""

from functools import partial

import numpy as np
import pytest
from harness import LayerCase, pairs, run_check
from harness_export import check_export
from samples import DV, D, embedded, normal, padded

from keras_attn.layers import ClassificationHead, EmbeddingHead, FirstTokenPooling, MeanPooling, Similarity

C = 7
BAD = (
    ({"num_classes": 0}, "`num_classes`"),
    ({"hidden_dim": 0}, "`hidden_dim`"),
    ({"pooling": "mean"}, "`pooling` must be a pooling layer or None"),
    ({"inputs": np.ones((2, D), "float32"), "inputs_mask": None}, "`inputs` must have rank 3"),
)


def pooled_oracle(weights, inputs, inputs_mask):
    hidden, hidden_bias, kernel, bias = weights
    x = np.stack([x[mask].mean(axis=0) for x, mask in zip(inputs, inputs_mask, strict=True)])
    return np.tanh(x @ hidden + hidden_bias) @ kernel + bias


def normalised_oracle(weights, inputs):
    gamma, hidden, kernel = weights
    x = np.maximum(inputs @ hidden, 0)
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-3) * gamma @ kernel


def embedding_oracle(weights, inputs, inputs_mask=None):
    x = inputs[:, 0]
    if inputs_mask is not None:
        x = np.stack([x[mask].mean(axis=0) for x, mask in zip(inputs, inputs_mask, strict=True)])
    x = np.tanh(x @ weights[0] + weights[1]) if weights else x
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def similarity_oracle(weights, inputs, others):
    scale, bias = weights
    a, b = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (inputs, others))
    return np.exp(scale) * a @ b.T + bias


CASES = [
    LayerCase(
        "similarity",
        partial(Similarity, use_bias=True),
        lambda rng, B, T, S: {"inputs": normal(rng, B, D), "others": normal(rng, S, D)},
        similarity_oracle,
        bad=(
            ({"initial_scale": float("nan")}, "`initial_scale`"),
            ({"others": np.ones((3, DV), "float32")}, "`others` must have the width 13"),
        ),
    ),
    LayerCase(
        "classification_head",
        partial(ClassificationHead, num_classes=C, pooling=MeanPooling(), hidden_dim=DV, dropout=0.1),
        padded,
        pooled_oracle,
        {"inputs": "inputs_mask"},
        BAD,
        {"fully_masked": "a fully masked row gets the logits of a zero vector, which depend on the biases"},
        output_mask=lambda mask: mask.any(axis=1),
    ),
    LayerCase(
        "classification_head_of_tokens",
        partial(ClassificationHead, C),
        embedded,
        lambda weights, inputs: inputs @ weights[0] + weights[1],
    ),
    LayerCase(
        "embedding_head",
        EmbeddingHead,
        padded,
        embedding_oracle,
        {"inputs": "inputs_mask"},
        (
            ({"pooling": "mean"}, "`pooling` must be a pooling layer or None"),
            ({"output_dim": 0}, "`output_dim`"),
            ({"activation": "tanh"}, "`activation` must be None without `output_dim`"),
            ({"inputs": np.ones((2, D), "float32"), "inputs_mask": None}, "`inputs` must have rank 3"),
        ),
        output_mask=lambda mask: mask.any(axis=1),
    ),
    LayerCase(
        "embedding_head_projected",
        partial(EmbeddingHead, FirstTokenPooling(), output_dim=DV, activation="tanh"),
        embedded,
        embedding_oracle,
    ),
    LayerCase(
        "classification_head_with_norm",
        partial(
            ClassificationHead,
            C,
            hidden_dim=DV,
            activation="relu",
            use_hidden_bias=False,
            use_bias=False,
            norm_layer="layer_no_bias",
            norm_epsilon=1e-3,
        ),
        embedded,
        normalised_oracle,
        bad=(({"norm_layer": "batch"}, "`norm_layer` must be one of 'layer', 'rms', 'layer_no_bias'"),),
    ),
]


@pytest.mark.parametrize(("check", "case"), pairs(CASES))
def test_layer(check, case, tmp_path):
    run_check(check, case, tmp_path)


@pytest.mark.parametrize("format_name", ["saved_model", "tflite", "onnx"])
def test_export(format_name, tmp_path):
    check_export(CASES, format_name, tmp_path)
