"""Classifier-free guidance."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

import keras
from keras import ops

from keras_attn.argument_checks import check_finite, check_ids, check_vocabulary
from keras_attn.generation.generative_model import check_reads_ids
from keras_attn.generation.greedy_or_sampling import GreedyOrSampling
from keras_attn.generation.processors.selection import in_float32
from keras_attn.generation.sequence_state import SequenceContext, SequenceState
from keras_attn.ops import cache as kv_cache
from keras_attn.ops.arrays import add, axis_size
from keras_attn.typing import Nest, Tensor

if TYPE_CHECKING:
    from keras_attn.generation.generation_config import GenerationConfig
    from keras_attn.generation.generative_model import GenerativeModel
    from keras_attn.generation.strategy import Decoding


class UnconditionalContext(NamedTuple):
    """Loop constants of the unconditional inputs, see `SequenceContext`."""

    memory: Nest
    position: Tensor


class UnconditionalState(NamedTuple):
    """Loop variables of the unconditional inputs, see `SequenceState`."""

    token: Tensor
    cache: Nest


@keras.saving.register_keras_serializable(package="keras_attn")
@dataclasses.dataclass(frozen=True)
class ClassifierFreeGuidance(GreedyOrSampling):
    """Selects tokens by `log q + scale (log p - log q)`, `p` given the inputs and `q` given unconditional ones.

    The model is called twice per token, with a cache for each. Processors receive the guided logits.

    Args:
        scale: A number; 1 ignores `q`, values above 1 amplify the inputs, and values below 0 reverse their effect.
        unconditional_ids: Tuple of token ids that replace the inputs, such as a negative prompt. Defaults to the last
            token of each prompt, for language models only.
        sampling: Whether to sample tokens instead of selecting the most likely ones.
        seed: See `Sampling`.

    Raises:
        ValueError: If an argument is invalid, or does not fit the model.

    Reference:
        [Stay on topic with Classifier-Free Guidance](https://arxiv.org/abs/2306.17806), Sanchez et al., 2023.

    Example:

    >>> import numpy as np
    >>> from keras_attn import GenerationConfig, LanguageModel
    >>> from keras_attn.generation import ClassifierFreeGuidance
    >>> model = LanguageModel(50, num_layers=1, hidden_dim=16, num_heads=2, intermediate_dim=32)
    >>> config = GenerationConfig(4, strategy=ClassifierFreeGuidance(1.5))
    >>> model.generate(np.array([[5, 6, 7]]), config=config).shape
    (1, 4)
    """

    scale: float = 1.5
    unconditional_ids: tuple[int, ...] | None = None
    sampling: bool = False
    seed: int = 0

    def __post_init__(self):
        check_finite(scale=self.scale)
        if self.unconditional_ids is not None:
            check_ids(unconditional_ids=self.unconditional_ids)
        super().__post_init__()

    def graph_numbers(self) -> dict[str, float]:
        return {"scale": in_float32(self.scale)}

    def validate(self, model: GenerativeModel, config: GenerationConfig) -> None:
        check_reads_ids(model, "ClassifierFreeGuidance")
        if self.unconditional_ids is not None:
            check_vocabulary(next(iter(model.vocabularies.values())), unconditional_ids=self.unconditional_ids)
        elif not model.continues_prompts:
            raise ValueError(
                "`unconditional_ids` must be given for a model with sources. Received: unconditional_ids=None"
            )

    def start(self, decoding: Decoding, inputs: Tensor, mask: Tensor | None) -> tuple[SequenceContext, SequenceState]:
        fixed, state = super().start(decoding, inputs, mask)
        model, config = decoding.model, decoding.config
        if self.unconditional_ids is None:
            others = state.token
        else:
            others = ops.convert_to_tensor([self.unconditional_ids], dtype="int32")
            others = add(ops.zeros((axis_size(inputs, 0), 1), dtype="int32"), others)
        real = ops.ones_like(others, dtype="bool")
        cache, memory = model.prefill(others, real, length=config.max_length)
        token, position = model.first_decoder_inputs(others, real, config.start_id)
        if model.has_slots:
            cache = kv_cache.packed(cache)
        fixed = fixed._replace(extra=UnconditionalContext(memory, position))
        return fixed, state._replace(extra=UnconditionalState(token, cache))

    def advance(self, decoding: Decoding, fixed: SequenceContext, state: SequenceState) -> SequenceState:
        logs, caches = [], []
        for context, inputs in ((fixed, state), (fixed.extra, state.extra)):
            positions = add(context.position, state.step)
            logits, cache = decoding.decode(inputs.token, positions, inputs.cache, context.memory)
            logs.append(ops.log_softmax(ops.cast(logits, "float32"), axis=-1))
            caches.append(cache)
        guided = logs[1] + self.number("scale") * (logs[0] - logs[1])
        state = self.accept(decoding, fixed, state, guided)
        return state._replace(cache=caches[0], extra=UnconditionalState(state.token, caches[1]))
