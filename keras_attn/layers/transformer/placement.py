"""The placements of norms and scales in a residual branch, as a table."""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Placement:
    """Output `after(shortcut_scale * x + gain * dropout(branch(layer(before(x)))))`, with the parts that apply.

    Args:
        before: Whether to normalise the input of the layer.
        branch: Whether to normalise the output of the layer.
        after: Whether to normalise the sum.
        needs_shortcut_scale: Whether `shortcut_scale` must be given.
        gain: Initial value of a trained factor of the branch; None for no factor.
        gain_per_channel: Whether there is one factor per channel.
        final_norm: Whether a stack of such branches ends with a final norm.
    """

    before: bool = False
    branch: bool = False
    after: bool = False
    needs_shortcut_scale: bool = False
    gain: float | None = None
    gain_per_channel: bool = False
    final_norm: bool = False


_PLACEMENTS = {
    "pre": Placement(before=True, final_norm=True),
    "post": Placement(after=True),
    "sandwich": Placement(before=True, branch=True, final_norm=True),
    "res_post": Placement(branch=True, final_norm=True),
    "deepnorm": Placement(after=True, needs_shortcut_scale=True),
    "rezero": Placement(gain=0.0),
    "layerscale": Placement(before=True, gain=1e-5, gain_per_channel=True, final_norm=True),
    None: Placement(),
}


def placement(norm):
    """The `Placement` called `norm`; raises a ValueError that lists all of them if it is unknown."""
    if norm not in _PLACEMENTS:
        *names, last = map(repr, _PLACEMENTS)
        raise ValueError(f"`norm` must be {', '.join(names)} or {last}. Received: norm={norm!r}")
    return _PLACEMENTS[norm]


def norm_of(norm, sublayer):
    """The placement of one sub-layer: `norm` itself, or its entry in a mapping."""
    return norm[sublayer] if isinstance(norm, Mapping) else norm


def check_norms(norm, sublayers, parallel):
    """Raises a ValueError if a `norm` that is a mapping does not match a block.

    Args:
        norm: The argument of the block.
        sublayers: Names of the block's sub-layers.
        parallel: Whether they are parallel.
    """
    if not isinstance(norm, Mapping):
        return
    if parallel:
        raise ValueError(f"`norm` must be the same for both sub-layers with `parallel`. Received: norm={norm}")
    if set(norm) != set(sublayers):
        names = ", ".join(map(repr, sublayers))
        raise ValueError(f"`norm` must be one for all sub-layers, or a mapping from {names}. Received: norm={norm}")
    if "deepnorm" in norm.values():
        raise ValueError(
            "`norm` must be 'deepnorm' for all sub-layers or for none, as its constants apply to a whole stack. "
            f"Received: norm={norm}"
        )
    for name in norm.values():
        placement(name)


def deepnorm(encoder_layers=0, decoder_layers=0):
    """The constants that keep deep post-norm stacks stable, as block arguments.

    | stack | alpha | beta |
    | --- | --- | --- |
    | N encoder layers alone, or N decoder layers alone | `(2 N)^(1/4)` | `(8 N)^(-1/4)` |
    | N encoder layers before M decoder layers | `0.81 (N^4 M)^(1/16)` | `0.87 (N^4 M)^(-1/16)` |
    | M decoder layers after an encoder | `(3 M)^(1/4)` | `(12 M)^(-1/4)` |

    Args:
        encoder_layers: N, 0 for a decoder alone.
        decoder_layers: M, 0 for an encoder alone.

    Returns:
        `(encoder, decoder)`, dicts of `residual_options` (alpha is its `shortcut_scale`) and `init_gain` (beta).

    Reference:
        [Wang et al., 2022](https://arxiv.org/abs/2203.00555), figure 2

    Example:

    >>> from keras_attn.layers.transformer.placement import deepnorm
    >>> encoder, _ = deepnorm(encoder_layers=8)
    >>> encoder["residual_options"]
    {'shortcut_scale': 2.0}
    """
    n, m = encoder_layers, decoder_layers
    alone, beta = (2 * max(n, m)) ** 0.25, (8 * max(n, m)) ** -0.25
    encoder, decoder = (alone, beta), (alone, beta)
    if n and m:
        encoder = 0.81 * (n**4 * m) ** 0.0625, 0.87 * (n**4 * m) ** -0.0625
        decoder = (3 * m) ** 0.25, (12 * m) ** -0.25
    return tuple({"residual_options": {"shortcut_scale": a}, "init_gain": b} for a, b in (encoder, decoder))
