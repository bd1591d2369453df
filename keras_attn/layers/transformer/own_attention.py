"""How a block makes its self-attention from a template, which may be of the user's own class."""

from keras import initializers

from keras_attn.layers.attention.attention_checks import acts_in_attention, check_position
from keras_attn.layers.transformer.scaled_initializer import scaled
from keras_attn.layers.transformer.self_attention_call import SelfAttentionCall


def own_attention(template, width, position, causal, init_gain, **changes):
    """A layer of a template for a block: with its position and causality, and its initial values scaled.

    Args:
        template: The `Template`.
        width: Channels of the block's inputs.
        position: The block's `PositionEncoding`, or None.
        causal: Whether the block hides later positions.
        init_gain: Factor on initial values, for layers with a `value_initializer`.
        **changes: Name and dtype of the layer.

    Returns:
        `(layer, call, is_scaled)`: its `SelfAttentionCall`, and whether `init_gain` is in it already.

    Raises:
        ValueError: If the layer has no place for the position or for causality.
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
            f"`position` must only add to embeddings where `attention` has no argument `position`, as "
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
    """Raises a ValueError where a block has both `attention` and arguments that it stands in for."""
    given = {name: value for name, value in others.items() if value is not None}
    if template is not None and given:
        names = ", ".join(f"`{name}`" for name in given)
        raise ValueError(
            f"{names} must be None with `attention`, a layer with settings of its own. "
            f"Received: {', '.join(f'{name}={value!r}' for name, value in given.items())}, attention={template!r}"
        )


def _scaled_values(config, gain):
    kernels = config["value_initializer"] or config.get("kernel_initializer") or "glorot_uniform"
    return scaled(initializers.get(kernels), gain)
