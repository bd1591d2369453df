"""What generation asks of a model."""

from __future__ import annotations

import contextlib
import weakref
from typing import TYPE_CHECKING, Any, Protocol

import keras
from keras import ops

if TYPE_CHECKING:
    from keras_attn.generation.generation_config import GenerationConfig
    from keras_attn.text import Tokenizer
    from keras_attn.typing import Array, Nest, Tensor


class GenerativeModel(Protocol):
    """The members of a model that `generate`, `stream`, `score`, all strategies and the tasks of `export` work with.

    Any model that has `prefill` and `decode` will do, be it of this package or not. All other members of
    `GenerationDefaults` are optional: a model's own take the place of those.

    Attributes:
        vocabulary_size: number of tokens, `V`; not needed by a functional model, whose outputs say it.

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
        """Everything that decoding needs of prompts or sources.

        Args:
            inputs: int32 `(B, S)` token ids, or the tensor `(B, S, ...)` that `prompt_specs` names.
            mask: Optional bool `(B, S)`, which of them are real; if None, all ids that are not `pad_id`.
            length: number of tokens that `decode` will be called with.
            bounded: whether the cache may leave out what `decode` cannot see again if it takes one token per call.

        Returns:
            `(cache, memory)`: nests of tensors, rows first. `decode` returns another cache; the memory stays.
        """

    def decode(self, ids: Tensor, positions: Tensor, cache: Nest, memory: Nest = ()) -> tuple[Tensor, Nest]:
        """The logits of the tokens that follow `ids`.

        Args:
            ids: int32 `(B, T)`; one token per row in the loops.
            positions: int32 `(B, T)` or `(1, T)`, from those of `first_decoder_inputs` on.
            cache, memory: from `prefill`, or from the last call.

        Returns:
            `(logits, cache)`: float `(B, T, V)`, and a cache of the same shapes.
        """


class GenerationDefaults:
    """The optional members of a `GenerativeModel`, for one that starts targets with a start token."""

    tokenizer: Tokenizer | None = None
    generation_config: GenerationConfig | None = None
    # Whether generation continues its inputs, instead of starting a target with the start token.
    continues_prompts = False
    # Negative: there is no padding.
    pad_id = -1
    # Whether the cache of `decode` has a slot per token, of which its `attention_mask` hides some: beams then share it.
    has_slots = False

    @property
    def prompt_specs(self) -> dict[str, keras.KerasTensor]:
        """Name -> spec, batch first, of the tensors that generation starts from: token ids here.

        A model may read one tensor of another kind instead, `(B, S, ...)`, and a bool mask `(B, S)` after it. The names
        are those of an artefact's inputs, and of the dict that `generate` takes.
        """
        return {"source_ids": keras.KerasTensor((None, None), "int32")}

    def first_decoder_inputs(self, inputs: Tensor, mask: Tensor | None, start_id: int) -> tuple[Tensor, Tensor]:
        """`(token_ids, positions)` for the first call of `decode`: here `start_id`, int32 `(B, 1)`, at position 0.

        Args:
            inputs, mask: The arguments of `prefill`.
            start_id: The token that starts a target.
        """
        return ops.full((ops.shape(inputs)[0], 1), start_id, dtype="int32"), ops.zeros((1, 1), dtype="int32")

    def decoder_prompt(self, inputs: Tensor, mask: Tensor | None, start_id: int) -> tuple[Tensor, Tensor]:
        """The tokens before the first generated one, `(ids, mask)`, int32 and bool `(B, P)`: here `start_id`."""
        first = ops.full((ops.shape(inputs)[0], 1), start_id, dtype="int32")
        return first, ops.ones_like(first, dtype="bool")

    def padding_mask(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Which of the inputs are real: bool `(B, S)`."""
        if mask is not None:
            return ops.cast(mask, "bool")
        return ops.not_equal(inputs, self.pad_id) if reads_ids(self) else ops.ones(ops.shape(inputs)[:2], "bool")

    def decode_hidden(
        self, ids: Tensor, positions: Tensor, cache: Nest, memory: Nest = (), **masks: Tensor
    ) -> tuple[Tensor, Nest]:
        """As `decode`, with what `logits` makes the logits of."""
        return self.decode(ids, positions, cache, memory, **masks)

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits `(B, T, V)` of what `decode_hidden` returned."""
        return hidden

    def score_logits(self, inputs: Array, tokens: Array, start_id: int, mask: Array | None = None) -> Tensor:
        """Logits `(B, L, V)` of each of the target `tokens`, an int array `(B, L)`, after prompts or sources.

        Args:
            inputs, mask: The arguments of `prefill`.
            tokens: int array `(B, L)`.
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
        """A scope in which weights are read as they were packed at its start."""
        return contextlib.nullcontext()

    def alignment_layers(self) -> list[str]:
        """Paths of the layers that attend to a memory, under which `keras_attn.layers.recording` has their scores."""
        return []


def as_generative(model: Any) -> Any:
    """A model with all members that generation asks for: the model itself, or one that adds the defaults to its own.

    Raises:
        ValueError: it has no `prefill`, or no `decode`.
    """
    if not hasattr(model, "prefill") or not hasattr(model, "decode"):
        raise ValueError(f"`model` must have `prefill` and `decode`. Received: {type(model).__name__}")
    if isinstance(model, GenerationDefaults):
        return model
    return _completed.setdefault(model, _Completed(model))


class _Completed(GenerationDefaults):
    """A model's own members first, then the defaults. Graphs are kept by it, so it lives as long as the model."""

    def __init__(self, model):
        self._model = weakref.ref(model)

    def __getattribute__(self, name):
        if name in ("_model", "__class__", "__dict__"):
            return object.__getattribute__(self, name)
        model = object.__getattribute__(self, "_model")()
        return getattr(model, name) if hasattr(model, name) else object.__getattribute__(self, name)


_completed = weakref.WeakKeyDictionary()


def reads_ids(model):
    """Whether generation starts from token ids."""
    specs = [*getattr(model, "prompt_specs", {}).values()]
    return not specs or ("int" in specs[0].dtype and len(specs[0].shape) == 2)


def check_reads_ids(model, setting):
    """Raises a ValueError if a setting of generation needs the ids of prompts or sources and the model has none."""
    if not reads_ids(model):
        raise ValueError(
            f"`config` must do without {setting} for a model whose prompts are no token ids. "
            f"Received: prompts of {list(model.prompt_specs)}"
        )


def vocabulary_size_of(model, tokenizer=None):
    """The number of tokens that a model may generate: those of its tokenizer, or of the one given, if there is one.

    A table may have more rows than the tokenizer has pieces.
    """
    rows, tokenizer = getattr(model, "vocabulary_size", None), getattr(model, "tokenizer", None) or tokenizer
    if rows is None:
        output = getattr(model, "output", None)
        if not isinstance(output, keras.KerasTensor):
            raise ValueError(f"`model` must have a `vocabulary_size`. Received: {type(model).__name__}")
        rows = output.shape[-1]
    return rows if tokenizer is None else min(rows, tokenizer.vocabulary_size)
