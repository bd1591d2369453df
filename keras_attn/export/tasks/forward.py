"""The forward pass of a model: from named inputs to logits."""

import functools

import numpy as np

from keras_attn import compat
from keras_attn.export.report import reason
from keras_attn.export.tasks import random_inputs, reference
from keras_attn.export.tasks.made_up_sizes import MadeUpSizes
from keras_attn.export.tasks.sized_task import SizedTask
from keras_attn.export.tensor_spec import TensorSpec


class Task(SizedTask):
    """Exports a call of any functional `keras.Model`, without optional inputs.

    Axes of two inputs share a name only if the model requires them to have the same size.

    Args:
        model: A functional `keras.Model`.
        tokenizer: Not used, since this task takes ids.
    """

    name = "forward"
    counts_classes = True

    def __init__(self, model, tokenizer=None):
        from keras_attn.models.base import AttentionModel

        if not getattr(model, "inputs", None):
            raise ValueError(
                "`tasks` may hold 'forward' only for a functional keras.Model, whose inputs have names and shapes. "
                f"Received: {type(model).__name__}"
            )
        self.model = model
        # For models of this package it is known which axes have the same size.
        self._is_ours = isinstance(model, AttentionModel) and model.has_one_batch
        self.inputs = {
            name: TensorSpec(_axes(name, tensor.shape), tensor.dtype)
            for name, tensor in _named(model.input, [tensor.name for tensor in model.inputs])
            if not compat.operation_of(tensor).optional
        }
        self._shared = {} if self._is_ours else self._part()

    def call(self, /, **inputs):
        """Outputs by name; a single output is named `logits`."""
        return dict(self._named_outputs(self.model(self._arguments(inputs), training=False)))

    @property
    def output_names(self):
        """The names of the outputs of `call`."""
        return [name for name, _ in self._named_outputs(self.model.output)]

    @property
    def rows(self):
        """The name of the first axis of all outputs, if known."""
        return "batch" if self._is_ours else None

    @property
    def output_axes(self):
        """Names of the dynamic axes of outputs, if known."""
        if not self._is_ours or "target_ids" not in self.inputs:
            return {}
        return dict.fromkeys(self.output_names, ("batch", "target_length"))

    def axes_of(self, name):
        return self._shared.get(name) or super().axes_of(name)

    def fix(self, shapes):
        """Fixes the size of axes, by name, and of those that must have the same size."""
        given = {axis: size for name, size in shapes.items() for axis in self.axes_of(name)}
        for group in self._sizes.groups if len(self.inputs) > 1 else ():
            names = [self.inputs[name].axes[number] for name, number in group]
            if known := [given[name] for name in names if name in given]:
                given = {**dict.fromkeys(names, known[0]), **given}
        self.inputs = {name: spec.sized(given) for name, spec in self.inputs.items()}
        self.__dict__.pop("_sizes", None)

    def cases(self, samples=None):
        """Random inputs of three sizes, right-padded; axes have the same size only if the model requires it."""
        if not self._sizes.cases:
            raise ValueError(
                "`samples` must be arrays that the model takes, or `shapes` must fix axes that need a certain size, "
                f"since the model ran with none of the generated inputs. Received: {reason(self._error)}"
            )
        rng = np.random.default_rng(0)
        return [self._made_up(rng, sizes) for sizes in self._sizes.cases]

    def reference(self, case):
        """The outputs of the Keras model."""
        return reference.outputs(self.call, case)

    @staticmethod
    def agreement(inputs, expected, actual):
        """Positions without padding that have the same largest logit, summed over the outputs."""
        identical = total = 0
        for name, value in expected.items():
            if value.dtype.kind == "U":
                same = value == actual[name]
            elif 0 in value.shape[-1:]:
                same = np.ones(value.shape[:-1], "bool")
            else:
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
        """Positions of the first output with the right largest logit, of those with a reference of 0 or more."""
        logits = next(iter(outputs.values()))
        known = references >= 0
        return int(np.sum((np.argmax(logits, axis=-1) == references) & known)), int(np.sum(known))

    @functools.cached_property
    def _sizes(self):
        places = {}
        for name, spec in self.inputs.items():
            for number, axis in enumerate(spec.axes):
                if isinstance(axis, str):
                    places.setdefault(axis, []).append((name, number))
        axes = [place for group in places.values() for place in group]
        images = [(name, number) for name, number in axes if number and len(self.inputs[name].axes) > 3]
        return MadeUpSizes(axes, self._runs, list(places.values()) if self._is_ours else None, images)

    def _runs(self, sizes):
        symbolic = dict(self._named_outputs(self.model.output))
        try:
            self._check_windows(sizes)
            outputs = reference.outputs(self.call, self._made_up(np.random.default_rng(0), sizes))
            # Windows larger than their input give empty outputs, with nothing to compare.
            if empty := [name for name, x in outputs.items() if not x.size and 0 not in symbolic[name].shape]:
                raise ValueError(f"{empty[0]!r} of shape {outputs[empty[0]].shape}")
        # Layers may raise anything for sizes that do not match.
        except Exception as error:
            self._error = error
            return False
        return True

    def _check_windows(self, sizes):
        """Raises Keras' error for windows larger than their input, which a graph with dynamic shapes does not."""
        layers = compat.layers_of(self.model)
        if any(hasattr(layer, "kernel_size") or hasattr(layer, "pool_size") for layer in layers):
            import keras

            specs = self.inputs.items()
            tensors = {name: keras.KerasTensor(self._shape(name, sizes), spec.dtype) for name, spec in specs}
            self.model.compute_output_spec(self._arguments(tensors))

    def _shape(self, name, sizes):
        return [sizes.get((name, number), axis) for number, axis in enumerate(self.inputs[name].axes)]

    def _made_up(self, rng, sizes):
        specs = self.inputs.items()
        return {name: random_inputs.of_spec(rng, self.model, spec, self._shape(name, sizes)) for name, spec in specs}

    def _part(self):
        """Renames axes that share a name but need not have the same size; returns the new names by shared name."""
        names = [axis for spec in self.inputs.values() for axis in spec.axes if isinstance(axis, str)]
        parted = {}
        if len(names) == len(set(names)):
            return parted
        renamed = {name: list(spec.axes) for name, spec in self.inputs.items()}
        for shared in {name for name in names if names.count(name) > 1}:
            groups = [
                [(name, number) for name, number in group if self.inputs[name].axes[number] == shared]
                for group in self._sizes.groups
            ]
            groups = [group for group in groups if group]
            for group in groups if len(groups) > 1 else ():
                own = f"{group[0][0]}_{shared.rpartition('_')[2]}"
                parted.setdefault(shared, []).append(own)
                for name, number in group:
                    renamed[name][number] = own
        self.inputs = {name: TensorSpec(tuple(renamed[name]), spec.dtype) for name, spec in self.inputs.items()}
        return parted

    def _arguments(self, inputs):
        """The argument of a call of the model, from inputs by name."""
        import keras

        struct = self.model.input
        if _is_flat(struct):
            return {name: inputs.get(name) for name in struct}
        return keras.tree.map_structure(lambda tensor: inputs.get(tensor.name), struct)

    def _named_outputs(self, outputs):
        import keras

        if not isinstance(outputs, dict | list | tuple):
            return [("logits", outputs)]
        if _is_flat(outputs):
            return list(outputs.items())
        leaves, names = keras.tree.flatten(outputs), list(self.model.output_names)
        if len(names) != len(leaves):
            names = [f"output_{i}" for i in range(len(leaves))]
        # Names given by Keras may be those of inputs, or occur twice for the same layer.
        taken = set(self.inputs)
        for i, name in enumerate(names):
            endings = (f"_output{j or ''}" for j in range(len(names) + 1))
            names[i] = name if name not in taken else next(name + x for x in endings if name + x not in taken)
            taken.add(names[i])
        return list(zip(names, leaves, strict=True))


def _is_flat(structure):
    return isinstance(structure, dict) and not any(isinstance(x, dict | list | tuple) for x in structure.values())


def _named(structure, names):
    """Pairs `(name, leaf)` of a nest, with the keys of a dict or else `names`."""
    import keras

    return structure.items() if _is_flat(structure) else zip(names, keras.tree.flatten(structure), strict=True)


def _axes(name, shape):
    """Names for dynamic axes: source inputs share the second axis, and so do target inputs."""
    side = name.split("_")[0]
    prefix = side if side in ("source", "target") else name
    names = ("batch", f"{prefix}_length", *(f"{name}_axis_{axis}" for axis in range(2, len(shape))))
    return tuple(names[axis] if size is None else size for axis, size in enumerate(shape))
