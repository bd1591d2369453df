"""Creates the self-attention of a block from a template, which may be of a custom class."""

from keras import initializers

from keras_attn.layers.attention.attention_checks import acts_in_attention, check_position
from keras_attn.layers.transformer.scaled_initializer import scaled
from keras_attn.layers.transformer.self_attention_call import SelfAttentionCall


def own_attention(template, width, position, causal, init_gain, **changes):
    """Creates a layer from a template, with the position, causality and scaled initial values of a block.

    Args:
        template: The `Template`.
        width: Channels of the block's inputs.
        position: The block's `PositionEncoding`, or None.
        causal: Whether the block hides later positions.
        init_gain: Factor of the initial values, for layers with a `value_initializer`.
        **changes: Name and dtype of the layer.

    Returns:
        `(layer, call, is_scaled)` with its `SelfAttentionCall`, and whether `init_gain` is applied already.

    Raises:
        ValueError: If the layer has no argument for the position or for causality.
    """
    config, edits = template.config(), []
    check_position(position)
    if "position" in config:
        if config["position"] is None and position is not None:
            changes["position"] = position
            if not position.built:
                position.build((None, None, width))
    elif position is not None and acts_in_attention(position):
        raise ValueError(
            f"`position` must only add to embeddings if `attention` has no argument `position`; "
            f"{type(position).__name__} acts on queries, keys or logits. Received: attention={template!r}"
        )
    if causal and "causal" in config:
        changes["causal"] = True
    if init_gain != 1 and "value_initializer" in config:
        edits.append(lambda config: {**config, "value_initializer": _scaled_values(config, init_gain)})
    layer = template.new(*edits, **changes)
    call = SelfAttentionCall(layer, use_causal_mask=causal and "causal" not in config)
    return layer, call, bool(edits)


def check_stands_in(template, **others):
    """Raises a ValueError if a block has both `attention` and arguments that it replaces."""
    given = {name: value for name, value in others.items() if value is not None}
    if template is not None and given:
        names = ", ".join(f"`{name}`" for name in given)
        raise ValueError(
            f"{names} must be None with `attention`, a layer that has these settings itself. "
            f"Received: {', '.join(f'{name}={value!r}' for name, value in given.items())}, attention={template!r}"
        )


def _scaled_values(config, gain):
    kernels = config["value_initializer"] or config.get("kernel_initializer") or "glorot_uniform"
    return scaled(initializers.get(kernels), gain)
