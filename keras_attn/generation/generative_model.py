"""The interface of models that generate."""

from __future__ import annotations

import contextlib
import weakref
from typing import TYPE_CHECKING, Any, Protocol

import keras
from keras import ops

from keras_attn.ops.arrays import axis_size, shape_of

if TYPE_CHECKING:
    from keras_attn.generation.generation_config import GenerationConfig
    from keras_attn.text import Tokenizer
    from keras_attn.typing import Array, Nest, Tensor


class GenerativeModel(Protocol):
    """The members of a model that `generate`, `stream`, `score`, all strategies and the tasks of `export` use.

    Any model with `prefill` and `decode` works, whether it is of this package or not. All other members of
    `GenerationDefaults` are optional, and a model may override them without inheriting.

    Attributes:
        vocabulary_size: Number of tokens `V`; optional for a functional model, which has it in its output shape.

    Example:

    >>> import keras
    >>> import numpy as np
    >>> from keras import ops
    >>> from keras_attn.generation import generate
    >>> class Bigrams(keras.Model):
    ...     vocabulary_size = 9
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.table = keras.layers.Embedding(9, 9)
    ...     def prefill(self, ids, mask=None, *, length, bounded=True):
    ...         return (), ()
    ...     def decode(self, ids, positions, cache, memory=()):
    ...         return self.table(ids), cache
    >>> generate(Bigrams(), np.array([[3, 4]]), max_length=5).shape
    (1, 5)
    """

    def prefill(
        self, inputs: Tensor, mask: Tensor | None = None, *, length: int, bounded: bool = True
    ) -> tuple[Nest, Nest]:
        """Encodes prompts or sources for decoding.

        Args:
            inputs: Int32 `(B, S)` token ids, or the tensor `(B, S, ...)` that `prompt_specs` names.
            mask: Optional bool `(B, S)`, False at padding. Defaults to all ids that are not `pad_id`.
            length: Number of tokens that `decode` will be called with.
            bounded: Whether the cache may omit keys that `decode` can no longer attend to with one token per call.

        Returns:
            `(cache, memory)`: nests of tensors, rows first. `decode` returns an updated cache; the memory is constant.
        """

    def decode(self, ids: Tensor, positions: Tensor, cache: Nest, memory: Nest = ()) -> tuple[Tensor, Nest]:
        """Returns the logits of the tokens that follow `ids`.

        Args:
            ids: Int32 `(B, T)`; one token per row in the loops.
            positions: Int32 `(B, T)` or `(1, T)`, starting with those of `first_decoder_inputs`.
            cache, memory: From `prefill`; later the cache of the previous call.

        Returns:
            `(logits, cache)`: float `(B, T, V)`, and a cache of the same shapes.
        """


class GenerationDefaults:
    """The optional members of a `GenerativeModel`; by default, a target starts with a start token."""

    tokenizer: Tokenizer | None = None
    generation_config: GenerationConfig | None = None
    # Whether generation continues its inputs, instead of starting a target with the start token.
    continues_prompts = False
    # Negative if there is no padding.
    pad_id = -1
    # Whether the cache has one slot per token, and `decode` an `attention_mask` over the slots: beams then share it.
    has_slots = False

    @property
    def prompt_specs(self) -> dict[str, keras.KerasTensor]:
        """Dict of the specs of prompts or sources by name, batch first; by default, of token ids.

        A model may read features `(B, S, ...)` instead, and a bool mask `(B, S)` after them. The names are those of an
        artefact's inputs, and of the dict that `generate` takes.
        """
        return {"source_ids": keras.KerasTensor((None, None), "int32")}

    def first_decoder_inputs(self, inputs: Tensor, mask: Tensor | None, start_id: int) -> tuple[Tensor, Tensor]:
        """`(token_ids, positions)` of the first `decode`; by default `start_id`, int32 `(B, 1)`, at position 0.

        Args:
            inputs, mask: The arguments of `prefill`.
            start_id: The token that starts a target.
        """
        return ops.full((axis_size(inputs, 0), 1), start_id, dtype="int32"), ops.zeros((1, 1), dtype="int32")

    def decoder_prompt(self, inputs: Tensor, mask: Tensor | None, start_id: int) -> tuple[Tensor, Tensor]:
        """The tokens before the first generated one: `(ids, mask)`, int32 and bool `(B, P)`; by default `start_id`."""
        first = ops.full((axis_size(inputs, 0), 1), start_id, dtype="int32")
        return first, ops.ones_like(first, dtype="bool")

    def padding_mask(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Padding mask of the inputs, bool `(B, S)`, False at padding."""
        if mask is not None:
            return ops.cast(mask, "bool")
        return ops.not_equal(inputs, self.pad_id) if reads_ids(self) else ops.ones(shape_of(inputs)[:2], "bool")

    def decode_hidden(
        self, ids: Tensor, positions: Tensor, cache: Nest, memory: Nest = (), **masks: Tensor
    ) -> tuple[Tensor, Nest]:
        """Like `decode`, but returns the hidden states from which `logits` computes the logits."""
        return self.decode(ids, positions, cache, memory, **masks)

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits `(B, T, V)` of the hidden states from `decode_hidden`."""
        return hidden

    def score_logits(self, inputs: Array, tokens: Array, start_id: int, mask: Array | None = None) -> Tensor:
        """Logits `(B, L, V)` by which each of the target `tokens` is predicted from prompts or sources.

        Args:
            inputs, mask: The arguments of `prefill`.
            tokens: Int array `(B, L)`.
            start_id: The token that starts a target.
        """
        cache, memory = self.prefill(inputs, mask, length=tokens.shape[1])
        token, position = self.first_decoder_inputs(inputs, mask, start_id)
        logits = []
        for step in range(tokens.shape[1]):
            found, cache = self.decode(token, position + step, cache, memory)
            logits.append(found)
            token = ops.convert_to_tensor(tokens[:, step : step + 1], "int32")
        return ops.concatenate(logits, axis=1)

    def check_prompt(self, inputs: Array, max_length: int) -> None:
        """Raises a ValueError if the model cannot generate `max_length` tokens from `inputs`, `(B, S, ...)`."""

    def packed_weights(self) -> contextlib.AbstractContextManager[None]:
        """A scope at whose start weights are packed, once for all calls inside it."""
        return contextlib.nullcontext()

    def alignment_layers(self) -> list[str]:
        """Paths of the layers that attend to a memory, as keys of their scores in `keras_attn.layers.recording`."""
        return []


def as_generative(model: Any) -> Any:
    """A model with all members that generation uses: the model itself, or a wrapper that adds the defaults.

    Raises:
        ValueError: If it has no `prefill` or no `decode`.
    """
    if not hasattr(model, "prefill") or not hasattr(model, "decode"):
        raise ValueError(f"`model` must have `prefill` and `decode`. Received: {type(model).__name__}")
    if isinstance(model, GenerationDefaults):
        return model
    return _completed.setdefault(model, _Completed(model))


class _Completed(GenerationDefaults):
    """A model's own members, else the defaults. It is a key of graphs, so it must live as long as the model."""

    def __init__(self, model):
        self._model = weakref.ref(model)

    def __getattribute__(self, name):
        if name in ("_model", "__class__", "__dict__"):
            return object.__getattribute__(self, name)
        model = object.__getattribute__(self, "_model")()
        return getattr(model, name) if hasattr(model, name) else object.__getattribute__(self, name)


_completed = weakref.WeakKeyDictionary()


def prompt_specs(model):
    """The `prompt_specs` of a model, or those of `GenerationDefaults`."""
    return getattr(model, "prompt_specs", None) or GenerationDefaults().prompt_specs


def reads_ids(model):
    """Whether prompts or sources are token ids."""
    first = next(iter(prompt_specs(model).values()))
    return "int" in first.dtype and len(first.shape) == 2


def check_reads_ids(model, setting):
    """Raises a ValueError if a setting needs the token ids of prompts or sources, and the model reads features."""
    if not reads_ids(model):
        raise ValueError(
            f"`config` must do without {setting} for a model whose prompts are not token ids. "
            f"Received: prompts of {list(model.prompt_specs)}"
        )


def vocabulary_size_of(model, tokenizer=None):
    """The number of tokens that a model may generate, at most that of its tokenizer, or of the given one.

    An embedding table may have more rows than the tokenizer has tokens.
    """
    rows, tokenizer = getattr(model, "vocabulary_size", None), getattr(model, "tokenizer", None) or tokenizer
    if rows is None:
        output = getattr(model, "output", None)
        if not isinstance(output, keras.KerasTensor):
            raise ValueError(f"`model` must have a `vocabulary_size`. Received: {type(model).__name__}")
        rows = output.shape[-1]
    return rows if tokenizer is None else min(rows, tokenizer.vocabulary_size)
