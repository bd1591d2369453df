"""Activations that are computed twice and kept never."""

import keras
from keras import ops


def rematerialized(function, tensors, layer):
    """`function(*tensors)`, whose inner activations are not kept for the gradient but computed again for it.

    Seeds are the same in both runs, so dropout drops the same numbers. Losses that layers add are added to `layer`,
    and updates of its variables happen once.

    Args:
        function: takes and returns float tensors; reads variables of `layer` only. Whatever else it needs (masks,
            positions) it closes over; no gradient flows there.
        tensors: its arguments, float tensors or None.
        layer: the built Keras layer whose call this is.

    Returns:
        What `function` returns: one tensor.

    Raises:
        NotImplementedError: the backend cannot do this.

    Reference:
        [Chen et al., 2016](https://arxiv.org/abs/1604.06174)
    """
    variables = layer.non_trainable_variables
    # TensorFlow's gradient finds the weights that a function reads. Elsewhere a scope hides their values in an outer
    # one, so they are handed on. Seeds are: read as they were before this call, in both runs.
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
