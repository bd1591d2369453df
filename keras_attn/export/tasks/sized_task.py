"""What tasks have in common whose inputs' axes can be fixed."""

from keras_attn.export.tasks.task import Task


class SizedTask(Task):
    """Base of the tasks whose dynamic axes may be given a size."""

    @property
    def axes(self):
        """The names of the axes that may."""
        axes = {axis for spec in self.inputs.values() for axis in spec.axes}
        return sorted(axis for axis in axes if isinstance(axis, str))

    def axes_of(self, name):
        """The names of the axes that go by a name: itself, unless one name stands for several axes."""
        return [name] if name in self.axes else []

    def fix(self, shapes):
        """Gives axes, by name, a size."""
        sizes = {axis: size for name, size in shapes.items() for axis in self.axes_of(name)}
        self.inputs = {name: spec.sized(sizes) for name, spec in self.inputs.items()}
