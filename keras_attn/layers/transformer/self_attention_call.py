"""Call arguments of a block's self-attention layer, which may be of a custom class."""

import inspect

from keras_attn.layers.transformer.branch import needs_value


class SelfAttentionCall:
    """The arguments with which a self-attention layer is called.

    Args:
        layer: The layer.
        use_causal_mask: Whether each call needs `use_causal_mask=True`, as the layer has no argument `causal`.

    Raises:
        ValueError: If the layer's `call` needs `use_causal_mask` and does not have it.
    """

    def __init__(self, layer, use_causal_mask=False):
        parameters = inspect.signature(layer.call).parameters.values()
        self._layer_class = type(layer).__name__
        self._takes = {parameter.name for parameter in parameters}
        self._takes_any = any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters)
        # A `call` with `**kwargs` might ignore it.
        if use_causal_mask and "use_causal_mask" not in self._takes:
            raise ValueError(
                "`attention` of a causal block must have an argument `causal`, or its `call` a `use_causal_mask`. "
                f"Received: attention={layer!r}"
            )
        self._always = {"use_causal_mask": True} if use_causal_mask else {}
        masks = [name for name in ("value_mask", "key_mask") if name in self._takes]
        # If the layer gets its inputs as `value` too, `query_mask` does not hide keys.
        self._key_mask = masks[0] if masks and needs_value(layer) else None

    def arguments(self, given):
        """The arguments in `given` that the layer takes; raises a ValueError if it lacks one that is not None."""
        used = {name: value for name, value in given.items() if value is not None}
        missing = [] if self._takes_any else [name for name in used if name not in self._takes]
        if missing:
            names = ", ".join(f"`{name}`" for name in missing)
            raise ValueError(
                f"{names} must be None in a block if the `call` of its `attention` does not take it. To decode with "
                "a cache, it needs `positions`, `cache` and `slots`, for beams also `attention_mask`. Received: an "
                f"attention layer of class {self._layer_class}, {', '.join(f'{name}={used[name]}' for name in missing)}"
            )
        arguments = {name: x for name, x in given.items() if name in self._takes or (self._takes_any and x is not None)}
        if self._key_mask is not None:
            arguments[self._key_mask] = given["query_mask"]
        return arguments | self._always
