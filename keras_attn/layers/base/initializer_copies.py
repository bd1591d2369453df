"""Initializers of many weights."""

from keras import initializers


def cloned(initializer):
    """An initializer of the same settings, which draws numbers of its own where they do not come from a given seed.

    The user's own functions and initializers without a config stay as they are.
    """
    base = initializers.Initializer
    has_config = isinstance(initializer, base) and type(initializer).get_config is not base.get_config
    return initializer.clone() if has_config else initializer
