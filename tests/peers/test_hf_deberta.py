"""DeBERTa side by side with Hugging Face's."""

import numpy as np
import pytest

from keras_attn import EncoderModel
from keras_attn.layers import DisentangledAttention, DisentangledPositionEmbedding

torch = pytest.importorskip("torch", reason="needs torch==2.13.0: make peers")
transformers = pytest.importorskip("transformers", reason="needs transformers==5.24.0: make peers")

from peers.test_hf_models import outputs, their  # noqa: E402
from peers.torch_weights import copy_layer_norm, copy_linear  # noqa: E402

V, L, D, N, F, BUCKETS, MAX = 53, 3, 24, 3, 37, 8, 20
SIZES = {"vocab_size": V, "hidden_size": D, "num_hidden_layers": L, "num_attention_heads": N, "intermediate_size": F}
SIZES |= {"max_position_embeddings": MAX, "type_vocab_size": 0, "position_biased_input": False}
SIZES |= {"relative_attention": True, "position_buckets": BUCKETS, "pos_att_type": ["c2p", "p2c"]}
SIZES |= {"norm_rel_ebd": "layer_norm", "layer_norm_eps": 1e-7}


def copy_deberta(theirs, ours):
    ours.embedding.embeddings.assign(theirs.embeddings.word_embeddings.weight.detach().numpy())
    copy_layer_norm(theirs.embeddings.LayerNorm, ours.embedding_norm)
    ours.position.embeddings.assign(theirs.encoder.rel_embeddings.weight.detach().numpy())
    copy_layer_norm(theirs.encoder.LayerNorm, ours.position.norm_layer)
    for layer, block in zip(theirs.encoder.layer, ours.encoder.blocks, strict=True):
        heads, output, attention = layer.attention.self, layer.attention.output, block.self_attention.layer
        copy_linear(heads.query_proj, attention.query_dense)
        copy_linear(heads.key_proj, attention.key_dense)
        if attention.position_key_dense is not None:
            copy_linear(heads.pos_key_proj, attention.position_key_dense)
            copy_linear(heads.pos_query_proj, attention.position_query_dense)
        copy_linear(heads.value_proj, attention.value_dense)
        copy_linear(output.dense, attention.output_dense)
        copy_layer_norm(output.LayerNorm, block.self_attention.norm_after)
        copy_linear(layer.intermediate.dense, block.feed_forward.layer.intermediate_dense)
        copy_linear(layer.output.dense, block.feed_forward.layer.output_dense)
        copy_layer_norm(layer.output.LayerNorm, block.feed_forward.norm_after)


@pytest.mark.peer("EncoderModel", "transformers.DebertaV2Model")
@pytest.mark.peer("DisentangledAttention", "transformers.DebertaV2Model")
@pytest.mark.peer("DisentangledPositionEmbedding", "transformers.DebertaV2Model")
@pytest.mark.parametrize(
    ("config", "settings"),
    [
        ({"share_att_key": True}, {}),
        ({"share_att_key": False, "position_buckets": -1, "max_relative_positions": 7}, {"share_projections": False}),
    ],
)
def test_deberta(config, settings):
    theirs = their("DebertaV2Model", "DebertaV2Config", **{**SIZES, **config})
    buckets, far = theirs.config.position_buckets, theirs.config.max_relative_positions
    position = DisentangledPositionEmbedding(MAX if far < 1 else far, None if buckets < 1 else buckets)
    attention = DisentangledAttention(N, D // N, **settings)
    ours = EncoderModel(V, L, D, None, F, norm_epsilon=1e-7, attention=attention, position=position)
    copy_deberta(theirs, ours)
    # Longer than twice the buckets, so that the last are shared.
    ids = np.random.default_rng(3).integers(1, V, (3, MAX - 1))
    real = np.arange(MAX - 1) < np.array([[MAX - 1], [3], [11]])
    expected = outputs(theirs, input_ids=ids, attention_mask=real.astype("int64"))
    found = np.asarray(ours({"token_ids": ids, "padding_mask": real}))
    np.testing.assert_allclose(found[real], expected[real], atol=2e-5, rtol=1e-5)
    assert np.std(expected[real]) > 0.5
    # The distances matter.
    turned = ours({"token_ids": ids[:, ::-1]})[:, ::-1]
    assert np.abs(turned - ours({"token_ids": ids})).max() > 0.1


@pytest.mark.parametrize(("buckets", "far"), [(256, 512), (256, 1024), (8, 20)])
def test_buckets(buckets, far):
    from transformers.models.deberta_v2.modeling_deberta_v2 import build_relative_position

    positions = np.arange(far + 70)[None]
    expected = build_relative_position(torch.empty(far + 70, 1), torch.empty(far + 70, 1), buckets, far)
    found = DisentangledPositionEmbedding(far, buckets).buckets(positions, positions)
    np.testing.assert_array_equal(found, np.clip(expected + buckets, 0, 2 * buckets - 1))
