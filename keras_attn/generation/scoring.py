"""Log-probabilities of given outputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np
from keras import ops

from keras_attn.argument_checks import check_vocabulary
from keras_attn.generation.generative_model import vocabulary_size_of
from keras_attn.generation.prompts import Prompts, continues, settings_of
from keras_attn.generation.strategy import pick
from keras_attn.ops.arrays import reshape
from keras_attn.ops.attention_recording import recording
from keras_attn.typing import Array, Tensor

if TYPE_CHECKING:
    from keras_attn.generation.generation_config import GenerationConfig


def score(
    model: keras.Model,
    inputs: Sequence[str] | Tensor,
    targets: Sequence[str] | Tensor,
    config: GenerationConfig | None = None,
    *,
    return_alignments: bool = False,
) -> dict[str, Array]:
    """Computes the log-probabilities of given target tokens, in one pass without a cache.

    Args:
        model: See `generate`.
        inputs: See `generate`: sources, or prompts that the targets continue.
        targets: Int `(B, L)` as `generate` returns them, including the end token, right-padded with `pad_id`; or a
            list of strings, to which an end token is appended.
        config: `GenerationConfig`, for the special tokens. Defaults to that of the model, or `GenerationConfig()`.
        return_alignments: Whether to return the attention to the source too.

    Returns:
        Dict of `scores`, float32 `(B, L)`, the log-probability of each token, 0 after the end; `sequence_scores`
        `(B,)`, their sums; and on request `alignments`, float32 `(B, L, S)`, the attention of each token to each
        source position, averaged over heads and layers, 0 after the end.

    Raises:
        ValueError: If an argument does not fit the model or the others.

    Example:

    >>> import numpy as np
    >>> from keras_attn import Transformer
    >>> from keras_attn.generation import score
    >>> model = Transformer(50, num_layers=1, hidden_dim=16, num_heads=2, intermediate_dim=32)
    >>> score(model, np.array([[5, 6, 7]]), np.array([[8, 9, 3, 0]]))["scores"].shape
    (1, 4)
    """
    # Neither is used here, nor has to fit a `max_length` of 1.
    config = dataclasses.replace(settings_of(model, config), strategy=None, processors=())
    prompts = Prompts(model, inputs, config, 1)
    model, config, prompt = prompts.model, prompts.config, prompts.prompt
    if return_alignments:
        check_alignments(model)
    tokens = _as_ids(targets, prompts)
    if tokens.ndim != 2 or len(tokens) != len(prompt) or not np.issubdtype(tokens.dtype, np.integer):
        raise ValueError(
            f"`targets` must be one string, or one row of ids, for each of {len(prompt)} inputs. "
            f"Received: shape {tokens.shape}, dtype {tokens.dtype}"
        )
    size = vocabulary_size_of(model)
    check_vocabulary(size, targets=tokens)
    real = _up_to_end(tokens, config)
    with recording() as records:
        masks = {} if prompts.mask is None else {"mask": prompts.mask}
        targets = np.where(real, tokens, config.pad_id)
        logits = model.score_logits(prompt, targets, config.start_id, **masks)[..., :size]
    log_probabilities = ops.log_softmax(ops.cast(logits, "float32"), axis=-1)
    flat = reshape(log_probabilities, (-1, logits.shape[-1]))
    scores = reshape(pick(flat, reshape(ops.convert_to_tensor(tokens, "int32"), (-1,))), tokens.shape)
    scores = np.where(real, ops.convert_to_numpy(scores), np.float32(0))
    outputs = {"scores": scores, "sequence_scores": scores.sum(axis=-1)}
    if return_alignments:
        maps = [ops.convert_to_numpy(records[path]).mean(axis=1) for path in model.alignment_layers()]
        outputs["alignments"] = np.where(real[..., None], np.mean(maps, axis=0), 0).astype("float32")
    return outputs


def check_alignments(model):
    """Raises a ValueError if a model has no alignments to return."""
    if not model.alignment_layers():
        raise ValueError(
            "`return_alignments` must be False for a model without attention to a memory. "
            f"Received: {type(model).__name__}"
        )


def _as_ids(targets, prompts):
    if not isinstance(targets, (list, tuple)) or not all(isinstance(x, str) for x in targets):
        return np.asarray(targets)
    if prompts.tokenizer is None:
        raise ValueError("`targets` must be ids if `inputs` are. Received: strings")
    config, tokenizer = prompts.config, prompts.tokenizer
    end = config.end_ids[:1] if tokenizer.end_id is None else (tokenizer.end_id,)
    rows = tokenizer.tokenize(list(targets))
    if continues(prompts.model):
        rows = _continued(tokenizer, prompts.inputs, targets, rows)
    rows = [[*tokens, *end] for tokens in rows]
    ids = np.full((len(rows), max(1, *map(len, rows))), config.pad_id)
    for row, tokens in zip(ids, rows, strict=True):
        row[: len(tokens)] = tokens
    return ids


def _continued(tokenizer, texts, targets, rows):
    """The ids of targets after their texts, if a token ends where the text does; else the ids in `rows`."""
    whole = tokenizer.tokenize([text + target for text, target in zip(texts, targets, strict=False)])
    splits = zip(tokenizer.tokenize(list(texts)), whole, rows, strict=False)
    return [ids[len(known) :] if ids[: len(known)] == known else row for known, ids, row in splits]


def _up_to_end(tokens, config):
    """Which tokens count: all up to the first end token, or, in a row without one, up to the padding at its end."""
    is_end = np.isin(tokens, config.end_ids)
    before = np.cumsum(is_end, axis=1) - is_end == 0
    # The end token may also be the padding token.
    counts = (tokens != config.pad_id) | is_end
    return before & (np.cumsum(counts[:, ::-1], axis=1)[:, ::-1] > 0)
