"""Initial values of kernels in any layer, times a number."""

from keras_attn import compat
from keras_attn.layers.base.initializer_copies import cloned
from keras_attn.layers.transformer.scaled_initializer import scaled


def scale_kernels(layer, gain, argument):
    """Multiplies the initial values of all kernels in a layer that is not built yet.

    Args:
        layer: The layer.
        gain: The factor.
        argument: What the layer was given as, for error messages.

    Returns:
        A function to call once the layer is built: it raises a ValueError where that has kernels that were not found.

    Raises:
        ValueError: If no layer in it has a `kernel_initializer`, or the kernels are there already.
    """
    owners = _owners(layer)
    if not owners or any(owner.built for owner in owners):
        _refuse(layer, argument)
    for owner in owners:
        # Cloned, a given seed of everything leads to the numbers that it always led to.
        owner.kernel_initializer = cloned(scaled(owner.kernel_initializer, gain))

    def check():
        if {id(owner) for owner in _owners(layer)} != {id(owner) for owner in owners}:
            _refuse(layer, argument)

    return check


def _owners(layer):
    """The outermost layers with a `kernel_initializer`: their sub-layers have theirs from them."""
    if hasattr(layer, "kernel_initializer"):
        return [layer]
    return [owner for part in compat.sublayers_of(layer) for owner in _owners(part)]


def _refuse(layer, argument):
    raise ValueError(
        f"`{argument}` must hold layers with a `kernel_initializer`, made in its constructor and not built, since "
        "`init_gain`, which norm='deepnorm' sets, scales their initial values. Give `init_gain=1`, and scale them "
        f"yourself, for any other layer. Received: {argument}={layer!r}"
    )
