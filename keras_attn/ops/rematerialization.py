"""Gradient checkpointing."""

import keras
from keras import ops


def rematerialized(function, tensors, layer):
    """`function(*tensors)` with gradient checkpointing: its activations are recomputed in the backward pass.

    Both runs use the same seeds, so dropout drops the same numbers. Losses of layers are added to `layer`, and its
    variables are updated once.

    Args:
        function: Takes and returns float tensors, and reads variables of `layer` only. Other tensors, such as masks and
            positions, are closed over; no gradient flows to them.
        tensors: Its arguments, float tensors or None.
        layer: The built Keras layer that is being called.

    Returns:
        The result of `function`, one tensor.

    Raises:
        NotImplementedError: If the backend does not support it.

    Reference:
        [Chen et al., 2016](https://arxiv.org/abs/1604.06174)
    """
    variables = layer.non_trainable_variables
    # TensorFlow's gradient finds the weights that a function reads. On other backends the scope hides their values, so
    # they are passed on. Seeds always are, with their values before this call, in both runs.
    if keras.backend.backend() == "tensorflow":
        known = [v for v in variables if "int" in v.dtype]
    else:
        variables = known = layer.variables
    known = [(v, ops.multiply(v.value, ops.ones((), v.dtype))) for v in known]
    present = [ops.convert_to_tensor(x) for x in tensors if x is not None]
    updates = []

    def run(*given):
        given = iter(given)
        with keras.StatelessScope(known, collect_losses=True) as scope:
            output = function(*(None if x is None else next(given) for x in tensors))
        if not updates:
            updates.append([(v, scope.get_current_value(v)) for v in variables])
        return (output, *scope.losses)

    output, *losses = keras.remat(run)(*present)
    before = {id(v): value for v, value in known}
    for variable, value in updates[0]:
        if value is not None and value is not before.get(id(variable)):
            variable.assign(value)
    for loss in losses:
        layer.add_loss(loss)
    return output
