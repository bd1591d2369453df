"""Copies of initializers, for layers with several weights."""

from keras import initializers


def cloned(initializer):
    """A copy of an initializer, which draws different values unless the seed is fixed.

    User functions and initializers without a config are returned unchanged.
    """
    base = initializers.Initializer
    has_config = isinstance(initializer, base) and type(initializer).get_config is not base.get_config
    return initializer.clone() if has_config else initializer
