"""The most likely token, one after another."""

from keras import ops


def greedy(model, source_ids, config, source_mask=None):
    """Decodes greedily, as one loop in the graph over a static key/value cache.

    Written in `keras.ops`: the same function runs eagerly, in a `tf.function` and in every exported artefact. Where a
    model starts is its own affair: an encoder-decoder from `start_id`, all rows at one position; a language model from
    the last token of each prompt, at a position a row.

    Args:
        model: a model with `prefill`, `begin` and `decode`.
        source_ids: int32 `(B, S)`; the prompt of a language model.
        config: `GenerationConfig`.
        source_mask: optional bool `(B, S)`; what the model makes of `source_ids` where None.

    Returns:
        Dict of `tokens`, int32 `(B, max_length)`, the end token included and `pad_id` behind it, and `scores`, float32
        `(B, max_length)`, the log-probability of each token, 0 behind the end.

    Example:

    >>> import numpy as np
    >>> from keras_attn import Transformer
    >>> from keras_attn.generation import GenerationConfig, greedy
    >>> model = Transformer(50, num_layers=1, hidden_dim=16, num_heads=2, intermediate_dim=32)
    >>> tuple(greedy(model, np.array([[5, 6, 7]]), GenerationConfig(max_length=4))["tokens"].shape)
    (1, 4)
    """
    length, batch = config.max_length, ops.shape(source_ids)[0]
    cache, memory = model.prefill(source_ids, source_mask, length=length)
    first, start = model.begin(source_ids, source_mask, config.start_id)
    slots = ops.expand_dims(ops.arange(length, dtype="int32"), 0)

    def unfinished(step, token, done, tokens, scores, cache):
        return ops.logical_and(step < length, ops.logical_not(ops.all(done)))

    def advance(step, token, done, tokens, scores, cache):
        logits, cache = model.decode(token, ops.add(start, step), cache, memory)
        log_probabilities = ops.log_softmax(ops.cast(ops.squeeze(logits, 1), "float32"), axis=-1)
        score = ops.max(log_probabilities, axis=-1, keepdims=True)
        # Of integers: Keras' argmax of floats tells zeros apart by their sign bit, which TFLite has no operator for.
        best = ops.argmax(ops.cast(ops.equal(log_probabilities, score), "int32"), axis=-1)
        token = ops.where(done, ops.full_like(best, config.pad_id), best)
        score = ops.where(done, 0.0, ops.squeeze(score, 1))
        here = ops.equal(slots, step)
        return (
            step + 1,
            ops.expand_dims(token, 1),
            ops.logical_or(done, ops.equal(token, config.end_id)),
            ops.where(here, ops.expand_dims(token, 1), tokens),
            ops.where(here, ops.expand_dims(score, 1), scores),
            cache,
        )

    state = (
        ops.zeros((), dtype="int32"),
        first,
        ops.zeros((batch,), dtype="bool"),
        ops.full((batch, length), config.pad_id, dtype="int32"),
        ops.zeros((batch, length), dtype="float32"),
        cache,
    )
    _, _, _, tokens, scores, _ = ops.while_loop(unfinished, advance, state, maximum_iterations=length)
    return {"tokens": tokens, "scores": scores}
