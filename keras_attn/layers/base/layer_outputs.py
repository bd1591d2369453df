"""Records the output of every layer of a model."""

import contextlib

import keras

from keras_attn import compat


@contextlib.contextmanager
def layer_outputs(model):
    """Yields a list that collects `(layer, index, tensor)` of each layer call in a model, inner layers first.

    `index` numbers the outputs of a layer with several, and is None otherwise. Layers whose instance overrides `call`
    are not recorded.
    """
    recorded = []
    layers = [layer for layer in compat.layers_of(model) if layer is not model and "call" not in vars(layer)]

    def recording(layer, call):
        def recording_call(*args, **kwargs):
            outputs = call(*args, **kwargs)
            flat = keras.tree.flatten(outputs)
            recorded.extend((layer, None if len(flat) == 1 else i, tensor) for i, tensor in enumerate(flat))
            return outputs

        return recording_call

    with contextlib.ExitStack() as stack:
        for layer in layers:
            stack.enter_context(compat.overriding_call(layer, recording(layer, layer.call)))
        yield recorded
