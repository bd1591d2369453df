"""Embeddings beside that of the tokens, and the bias of a reversed one."""

from functools import partial

import pytest
from harness import LayerCase, pairs, run_check
from harness_export import check_export
from samples import D, M, embedded, normal

from keras_attn.layers import TokenEmbedding, TokenTypeEmbedding


def typed(rng, B, T, S):
    return {"inputs": normal(rng, B, T, D), "types": rng.integers(0, 5, size=(B, T), dtype="int32")}


CASES = [
    LayerCase(
        "token_types",
        partial(TokenTypeEmbedding, num_types=5),
        typed,
        lambda weights, inputs, types: inputs + weights[0][types],
        bad=(({"num_types": 0}, "`num_types`"),),
    ),
    LayerCase(
        "token_types_absent",
        partial(TokenTypeEmbedding, num_types=5),
        embedded,
        lambda weights, inputs: inputs + weights[0][0],
    ),
    LayerCase(
        "embedding_reverse_biased",
        partial(TokenEmbedding, input_dim=M, output_dim=D, use_bias=True),
        partial(embedded, reverse=True),
        lambda weights, inputs, reverse: inputs @ weights[0].T + weights[1],
        bad=(({"logit_soft_cap": 2.0}, "`use_bias`"),),
    ),
]


@pytest.mark.parametrize(("check", "case"), pairs(CASES))
def test_layer(check, case, tmp_path):
    run_check(check, case, tmp_path)


@pytest.mark.parametrize("format_name", ["saved_model", "tflite", "onnx"])
def test_export(format_name, tmp_path):
    check_export(CASES, format_name, tmp_path)
