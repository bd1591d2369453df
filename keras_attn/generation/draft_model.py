"""Drafts by a smaller model."""

import dataclasses

from keras import ops

from keras_attn.generation.generative_model import GenerativeModel
from keras_attn.ops import cache as kv_cache
from keras_attn.ops import cache_slots
from keras_attn.ops.arrays import add


@dataclasses.dataclass(frozen=True)
class DraftModel:
    """A draft for `SpeculativeDecoding` by a model with its own cache; for its methods see `PromptLookup`.

    Args:
        model: See `generate`.
    """

    model: GenerativeModel

    def start(self, strategy, decoding, inputs, mask):
        # Both models must see the same padding.
        real = decoding.model.padding_mask(inputs, mask)
        length = decoding.config.max_length + strategy.num_tokens
        cache, memory = self.model.prefill(inputs, real, length=length, bounded=False)
        _, position = self.model.first_decoder_inputs(inputs, real, decoding.config.start_id)
        return (memory, position), kv_cache.packed(cache)

    def propose(self, strategy, decoding, fixed, state):
        memory, position = fixed.extra
        step, count = state.step, strategy.num_tokens + 1
        decoding = dataclasses.replace(decoding, model=self.model)
        slots = ops.expand_dims(ops.arange(count, dtype="int32"), 0)

        def body(i, token, proposals, cache, processors):
            logits, cache = decoding.decode(token, add(position, step + i), cache, memory)
            logits = decoding.process(ops.cast(ops.squeeze(logits, 1), "float32"), processors, step + i)
            chosen = strategy.choose(decoding, fixed.drawing, logits, step + i)
            processors = decoding.update_processors(processors, chosen, step + i)
            token = ops.expand_dims(chosen, 1)
            return i + 1, token, ops.where(ops.equal(slots, i), token, proposals), cache, processors

        none = add(ops.zeros_like(state.token), ops.zeros((1, count), dtype="int32"))
        first = (ops.zeros((), dtype="int32"), state.token, none, state.extra.draft, state.processors)
        # The last call only writes to the cache: it needs the keys and values of the last token if that is accepted.
        _, _, proposals, cache, _ = ops.while_loop(lambda i, *_: i < count, body, first, maximum_iterations=count)
        return proposals, cache

    def rewind(self, state, count):
        return rewound(state, count)


def rewound(cache, count):
    """The cache of a model without the last `count` tokens, an int32 scalar."""
    caches, slots = cache
    return caches, tuple(cache_slots.rewind(table, count) for table in slots)
