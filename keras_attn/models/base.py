"""What all models of this package have in common."""

import keras


class AttentionModel(keras.Model):
    """A functional `keras.Model` whose optional inputs may be left out, and that carries its tokenizer.

    The tokenizer and the generation settings are part of the config, so that one `.keras` file is all it takes to
    turn text into text.
    """

    def __call__(self, inputs, *args, **kwargs):
        if isinstance(inputs, dict):
            self._check_inputs(inputs)
            inputs = {name: inputs.get(name) for name in self.input}
        return super().__call__(inputs, *args, **kwargs)

    def _check_inputs(self, inputs):
        unknown = sorted(set(inputs) - set(self.input))
        if unknown:
            raise ValueError(f"`inputs` may hold {sorted(self.input)}. Received unknown: {unknown}")
        for name, value in inputs.items():
            rank = None if value is None else len(getattr(value, "shape", ()))
            if rank is not None and rank != len(self.input[name].shape):
                raise ValueError(
                    f"`{name}` must have rank {len(self.input[name].shape)}. Received: shape {tuple(value.shape)}"
                )

    def generate(self, inputs, max_length=None, config=None):
        """Generates from `inputs`; see `keras_attn.generation.generate`."""
        # The rooms' arrows forbid importing generation from here; Keras' registry knows it.
        engine = keras.saving.get_registered_object("keras_attn>generate")
        return engine(self, inputs, max_length=max_length, config=config)


def deserialized(value):
    """An object from its `keras.saving` dict; anything else unchanged."""
    return keras.saving.deserialize_keras_object(value) if isinstance(value, dict) else value


def serialized(value):
    """The `keras.saving` dict of an object; None stays None."""
    return None if value is None else keras.saving.serialize_keras_object(value)
