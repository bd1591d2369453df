"""Decoders and translators of Hugging Face's, one for each setting that no other family shows, weights copied over."""

import keras
import numpy as np
import pytest

from keras_attn import LanguageModel, Transformer
from keras_attn.layers import ALiBiPositionBias, AudioFrontEnd, LearnedPositionEmbedding
from keras_attn.ops import gelu_tanh

torch = pytest.importorskip("torch", reason="needs torch==2.13.0: make peers")
transformers = pytest.importorskip("transformers", reason="needs transformers==5.24.0: make peers")

from peers.hf_weights import _copy_attention as copy_attention  # noqa: E402
from peers.hf_weights import _copy_network as copy_network  # noqa: E402
from peers.hf_weights import _linear as linear  # noqa: E402
from peers.test_hf_models import LLAMA, MAX, PADDED, REAL, B, D, F, L, N, T, V, close, outputs, their  # noqa: E402
from peers.torch_weights import copy_layer_norm, copy_linear  # noqa: E402

TARGET = np.random.default_rng(5).integers(1, V, (B, T))


def assign(variable, tensor):
    variable.assign(tensor.detach().numpy().reshape(variable.shape))


def copy_norm(theirs, residual):
    copy_layer_norm(theirs, residual.norm_before or residual.norm_after)


def copy_self_attention(theirs, ours, output="out_proj"):
    copy_attention(ours.layer, theirs.q_proj, theirs.k_proj, theirs.v_proj, getattr(theirs, output))


def olmo2():
    """Norms after the branches, and one over the queries or keys of all heads."""
    sizes = {**LLAMA, "rms_norm_eps": 1e-3}
    del sizes["head_dim"]
    theirs = their("Olmo2ForCausalLM", "Olmo2Config", **sizes)
    options = {"qk_norm": "all_heads", "qk_norm_epsilon": 1e-3}
    settings = {"norm": "res_post", "norm_epsilon": 1e-3, "attention_options": options}
    ours = LanguageModel.llama(V, L, D, 6, F, num_kv_heads=2, **settings)
    assign(ours.embedding.embeddings, theirs.model.embed_tokens.weight)
    assign(ours.embedding.reverse_embeddings, theirs.lm_head.weight.T)
    for layer, block in zip(theirs.model.layers, ours.decoder.blocks, strict=True):
        copy_self_attention(layer.self_attn, block.self_attention, "o_proj")
        assign(block.self_attention.layer.query_norm.scale, layer.self_attn.q_norm.weight)
        assign(block.self_attention.layer.key_norm.scale, layer.self_attn.k_norm.weight)
        copy_network(block.feed_forward.layer, layer.mlp.up_proj, layer.mlp.down_proj, layer.mlp.gate_proj)
        assign(block.self_attention.norm_branch.scale, layer.post_attention_layernorm.weight)
        assign(block.feed_forward.norm_branch.scale, layer.post_feedforward_layernorm.weight)
    assign(ours.decoder.final_norm.scale, theirs.model.norm.weight)
    return theirs, ours


def gpt_neo():
    """Logits of attention without a factor, in every other layer for a window; only its output has a bias."""
    sizes = {"hidden_size": D, "num_layers": 2, "num_heads": N, "intermediate_size": F, "window_size": 4}
    kinds = {"attention_types": [[["global", "local"], 1]], "max_position_embeddings": MAX}
    theirs = their("GPTNeoForCausalLM", "GPTNeoConfig", vocab_size=V, **sizes, **kinds)
    ours = LanguageModel.gpt2(
        V,
        MAX,
        num_layers=2,
        hidden_dim=D,
        num_heads=N,
        intermediate_dim=F,
        use_attention_bias=["output"],
        attention_options={"scale": 1.0},
        layer_options=[{}, {"window": 4}],
    )
    assign(ours.embedding.embeddings, theirs.transformer.wte.weight)
    assign(ours.position.position_embeddings, theirs.transformer.wpe.weight)
    for layer, block in zip(theirs.transformer.h, ours.decoder.blocks, strict=True):
        copy_self_attention(layer.attn.attention, block.self_attention)
        copy_network(block.feed_forward.layer, layer.mlp.c_fc, layer.mlp.c_proj)
        copy_norm(layer.ln_1, block.self_attention)
        copy_norm(layer.ln_2, block.feed_forward)
    copy_layer_norm(theirs.transformer.ln_f, ours.decoder.final_norm)
    return theirs, ours


def opt_350m():
    """A table that is narrower than the model."""
    sizes = {"hidden_size": D, "num_hidden_layers": L, "ffn_dim": F, "num_attention_heads": N}
    sizes |= {"max_position_embeddings": MAX, "word_embed_proj_dim": 10, "do_layer_norm_before": False}
    theirs = their("OPTForCausalLM", "OPTConfig", vocab_size=V, pad_token_id=0, **sizes)
    settings = {"embedding_dim": 10, "norm": "post", "norm_epsilon": 1e-5, "activation": "relu"}
    ours = LanguageModel(V, L, D, N, F, position=LearnedPositionEmbedding(MAX), **settings)
    stack = theirs.model.decoder
    assign(ours.embedding.embeddings, stack.embed_tokens.weight)
    assign(ours.position.position_embeddings, stack.embed_positions.weight[2:])
    copy_linear(stack.project_in, ours.embedding_projection)
    copy_linear(stack.project_out, ours.output_dense)
    for layer, block in zip(stack.layers, ours.decoder.blocks, strict=True):
        copy_block(layer, block)
    return theirs, ours


def bloom():
    """A norm after the embeddings."""
    sizes = {"hidden_size": D, "n_layer": L, "n_head": N}
    theirs = their("BloomForCausalLM", "BloomConfig", vocab_size=V, pad_token_id=0, **sizes)
    settings = {"embedding_norm": True, "norm_epsilon": 1e-5, "activation": gelu_tanh}
    ours = LanguageModel(V, L, D, N, 4 * D, position=ALiBiPositionBias(N), **settings)
    stack = theirs.transformer
    assign(ours.embedding.embeddings, stack.word_embeddings.weight)
    copy_layer_norm(stack.word_embeddings_layernorm, ours.embedding_norm)
    for layer, block in zip(stack.h, ours.decoder.blocks, strict=True):
        joint = layer.self_attention.query_key_value
        weight, bias = joint.weight.reshape(N, 3, -1, D), joint.bias.reshape(N, 3, -1)
        parts = [linear(weight[:, i].reshape(D, D), bias[:, i].reshape(D)) for i in range(3)]
        copy_attention(block.self_attention.layer, *parts, layer.self_attention.dense)
        copy_network(block.feed_forward.layer, layer.mlp.dense_h_to_4h, layer.mlp.dense_4h_to_h)
        copy_norm(layer.input_layernorm, block.self_attention)
        copy_norm(layer.post_attention_layernorm, block.feed_forward)
    copy_layer_norm(stack.ln_f, ours.decoder.final_norm)
    return theirs, ours


PAIRS = {
    "transformers.Olmo2ForCausalLM": olmo2,
    "transformers.GPTNeoForCausalLM": gpt_neo,
    "transformers.OPTForCausalLM": opt_350m,
    "transformers.BloomForCausalLM": bloom,
}


@pytest.mark.parametrize(
    "pair", [pytest.param(pair, marks=pytest.mark.peer("LanguageModel", peer), id=peer) for peer, pair in PAIRS.items()]
)
def test_language_models(pair):
    theirs, ours = pair()
    expected = outputs(theirs, input_ids=PADDED, attention_mask=REAL.astype("int64"))
    close(ours({"token_ids": PADDED}), expected, REAL)


def copy_block(layer, block):
    """A layer of OPT, BART or Whisper."""
    copy_self_attention(layer.self_attn, block.self_attention)
    copy_norm(layer.self_attn_layer_norm, block.self_attention)
    if hasattr(layer, "encoder_attn"):
        copy_self_attention(layer.encoder_attn, block.cross_attention)
        copy_norm(layer.encoder_attn_layer_norm, block.cross_attention)
    copy_network(block.feed_forward.layer, layer.fc1, layer.fc2)
    copy_norm(layer.final_layer_norm, block.feed_forward)


def copy_stacks(theirs, ours, first_row=0):
    assign(ours.target_embedding.embeddings, theirs.model.decoder.embed_tokens.weight)
    encoder = theirs.model.encoder, ours.encoder, ours.position
    decoder = theirs.model.decoder, ours.decoder, ours.decoder_position
    for stack, mine, position in (encoder, decoder):
        assign(position.position_embeddings, stack.embed_positions.weight[first_row:])
        for layer, block in zip(stack.layers, mine.blocks, strict=True):
            copy_block(layer, block)


SEQ2SEQ = {"vocab_size": V, "d_model": D, "encoder_layers": L, "decoder_layers": L + 1, "encoder_ffn_dim": F}
SEQ2SEQ |= {"decoder_ffn_dim": F, "encoder_attention_heads": N, "decoder_attention_heads": N, "pad_token_id": 0}
SETTINGS = {"num_decoder_layers": L + 1, "norm_epsilon": 1e-5, "activation": "gelu", "scale_embeddings": False}


@pytest.mark.peer("Transformer", "transformers.BartForConditionalGeneration")
def test_bart():
    theirs = their("BartForConditionalGeneration", "BartConfig", **SEQ2SEQ, max_position_embeddings=MAX)
    theirs.final_logits_bias = torch.randn(1, V)
    positions = {"position": LearnedPositionEmbedding(MAX), "decoder_position": LearnedPositionEmbedding(MAX)}
    ours = Transformer(V, L, D, N, F, embedding_norm=True, output_bias=True, **SETTINGS, **positions)
    copy_stacks(theirs, ours, first_row=2)
    assign(ours.target_embedding.bias, theirs.final_logits_bias)
    copy_layer_norm(theirs.model.encoder.layernorm_embedding, ours.embedding_norm)
    copy_layer_norm(theirs.model.decoder.layernorm_embedding, ours.decoder_embedding_norm)
    expected = outputs(theirs, input_ids=PADDED, attention_mask=REAL.astype("int64"), decoder_input_ids=TARGET)
    close(ours({"source_ids": PADDED, "target_ids": TARGET}), expected)


@pytest.mark.peer("Transformer", "transformers.WhisperForConditionalGeneration")
def test_whisper():
    sizes = {"max_source_positions": 20, "max_target_positions": MAX, "num_mel_bins": 5}
    ends = {"bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    theirs = their("WhisperForConditionalGeneration", "WhisperConfig", **SEQ2SEQ, **sizes, **ends)
    ours = Transformer(
        V,
        L,
        D,
        N,
        F,
        norm="pre",
        use_attention_bias=["query", "value", "output"],
        embeddings=AudioFrontEnd(D),
        inputs={"features": keras.Input((None, 5))},
        position=LearnedPositionEmbedding(20),
        decoder_position=LearnedPositionEmbedding(MAX),
        **SETTINGS,
    )
    copy_stacks(theirs, ours)
    encoder = theirs.model.encoder
    for convolution, projection in zip((encoder.conv1, encoder.conv2), ours.embeddings.convolutions, strict=True):
        assign(projection.kernel, convolution.weight.permute(2, 1, 0))
        assign(projection.bias, convolution.bias)
    copy_layer_norm(encoder.layer_norm, ours.encoder.final_norm)
    copy_layer_norm(theirs.model.decoder.layer_norm, ours.decoder.final_norm)
    features = np.random.default_rng(0).normal(size=(B, 40, 5)).astype("float32")
    expected = outputs(theirs, input_features=features.transpose(0, 2, 1), decoder_input_ids=TARGET)
    close(ours({"features": features, "target_ids": TARGET}), expected)
