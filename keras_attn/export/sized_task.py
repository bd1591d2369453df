"""What tasks have in common whose inputs' axes can be fixed."""


class SizedTask:
    """Base of the tasks with `inputs`, name -> `TensorSpec`, whose dynamic axes may be given a size."""

    @property
    def axes(self):
        """The names of the axes that may."""
        axes = {axis for spec in self.inputs.values() for axis in spec.axes}
        return sorted(axis for axis in axes if isinstance(axis, str))

    def fix(self, shapes):
        """Gives axes, by name, a size."""
        self.inputs = {name: spec.sized(shapes) for name, spec in self.inputs.items()}
