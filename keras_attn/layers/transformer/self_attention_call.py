"""The call of a block's self-attention layer, which may be of the user's own class."""

import inspect

from keras_attn.layers.transformer.branch import needs_value


class SelfAttentionCall:
    """What a self-attention layer is called with.

    Args:
        layer: The layer.
        use_causal_mask: Whether each call asks for causality, as the layer has no setting for it.

    Raises:
        ValueError: If the layer's `call` has no `use_causal_mask` where that is needed.
    """

    def __init__(self, layer, use_causal_mask=False):
        parameters = inspect.signature(layer.call).parameters.values()
        self._layer_class = type(layer).__name__
        self._takes = {parameter.name for parameter in parameters}
        self._takes_any = any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters)
        # A call with other arguments by `**kwargs` might not look at this one.
        if use_causal_mask and "use_causal_mask" not in self._takes:
            raise ValueError(
                "`attention` of a causal block must have an argument `causal`, or a `use_causal_mask` of its `call`. "
                f"Received: attention={layer!r}"
            )
        self._always = {"use_causal_mask": True} if use_causal_mask else {}
        masks = [name for name in ("value_mask", "key_mask") if name in self._takes]
        # Of a layer that is given its inputs twice, `query_mask` hides no keys.
        self._key_mask = masks[0] if masks and needs_value(layer) else None

    def arguments(self, given):
        """Those of the arguments `given`, by name, that the layer takes; a ValueError where it lacks one in use."""
        used = {name: value for name, value in given.items() if value is not None}
        missing = [] if self._takes_any else [name for name in used if name not in self._takes]
        if missing:
            names = ", ".join(f"`{name}`" for name in missing)
            raise ValueError(
                f"{names} must be None in a block whose `attention` has no such argument of its `call`. To decode with "
                "a cache, that needs `positions`, `cache` and `slots`, and for beams `attention_mask`. Received: an "
                f"attention layer of class {self._layer_class}, {', '.join(f'{name}={used[name]}' for name in missing)}"
            )
        arguments = {name: x for name, x in given.items() if name in self._takes or (self._takes_any and x is not None)}
        if self._key_mask is not None:
            arguments[self._key_mask] = given["query_mask"]
        return arguments | self._always
