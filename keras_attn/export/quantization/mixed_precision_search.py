"""Search for the weights to keep in float32 under a limit on accuracy loss."""

from keras_attn.export.quantization.fake_quantization import matrices


def candidates(sensitivity, model, limit, float32_weights=()):
    """Yields lists of variables to keep in float32, shortest first, to be tried until an artefact is within the limit.

    Weights are added in order of the loss they cause when quantised alone, largest first.

    Args:
        sensitivity: `Sensitivity` of the model.
        model: `keras.Model`.
        limit: Maximum accuracy drop.
        float32_weights: Variables to keep in float32 in any case.
    """
    kept = {variable.path for variable in float32_weights}
    chosen = [m for m in matrices(model, sensitivity.precision) if m.variable.path not in kept]
    start, drop = 0, sensitivity.effect(chosen)[0]
    yielded = drop <= limit
    if yielded:
        yield list(float32_weights)
    ranking = sorted(chosen, key=lambda matrix: _harm(sensitivity.effect([matrix])), reverse=True)
    step = 1
    # At least one weight must be quantised.
    while start + step < len(ranking):
        start += step
        if yielded or sensitivity.effect(ranking[start:])[0] <= limit:
            yield [*float32_weights, *(matrix.variable for matrix in ranking[:start])]
            # Artefacts also quantise inputs of products; if that dominates, single weights help little.
            yielded, step = True, 2 * step


def _harm(effect):
    drop, cosine = effect
    return drop, -cosine
