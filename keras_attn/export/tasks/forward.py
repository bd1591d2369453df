"""The model as it is called: named inputs in, logits out."""

import numpy as np

from keras_attn.export import random_inputs, reference
from keras_attn.export.sized_task import SizedTask
from keras_attn.export.tensor_spec import TensorSpec

# (batch, source length, any other length): unequal primes; clients are timed on the first, a single row.
SIZES = ((1, 5, 3), (3, 7, 5), (2, 3, 7))


class Task(SizedTask):
    """Exports one call of any functional `keras.Model`; optional inputs are left out.

    Args:
        model: a functional `keras.Model`.
        tokenizer: not used: this task takes ids.
    """

    name = "forward"
    counts_classes = True
    tokenizer = None

    def __init__(self, model, tokenizer=None):
        import keras

        self.model = model
        struct = model.input
        pairs = struct.items() if isinstance(struct, dict) else ((t.name, t) for t in keras.tree.flatten(struct))
        self.inputs = {
            name: TensorSpec(_axes(name, tensor.shape), tensor.dtype)
            for name, tensor in pairs
            if not tensor._keras_history.operation.optional
        }

    def call(self, **inputs):
        """Output name -> tensor; a single output is named `logits`."""
        import keras

        struct = self.model.input
        if isinstance(struct, dict):
            arguments = {name: inputs.get(name) for name in struct}
        else:
            arguments = keras.tree.map_structure(lambda tensor: inputs.get(tensor.name), struct)
        outputs = self.model(arguments, training=False)
        if isinstance(outputs, dict):
            return outputs
        if isinstance(outputs, (list, tuple)):
            return dict(zip(self.model.output_names, outputs, strict=True))
        return {"logits": outputs}

    def cases(self, samples=None):
        """Random inputs of three sizes, padded after each row's own length."""
        rng = np.random.default_rng(0)
        limit, pad_id = random_inputs.vocabulary_size(self.model), random_inputs.pad_id(self.model)
        cases = []
        for batch, source, other in SIZES:
            sizes = {"batch": batch, "source_length": source}
            shapes = {name: [_size(axis, sizes, other) for axis in spec.axes] for name, spec in self.inputs.items()}
            cases.append(
                {
                    name: random_inputs.padded(rng, shape, self.inputs[name].dtype, limit, pad_id)
                    for name, shape in shapes.items()
                }
            )
        return cases

    def reference(self, case):
        """The Keras model's own outputs."""
        return reference.outputs(self.call, case)

    @staticmethod
    def agreement(inputs, expected, actual):
        """Positions that are not padding and have the same largest logit, summed over the outputs."""
        identical = total = 0
        for name, value in expected.items():
            same = np.argmax(value, axis=-1) == np.argmax(actual[name], axis=-1)
            real = np.ones(same.shape, "bool")
            for ids in inputs.values():
                if ids.shape == same.shape and ids.dtype.kind == "i":
                    real = ids != 0
            identical += int(np.sum(same & real))
            total += int(np.sum(real))
        return identical, total

    @staticmethod
    def score(outputs, references):
        """Places of the first output whose largest logit is at the right class, of those with a class of 0 or more."""
        logits = next(iter(outputs.values()))
        known = references >= 0
        return int(np.sum((np.argmax(logits, axis=-1) == references) & known)), int(np.sum(known))


def _axes(name, shape):
    """Runtimes take axes of one name to be equally long: only those of a source or a target are known to be."""
    side = name.split("_")[0]
    prefix = side if side in ("source", "target") else name
    names = ("batch", f"{prefix}_length", *(f"{name}_axis_{axis}" for axis in range(2, len(shape))))
    return tuple(names[axis] if size is None else size for axis, size in enumerate(shape))


def _size(axis, sizes, other):
    return axis if isinstance(axis, int) else sizes.get(axis, other)
