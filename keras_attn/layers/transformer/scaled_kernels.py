"""Scales the initial values of the kernels in any layer."""

from keras_attn import compat
from keras_attn.layers.base.initializer_copies import cloned
from keras_attn.layers.transformer.scaled_initializer import scaled


def scale_kernels(layer, gain, argument):
    """Multiplies the initial values of all kernels in a layer that is not built yet.

    Args:
        layer: The layer.
        gain: The factor.
        argument: Name of the argument for the layer, for error messages.

    Returns:
        A function to call after the layer is built: it raises a ValueError if there are kernels that were not found.

    Raises:
        ValueError: If no layer in it has a `kernel_initializer`, or the kernels exist already.
    """
    owners = _owners(layer)
    if not owners or any(owner.built for owner in owners):
        _refuse(layer, argument)
    for owner in owners:
        # Cloned, so that seeds give the same values as without scaling.
        owner.kernel_initializer = cloned(scaled(owner.kernel_initializer, gain))

    def check():
        if {id(owner) for owner in _owners(layer)} != {id(owner) for owner in owners}:
            _refuse(layer, argument)

    return check


def _owners(layer):
    """The outermost layers with a `kernel_initializer`, from which their sub-layers take theirs."""
    if hasattr(layer, "kernel_initializer"):
        return [layer]
    return [owner for part in compat.sublayers_of(layer) for owner in _owners(part)]


def _refuse(layer, argument):
    raise ValueError(
        f"`{argument}` must hold layers with a `kernel_initializer`, created in its constructor and not built, since "
        "`init_gain`, which norm='deepnorm' sets, scales their initial values. For other layers, set `init_gain=1` and "
        f"scale them yourself. Received: {argument}={layer!r}"
    )
