"""Gated feed-forward networks: GLU and its variants."""

from __future__ import annotations

from typing import Any

import keras

from keras_attn.argument_checks import check_finite, check_positive_number
from keras_attn.layers.transformer.feed_forward import FeedForward
from keras_attn.typing import Activation


@keras.saving.register_keras_serializable(package="keras_attn")
class GatedFeedForward(FeedForward):
    """`(activation(x W_g + b_g) * (x W_u + b_u)) W_o + b_o`, the same at every position.

    | `activation` | name |
    | --- | --- |
    | `"sigmoid"` | GLU |
    | `"relu"` | ReGLU |
    | `"gelu"` | GeGLU |
    | `"silu"` | SwiGLU |

    Args:
        intermediate_dim: Inner width.
        output_dim: Width of the output. Defaults to that of the input.
        activation: Activation of the gate.
        gate_limit: Optional `c`: before all else, `x W_g + b_g` is clipped to at most `c`, and `x W_u + b_u` to
            `[-c, c]`, as in GPT-OSS.
        gated_offset: Number added to `x W_u + b_u`; 1 in GPT-OSS.
        **kwargs: All other arguments of `FeedForward`.

    Call arguments:
        inputs: Float `(B, T, D)`.
        training: Whether to apply dropout.

    Returns:
        Float `(B, T, output_dim)`.

    Raises:
        ValueError: If a width is not a positive integer, or `gate_limit` not a positive number.

    Reference:
        [Shazeer, 2020](https://arxiv.org/abs/2002.05202)

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers import GatedFeedForward
    >>> swiglu = GatedFeedForward(64, activation="silu", use_bias=False)
    >>> tuple(swiglu(np.ones((2, 5, 16), "float32")).shape)
    (2, 5, 16)
    """

    gated = True

    def __init__(
        self,
        intermediate_dim: int,
        output_dim: int | None = None,
        activation: Activation = "silu",
        *,
        gate_limit: float | None = None,
        gated_offset: float = 0.0,
        **kwargs: Any,
    ) -> None:
        check_gate(gate_limit, gated_offset)
        super().__init__(intermediate_dim, output_dim, activation, **kwargs)
        self.gate_limit, self.gated_offset = gate_limit, gated_offset


def check_gate(gate_limit, gated_offset):
    """Raises a ValueError if an argument about the gate is invalid."""
    check_positive_number(gate_limit=1 if gate_limit is None else gate_limit)
    check_finite(gated_offset=gated_offset)
