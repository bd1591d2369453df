"""What every layer of a model answers."""

import contextlib

import keras

from keras_attn import compat


@contextlib.contextmanager
def listening(model):
    """Yields a list that fills with `(layer, index or None, tensor)` as the layers in a model end, inner ones first.

    The index tells several outputs of a layer apart. A layer whose `call` is its own, not its class's, is not heard.
    """
    heard = []
    layers = [layer for layer in compat.layers_of(model) if layer is not model and "call" not in vars(layer)]

    def listener(layer, call):
        def heard_call(*args, **kwargs):
            outputs = call(*args, **kwargs)
            flat = keras.tree.flatten(outputs)
            heard.extend((layer, None if len(flat) == 1 else i, tensor) for i, tensor in enumerate(flat))
            return outputs

        return heard_call

    with contextlib.ExitStack() as stack:
        for layer in layers:
            stack.enter_context(compat.overriding_call(layer, listener(layer, layer.call)))
        yield heard
