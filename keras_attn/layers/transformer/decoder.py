"""Stack of Transformer decoder blocks, also for decoder-only models."""

from __future__ import annotations

from typing import Any

import keras

from keras_attn.layers.base.implicit_mask import implicit_mask
from keras_attn.layers.transformer.decoder_block import DecoderBlock
from keras_attn.layers.transformer.placement import deepnorm
from keras_attn.layers.transformer.stack import Stack
from keras_attn.ops import cache as kv_cache
from keras_attn.ops import cache_slots
from keras_attn.typing import Nest, Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class Decoder(Stack):
    """A stack of `DecoderBlock`s, plus a final norm if the blocks do not end with one.

    Args:
        num_layers, share_weights, final_norm, layer_options: As for `Encoder`.
        num_heads, intermediate_dim, **options: All arguments of `DecoderBlock`, as for `Encoder`.

    Call arguments:
        inputs: Float `(B, T, D)`.
        memory: Float `(B, S, Dm)`, or a tuple of them. Not allowed with `cross_attention=False`; not needed with
            `memory_caches`.
        caches: Optional tuple of one `(key, value)` per layer, from `empty_caches`, `cache_from_prefill` or the
            previous call.
        slots: Optional tuple of the `slots` of `DecoderBlock` per layer; `decode` creates them.
        memory_caches: Optional result of `project_memory`.
        **kwargs: All other call arguments of `DecoderBlock` except `cache` and `memory_cache`, passed to each block.

    Returns:
        Float `(B, T, D)`; with `caches`, `(output, caches)`.

    Raises:
        ValueError: If an argument or a shape is invalid; the message names it.

    Reference:
        [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762)

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers import Decoder
    >>> decoder = Decoder(2, num_heads=2, intermediate_dim=64, cross_attention=False)
    >>> x = np.random.default_rng(0).normal(size=(1, 2, 16)).astype("float32")
    >>> whole = np.asarray(decoder(x))
    >>> caches = decoder.empty_caches(batch=1, length=2)
    >>> for t in range(2):
    ...     step, caches = decoder(x[:, t : t + 1], positions=np.array([[t]]), caches=caches)
    >>> bool(np.allclose(step[:, 0], whole[:, 1], atol=1e-5))
    True
    """

    block_class = DecoderBlock

    def build(self, inputs_shape: Shape, memory_shape: Nest | None = None) -> None:
        self._build(inputs_shape, memory_shape)

    def project_memory(self, memory: Nest) -> tuple[Nest, ...]:
        """Keys and values of `memory` `(B, S, Dm)` for `memory_caches`: a tuple of one `(key, value)` per layer."""
        projected = [block.project_memory(memory) for block in self.blocks]
        return tuple(projected[i] for i in self.order)

    @property
    def depends_on_length(self) -> bool:
        """Whether the `position` of a block rotates queries and keys by the length of the row."""
        return any(getattr(block.position, "depends_on_length", False) for block in self.blocks)

    def empty_caches(self, batch: Tensor, length: int) -> tuple[Nest, ...]:
        """Returns `caches` of zeros for `batch` rows of up to `length` tokens; the decoder must be built."""
        return tuple(block.empty_cache(batch, length) for block in self.layers)

    def cache_from_prefill(
        self, prefill_kv: Nest, mask: Tensor, length: int, bounded: bool = True
    ) -> tuple[Nest, Nest]:
        """Caches of a prompt with space for further tokens.

        Args:
            prefill_kv: Caches that a first call with `caches=((),) * num_layers` returned for the prompt.
            mask: Bool `(B, P)`, the tokens of the right-padded prompt that later ones may attend to.
            length: Number of further tokens.
            bounded: Whether a layer with a window keeps only its window; later calls must then have a single token.

        Returns:
            `(caches, slots)`; `slots` has one entry for each attention span of the layers.
        """
        caches, slots = [None] * self.num_layers, []
        for span, layers in self._attention_spans(bounded):
            if span is None:
                layer_slots, moved, where = cache_slots.of_prompt(mask, length), kv_cache.extended, length
            else:
                (layer_slots, where), moved = cache_slots.of_window(mask, *span), kv_cache.gathered
            slots.append(layer_slots)
            for i in layers:
                caches[i] = tuple(moved(x, where) for x in prefill_kv[i])
        return tuple(caches), tuple(slots)

    def init_cache(self, batch: Tensor, length: int, bounded: bool = True) -> tuple[Nest, Nest]:
        """`(caches, slots)` as from `cache_from_prefill`, without a prompt; all rows share their positions."""
        caches, slots = [None] * self.num_layers, []
        for span, layers in self._attention_spans(bounded):
            size, num_sink_tokens = (length, None) if span is None else (sum(span), span[1])
            slots.append(cache_slots.empty(size, num_sink_tokens))
            for i in layers:
                caches[i] = self.layers[i].empty_cache(batch, size)
        return tuple(caches), tuple(slots)

    def decode(self, inputs: Tensor, positions: Tensor, cache: Nest, **kwargs: Any) -> tuple[Tensor, Nest]:
        """Calls the layer with the next tokens.

        Args:
            inputs, positions: As in a call.
            cache: `(caches, slots)` from `cache_from_prefill`, `init_cache` or the previous call.
            **kwargs: Further call arguments.

        Returns:
            `(output, cache)`.
        """
        caches, slots = cache
        slots, call_slots = self._advance(slots, positions)
        x, caches = self(inputs, positions=positions, caches=caches, slots=call_slots, **kwargs)
        return x, (caches, slots)

    def _advance(self, slots, positions):
        """`(slots, call_slots)`: `slots` after tokens at `positions`, and the argument `slots` of their call."""
        spans = self._attention_spans(bounded=len(slots) > 1)
        advanced = [cache_slots.advance(layer_slots, positions) for layer_slots in slots]
        call_slots = [None] * self.num_layers
        for ((slot_positions, *_), write_slots), (_, layers) in zip(advanced, spans, strict=True):
            for i in layers:
                call_slots[i] = write_slots, slot_positions
        return tuple(layer_slots for layer_slots, _ in advanced), tuple(call_slots)

    def _attention_spans(self, bounded):
        """A list of `(span, indices)`: the layers of each attention span."""
        groups = {}
        for i, block in enumerate(self.layers):
            groups.setdefault(block.attention_span() if bounded else None, []).append(i)
        return list(groups.items())

    def call(
        self,
        inputs: Tensor,
        memory: Nest | None = None,
        *,
        caches: Nest | None = None,
        slots: Nest | None = None,
        memory_caches: Nest | None = None,
        inputs_mask: Tensor | None = None,
        mask: Tensor | None = None,
        memory_mask: Nest | None = None,
        positions: Tensor | None = None,
        attention_mask: Tensor | None = None,
        memory_attention_mask: Nest | None = None,
        segments: Tensor | None = None,
        memory_segments: Nest | None = None,
        bias: Tensor | None = None,
        training: bool | None = None,
    ) -> Tensor | tuple[Tensor, Nest]:
        arguments = {"inputs_mask": implicit_mask(inputs, inputs_mask, mask), "memory_mask": memory_mask, "bias": bias}
        arguments |= {"attention_mask": attention_mask, "memory_attention_mask": memory_attention_mask}
        arguments |= {"positions": positions, "segments": segments, "memory_segments": memory_segments}
        for name, given in (("caches", caches), ("memory_caches", memory_caches)):
            if given is not None and len(given) != self.num_layers:
                raise ValueError(f"`{name}` must hold {self.num_layers} pairs, one per layer. Received: {len(given)}")
        x, new_caches = inputs, []
        for i, block in enumerate(self.layers):
            if memory_caches is not None:
                arguments["memory_cache"] = memory_caches[i]
            if slots is not None:
                arguments["slots"] = slots[i]
            if caches is None:
                x = block(x, memory, training=training, **arguments)
            else:
                x, cache = block(x, memory, cache=caches[i], training=training, **arguments)
                new_caches.append(cache)
        x = self._finish(x)
        return x if caches is None else (x, tuple(new_caches))

    def compute_output_spec(
        self, inputs: Tensor, memory: Nest | None = None, *, caches: Nest | None = None, **kwargs: Any
    ) -> Nest:
        output = keras.KerasTensor(inputs.shape, dtype=self.compute_dtype)
        if caches is None:
            return output
        return output, keras.tree.map_structure(lambda x: keras.KerasTensor(x.shape, dtype=x.dtype), caches)

    def _deepnorm(self):
        # The decoder's constants depend on whether there is an encoder, not on its depth.
        encoder_layers = 1 if self.block_options.get("cross_attention", True) else 0
        return deepnorm(encoder_layers, self.num_layers)[1]
