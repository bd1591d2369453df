"""What every layer of a model answers."""

import contextlib

import keras


@contextlib.contextmanager
def listening(model):
    """Yields a list that fills with `(layer, index or None, tensor)` as the layers in a model end, inner ones first.

    The index tells several outputs of a layer apart. A layer whose `call` is its own, not its class's, is not heard.
    """
    heard = []
    layers = [layer for layer in model._flatten_layers() if layer is not model and "call" not in vars(layer)]

    def listener(layer, call):
        def heard_call(*args, **kwargs):
            outputs = call(*args, **kwargs)
            flat = keras.tree.flatten(outputs)
            heard.extend((layer, None if len(flat) == 1 else i, tensor) for i, tensor in enumerate(flat))
            return outputs

        return heard_call

    for layer in layers:
        object.__setattr__(layer, "call", listener(layer, layer.call))
    try:
        yield heard
    finally:
        for layer in layers:
            object.__delattr__(layer, "call")
