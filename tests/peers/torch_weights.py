"""Copies weights of `torch.nn` modules into layers of keras_attn."""


def _array(parameter):
    return parameter.detach().numpy()


def copy_linear(linear, projection):
    """`torch.nn.Linear` `(out, in)` into a `Projection` or `keras.layers.Dense`, whatever axes its kernel has."""
    _assign_projection(projection, linear.weight, linear.bias)


def copy_layer_norm(layer_norm, normalization):
    """`torch.nn.LayerNorm` into `keras.layers.LayerNormalization`."""
    normalization.gamma.assign(_array(layer_norm.weight))
    normalization.beta.assign(_array(layer_norm.bias))


def copy_multi_head_attention(module, attention):
    """`torch.nn.MultiheadAttention` into a built `MultiHeadAttention`."""
    if module.in_proj_weight is None:
        weights = module.q_proj_weight, module.k_proj_weight, module.v_proj_weight
    else:
        weights = module.in_proj_weight.chunk(3)
    biases = (None,) * 3 if module.in_proj_bias is None else module.in_proj_bias.chunk(3)
    projections = attention.query_dense, attention.key_dense, attention.value_dense
    for projection, weight, bias in zip(projections, weights, biases, strict=True):
        _assign_projection(projection, weight, bias)
    copy_linear(module.out_proj, attention.output_dense)
    if module.bias_k is not None:
        attention.bias_key.assign(_array(module.bias_k).reshape(attention.bias_key.shape))
        attention.bias_value.assign(_array(module.bias_v).reshape(attention.bias_value.shape))


def copy_encoder_layer(module, block):
    """`torch.nn.TransformerEncoderLayer` into a built `EncoderBlock`."""
    _copy_attention(module.self_attn, module.norm1, block.self_attention)
    _copy_feed_forward(module, module.norm2, block.feed_forward)


def copy_decoder_layer(module, block):
    """`torch.nn.TransformerDecoderLayer` into a built `DecoderBlock`."""
    _copy_attention(module.self_attn, module.norm1, block.self_attention)
    _copy_attention(module.multihead_attn, module.norm2, block.cross_attention)
    _copy_feed_forward(module, module.norm3, block.feed_forward)


def _copy_attention(attention, norm, residual):
    copy_multi_head_attention(attention, residual.layer)
    _copy_norm(norm, residual)


def _copy_feed_forward(module, norm, residual):
    copy_linear(module.linear1, residual.layer.intermediate_dense)
    copy_linear(module.linear2, residual.layer.output_dense)
    _copy_norm(norm, residual)


def _copy_norm(norm, residual):
    copy_layer_norm(norm, residual.norm_before or residual.norm_after)


def _assign_projection(projection, weight, bias):
    projection.kernel.assign(_array(weight).T.reshape(projection.kernel.shape))
    if bias is not None:
        projection.bias.assign(_array(bias).reshape(projection.bias.shape))
