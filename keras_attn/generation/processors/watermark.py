"""Watermarking of generated text."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import keras
import numpy as np
from keras import ops

from keras_attn.argument_checks import check_count, check_finite, check_positive
from keras_attn.generation.processors.logit_processor import LogitProcessor
from keras_attn.generation.processors.recent import append_token, last_tokens
from keras_attn.generation.processors.selection import in_float32, unless_banned
from keras_attn.ops.hashed_uniform import hashed_uniform, row_keys
from keras_attn.typing import Array, Tensor

if TYPE_CHECKING:
    from keras_attn.generation.processors.logit_processor import History


@keras.saving.register_keras_serializable(package="keras_attn")
@dataclasses.dataclass(frozen=True)
class Watermark(LogitProcessor):
    """Adds `bias` to the logits of a "green list", a part of the vocabulary selected by a hash of the last tokens.

    Generated texts contain more green tokens than expected by chance, which `z_scores` measures. The hash is integer
    arithmetic, identical in a model, its artefacts and `z_scores`, but different from other libraries.

    Args:
        green_share: Share of the vocabulary that is green, between 0 and 1.
        bias: A number; larger values make a stronger watermark and change the text more.
        key: Integer below `2 ** 31`, needed for detection.
        context_width: Number of previous tokens that are hashed.

    Raises:
        ValueError: If an argument is invalid.

    Reference:
        [A Watermark for Large Language Models](https://arxiv.org/abs/2301.10226), Kirchenbauer et al., 2023.

    Example:

    >>> import numpy as np
    >>> from keras_attn import GenerationConfig, LanguageModel
    >>> from keras_attn.generation import Sampling, Watermark
    >>> model = LanguageModel(50, num_layers=1, hidden_dim=16, num_heads=2, intermediate_dim=32)
    >>> watermark, prompts = Watermark(bias=4.0), np.array([[5, 6, 7]])
    >>> config = GenerationConfig(40, strategy=Sampling(1), processors=(watermark,))
    >>> tokens = model.generate(prompts, config=config)
    >>> bool(watermark.z_scores(tokens, tokens > 0)[0] > 4)
    True
    """

    green_share: float = 0.25
    bias: float = 2.0
    key: int = 15485863
    context_width: int = 1

    def __post_init__(self):
        check_finite(green_share=self.green_share, bias=self.bias)
        check_count(key=self.key)
        check_positive(context_width=self.context_width)
        if not 0 < self.green_share < 1:
            raise ValueError(f"`green_share` must be between 0 and 1. Received: green_share={self.green_share!r}")
        if self.key >= 2**31:
            raise ValueError(f"`key` must be below 2**31. Received: key={self.key!r}")

    def graph_numbers(self) -> dict[str, float]:
        return {"green_share": float(self.green_share), "bias": in_float32(self.bias)}

    def start(self, history: History) -> tuple[Tensor, ...]:
        return (last_tokens(history.ids, history.mask, self.context_width),)

    def __call__(self, logits: Tensor, state: tuple[Tensor, ...], step: Tensor) -> Tensor:
        green = ops.cast(self._is_green(state[0], logits.shape[-1]), "float32")
        return unless_banned(logits, logits + self.number("bias") * green)

    def update(self, state: tuple[Tensor, ...], tokens: Tensor, step: Tensor) -> tuple[Tensor, ...]:
        return (append_token(state[0], tokens),)

    def _is_green(self, last, vocabulary_size):
        """Bool `(R, V)`, from the last tokens `(R, context_width)`."""
        keys = row_keys(last, ops.greater_equal(last, 0))
        return ops.less(hashed_uniform(keys, 0, self.key, vocabulary_size), self.number("green_share"))

    def z_scores(self, tokens: Tensor, mask: Tensor | None = None) -> Array:
        """The number of green tokens as a z-score against unmarked text, float32 `(B,)`.

        Repeated pairs of context and token count once. A score above 4 is strong evidence of the watermark.

        Args:
            tokens: Int `(B, L)`, the texts, ideally with their prompts as context.
            mask: Optional bool `(B, L)`, False at tokens that do not count, such as prompts and padding.
        """
        tokens, width = np.asarray(tokens), self.context_width
        mask = np.ones(tokens.shape, bool) if mask is None else np.asarray(mask)
        scores = []
        for row, counts in zip(tokens, mask, strict=True):
            count = max(len(row) - width, 0)
            windows = np.stack([row[i : i + count] for i in range(width + 1)], axis=1)[counts[width:]]
            windows = np.unique(windows.astype("int32"), axis=0)
            if not len(windows):
                scores.append(0.0)
                continue
            green = ops.convert_to_numpy(self._is_green(ops.convert_to_tensor(windows[:, :-1]), int(row.max()) + 1))
            found, share = green[np.arange(len(windows)), windows[:, -1]].sum(), self.green_share
            scores.append((found - share * len(windows)) / np.sqrt(len(windows) * share * (1 - share)))
        return np.array(scores, "float32")
