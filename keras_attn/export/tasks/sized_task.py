"""Base of the tasks whose input axes can be fixed."""

from keras_attn.export.tasks.task import Task


class SizedTask(Task):
    """Base of the tasks whose dynamic axes can be given a fixed size."""

    @property
    def axes(self):
        """The names of the dynamic axes."""
        axes = {axis for spec in self.inputs.values() for axis in spec.axes}
        return sorted(axis for axis in axes if isinstance(axis, str))

    def axes_of(self, name):
        """The axes that `fix` knows by a name: itself, unless the name is shared by several axes."""
        return [name] if name in self.axes else []

    def fix(self, shapes):
        """Fixes the size of axes by name."""
        sizes = {axis: size for name, size in shapes.items() for axis in self.axes_of(name)}
        self.inputs = {name: spec.sized(sizes) for name, spec in self.inputs.items()}
