"""How a training run goes on from a checkpoint, with the settings that it is given now."""

import warnings

from keras_attn.training.checkpoints import run_settings
from keras_attn.training.checkpoints.place import Place
from keras_attn.training.metrics.running_figures import without_sums


def resumed(trainer, dataset, variables, settings, record, state):
    """Gives the variables of a `Trainer` the values of a checkpoint, but for those that its settings give anew.

    Args:
        trainer: the `Trainer`.
        dataset: what its `fit` was given.
        variables: its variables, by the names that they have in the checkpoint.
        settings: its settings, see `run_settings.py`.
        record, state: what `Checkpoints.latest_record` found.

    Returns:
        `(what the checkpoint remembers besides variables, step, place)`.
    """
    step, changes = record["step"], run_settings.differences(record.get("settings"), settings)
    place = then = Place.restored(state, step * trainer.accumulation_steps)
    if record["dataset"] is None:
        place = then.found_in(dataset, not any(name.startswith("dataset.") for name in changes))
        if place.rows != then.rows:
            # A tf.data.Dataset does not say the size of its batches.
            changes["dataset.batch_size"] = (then.rows, place.rows)
    if changes:
        warnings.warn(
            f"`checkpoints` are of a training run with other settings, which goes on from step {step} with those "
            f"that it is given now: {run_settings.in_words(changes)}",
            stacklevel=5,
        )
    for name, variable in variables.items():
        value = state.pop(name)
        if not run_settings.is_given_anew(name, changes):
            variable.assign(value)
    return without_sums(state) if run_settings.are_measured_otherwise(changes) else state, step, place
