"""What all models of this package have in common."""

import keras
from keras.dtype_policies import DTypePolicyMap


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
            rank, shape = len(self.input[name].shape), getattr(value, "shape", None)
            if value is not None and (shape is None or len(shape) != rank):
                received = type(value).__name__ if shape is None else f"shape {tuple(shape)}"
                raise ValueError(f"`{name}` must be a tensor of rank {rank}. Received: {received}")

    def generate(self, inputs, max_length=None, config=None):
        """Generates from `inputs`; see `keras_attn.generation.generate`."""
        # The rooms' arrows forbid importing generation from here; Keras' registry knows it.
        engine = keras.saving.get_registered_object("keras_attn>generate")
        return engine(self, inputs, max_length=max_length, config=config)

    def _distribute_policy(self, policy):
        """Gives the model, and each layer of a policy map, a policy of its own.

        By it Keras decides whether a loss is scaled and how a layer is quantised; a map answers for its default only.
        """
        self._policy = policy
        if isinstance(policy, DTypePolicyMap):
            for layer in self._flatten_layers(include_self=False):
                if layer.path and isinstance(layer.dtype_policy, DTypePolicyMap):
                    layer._dtype_policy = policy[layer.path]
            policy = policy.default_policy
        self._dtype_policy = policy

    def _collect_policy(self):
        """The policy that the model was built with, and by path those of layers that were quantised since."""
        quantized = {x.path: x.dtype_policy for x in self._flatten_layers() if x.quantization_mode is not None}
        if not quantized:
            return self._policy
        given = dict(self._policy) if isinstance(self._policy, DTypePolicyMap) else {}
        return DTypePolicyMap(self.dtype_policy.name, {**given, **quantized})
