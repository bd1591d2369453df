"""Copies weights of Hugging Face's models into models of keras_attn."""

import torch
from peers.torch_weights import copy_layer_norm, copy_linear


def copy_bert(theirs, ours):
    """A `BertModel`, or a model round one with a sequence classifier or a masked-LM head, into an `EncoderModel`."""
    bert = getattr(theirs, "bert", theirs)
    _copy_bert_embeddings(bert.embeddings, ours)
    for layer, block in zip(bert.encoder.layer, ours.encoder.blocks, strict=True):
        heads, output = layer.attention.self, layer.attention.output
        _copy_attention(block.self_attention.layer, heads.query, heads.key, heads.value, output.dense)
        copy_layer_norm(output.LayerNorm, block.self_attention.norm_after)
        _copy_network(block.feed_forward.layer, layer.intermediate.dense, layer.output.dense)
        copy_layer_norm(layer.output.LayerNorm, block.feed_forward.norm_after)
    if hasattr(theirs, "classifier"):
        copy_linear(theirs.classifier, ours.get_layer("classifier"))
        if bert.pooler is not None:
            copy_linear(bert.pooler.dense, ours.get_layer("pooler"))
    if hasattr(theirs, "cls"):
        head = theirs.cls.predictions
        _copy_masked_lm(head.transform, head.decoder.bias, ours)


def copy_albert(theirs, ours):
    """An `AlbertForMaskedLM`: one block, and embeddings of a width of their own."""
    stack = theirs.albert.encoder
    _copy_bert_embeddings(theirs.albert.embeddings, ours)
    copy_linear(stack.embedding_hidden_mapping_in, ours.embedding_projection)
    [[layer]], [block] = [group.albert_layers for group in stack.albert_layer_groups], ours.encoder.blocks
    heads = layer.attention
    _copy_attention(block.self_attention.layer, heads.query, heads.key, heads.value, heads.dense)
    copy_layer_norm(heads.LayerNorm, block.self_attention.norm_after)
    _copy_network(block.feed_forward.layer, layer.ffn, layer.ffn_output)
    copy_layer_norm(layer.full_layer_layer_norm, block.feed_forward.norm_after)
    _copy_masked_lm(theirs.predictions, theirs.predictions.decoder.bias, ours)


def copy_gpt2(theirs, ours):
    """A `GPT2LMHeadModel`, whose kernels are `(in, out)`."""
    _assign(ours.embedding.embeddings, theirs.transformer.wte.weight)
    _assign(ours.position.position_embeddings, theirs.transformer.wpe.weight)
    for layer, block in zip(theirs.transformer.h, ours.decoder.blocks, strict=True):
        query, key, value = (
            _linear(weight.T, bias)
            for weight, bias in zip(
                layer.attn.c_attn.weight.chunk(3, dim=1), layer.attn.c_attn.bias.chunk(3), strict=True
            )
        )
        output, inner, outer = (
            _linear(conv.weight.T, conv.bias) for conv in (layer.attn.c_proj, layer.mlp.c_fc, layer.mlp.c_proj)
        )
        _copy_attention(block.self_attention.layer, query, key, value, output)
        copy_layer_norm(layer.ln_1, block.self_attention.norm_before)
        _copy_network(block.feed_forward.layer, inner, outer)
        copy_layer_norm(layer.ln_2, block.feed_forward.norm_before)
    copy_layer_norm(theirs.transformer.ln_f, ours.decoder.final_norm)


def copy_t5(theirs, ours):
    """A `T5ForConditionalGeneration` into a `Transformer`; a factor of the decoder's outputs goes into its norm."""
    _assign(ours.target_embedding.embeddings, theirs.shared.weight)
    if not ours.target_embedding.tie_weights:
        _assign(ours.target_embedding.reverse_embeddings, theirs.lm_head.weight.T)
    stacks = (theirs.encoder, ours.encoder, ours.position), (theirs.decoder, ours.decoder, ours.decoder_position)
    for stack, mine, position in stacks:
        bias = stack.block[0].layer[0].SelfAttention.relative_attention_bias
        _assign(position.relative_embeddings, bias.weight)
        for layer, block in zip(stack.block, mine.blocks, strict=True):
            first, *middle, last = layer.layer
            _copy_t5_attention(first.SelfAttention, first.layer_norm, block.self_attention)
            for sublayer in middle:
                _copy_t5_attention(sublayer.EncDecAttention, sublayer.layer_norm, block.cross_attention)
            network = last.DenseReluDense
            if hasattr(network, "wi"):
                _copy_network(block.feed_forward.layer, network.wi, network.wo)
            else:
                _copy_network(block.feed_forward.layer, network.wi_1, network.wo, network.wi_0)
            _assign(block.feed_forward.norm_before.scale, last.layer_norm.weight)
        scaled = stack.is_decoder and theirs.config.scale_decoder_outputs
        factor = theirs.config.d_model**-0.5 if scaled else 1
        _assign(mine.final_norm.scale, stack.final_layer_norm.weight * factor)


def copy_llama(theirs, ours):
    """A `LlamaForCausalLM`, or a `MixtralForCausalLM`."""
    _copy_embeddings(theirs.model.embed_tokens, theirs.lm_head, ours)
    for layer, block in zip(theirs.model.layers, ours.decoder.blocks, strict=True):
        _copy_projections(layer.self_attn, block.self_attention.layer)
        _assign(block.self_attention.norm_before.scale, layer.input_layernorm.weight)
        _assign(block.feed_forward.norm_before.scale, layer.post_attention_layernorm.weight)
        if hasattr(layer.mlp, "experts"):
            copy_experts(layer.mlp, block.feed_forward.layer)
        else:
            _copy_network(block.feed_forward.layer, layer.mlp.up_proj, layer.mlp.down_proj, layer.mlp.gate_proj)
    _assign(ours.decoder.final_norm.scale, theirs.model.norm.weight)


def copy_experts(theirs, ours):
    """A `MixtralSparseMoeBlock` into a built `MixtureOfExperts`."""
    gate, up = theirs.experts.gate_up_proj.chunk(2, dim=1)
    _assign(ours.router, theirs.gate.weight.T)
    _assign(ours.gate_dense.kernel, gate.permute(2, 0, 1))
    _assign(ours.intermediate_dense.kernel, up.permute(2, 0, 1))
    _assign(ours.output_dense.kernel, theirs.experts.down_proj.transpose(1, 2))


def copy_gemma2(theirs, ours):
    """A `Gemma2ForCausalLM`: its norms multiply by `1 + weight`."""
    _copy_embeddings(theirs.model.embed_tokens, theirs.lm_head, ours)
    for layer, block in zip(theirs.model.layers, ours.decoder.blocks, strict=True):
        _copy_projections(layer.self_attn, block.self_attention.layer)
        _copy_network(block.feed_forward.layer, layer.mlp.up_proj, layer.mlp.down_proj, layer.mlp.gate_proj)
        norms = {
            layer.input_layernorm: block.self_attention.norm_before,
            layer.post_attention_layernorm: block.self_attention.norm_branch,
            layer.pre_feedforward_layernorm: block.feed_forward.norm_before,
            layer.post_feedforward_layernorm: block.feed_forward.norm_branch,
            theirs.model.norm: ours.decoder.final_norm,
        }
        for norm, mine in norms.items():
            _assign(mine.scale, 1 + norm.weight)


def copy_gpt_neox(theirs, ours):
    """A `GPTNeoXForCausalLM`: one kernel holds query, key and value head by head."""
    _copy_embeddings(theirs.gpt_neox.embed_in, theirs.lm_head, ours)
    width = theirs.config.hidden_size
    for layer, block in zip(theirs.gpt_neox.layers, ours.decoder.blocks, strict=True):
        attention, network = block.side_by_side.layer.first, block.side_by_side.layer.second
        joint, heads = layer.attention.query_key_value, theirs.config.num_attention_heads
        weight, bias = joint.weight.reshape(heads, 3, -1, width), joint.bias.reshape(heads, 3, -1)
        parts = [_linear(weight[:, i].reshape(width, width), bias[:, i].reshape(width)) for i in range(3)]
        _copy_attention(attention.layer, *parts, layer.attention.dense)
        copy_layer_norm(layer.input_layernorm, attention.norm_before)
        _copy_network(network.layer, layer.mlp.dense_h_to_4h, layer.mlp.dense_4h_to_h)
        copy_layer_norm(layer.post_attention_layernorm, network.norm_before)
    copy_layer_norm(theirs.gpt_neox.final_layer_norm, ours.decoder.final_norm)


def copy_gptj(theirs, ours):
    """A `GPTJForCausalLM`."""
    _copy_embeddings(theirs.transformer.wte, theirs.lm_head, ours)
    _assign(ours.embedding.bias, theirs.lm_head.bias)
    for layer, block in zip(theirs.transformer.h, ours.decoder.blocks, strict=True):
        attention = layer.attn
        both = block.side_by_side.layer
        _copy_attention(both.first, attention.q_proj, attention.k_proj, attention.v_proj, attention.out_proj)
        _copy_network(both.second, layer.mlp.fc_in, layer.mlp.fc_out)
        copy_layer_norm(layer.ln_1, block.side_by_side.norm_before)
    copy_layer_norm(theirs.transformer.ln_f, ours.decoder.final_norm)


def _copy_bert_embeddings(theirs, ours):
    _assign(ours.embedding.embeddings, theirs.word_embeddings.weight)
    _assign(ours.position.position_embeddings, theirs.position_embeddings.weight)
    _assign(ours.token_types.type_embeddings, theirs.token_type_embeddings.weight)
    copy_layer_norm(theirs.LayerNorm, ours.embedding_norm)


def _copy_masked_lm(transform, bias, ours):
    copy_linear(transform.dense, ours.get_layer("transform"))
    copy_layer_norm(transform.LayerNorm, ours.get_layer("transform_norm"))
    _assign(ours.embedding.bias, bias)


def _copy_embeddings(table, output, ours):
    _assign(ours.embedding.embeddings, table.weight)
    if not ours.embedding.tie_weights:
        _assign(ours.embedding.reverse_embeddings, output.weight.T)


def _copy_projections(theirs, ours):
    _copy_attention(ours, theirs.q_proj, theirs.k_proj, theirs.v_proj, theirs.o_proj)


def _copy_t5_attention(theirs, norm, residual):
    _copy_attention(residual.layer, theirs.q, theirs.k, theirs.v, theirs.o)
    _assign(residual.norm_before.scale, norm.weight)


def _copy_attention(ours, query, key, value, output):
    copy_linear(query, ours.query_dense)
    copy_linear(key, ours.key_dense)
    copy_linear(value, ours.value_dense)
    copy_linear(output, ours.output_dense)


def _copy_network(ours, inner, outer, gate=None):
    copy_linear(inner, ours.intermediate_dense)
    copy_linear(outer, ours.output_dense)
    if gate is not None:
        copy_linear(gate, ours.gate_dense)


def _linear(weight, bias):
    """A `torch.nn.Linear` of these `(out, in)` weights."""
    linear = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    with torch.no_grad():
        linear.weight.copy_(weight)
        if bias is not None:
            linear.bias.copy_(bias)
    return linear


def _assign(variable, tensor):
    variable.assign(tensor.detach().numpy())
