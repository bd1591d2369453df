"""Which weights stay in float32, so that an artefact loses no more accuracy than it may."""

from keras_attn.export.quantization.fake_quantization import matrices


def mixes(sensitivity, model, limit, keep=()):
    """Lists of variables to keep in float32, fewest first; all but the first are for where an artefact loses more.

    The weights that hurt most, each quantised alone, are kept first.

    Args:
        sensitivity: `Sensitivity` of the model.
        model: `keras.Model`.
        limit: most that accuracy may drop.
        keep: variables that are kept in any case.
    """
    kept = {variable.path for variable in keep}
    chosen = [m for m in matrices(model, sensitivity.precision) if m.variable.path not in kept]
    start, drop = 0, sensitivity.effect(chosen)[0]
    yielded = drop <= limit
    if yielded:
        yield list(keep)
    ranking = sorted(chosen, key=lambda matrix: _harm(sensitivity.effect([matrix])), reverse=True)
    step = 1
    # With the last of them kept, nothing would be quantised.
    while start + step < len(ranking):
        start += step
        if yielded or sensitivity.effect(ranking[start:])[0] <= limit:
            yield [*keep, *(matrix.variable for matrix in ranking[:start])]
            # An artefact rounds inputs of products too: where that tells, one weight more helps little.
            yielded, step = True, 2 * step


def _harm(effect):
    drop, cosine = effect
    return drop, -cosine
