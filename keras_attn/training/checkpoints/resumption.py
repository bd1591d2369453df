"""Resumes a training run from a checkpoint, possibly with changed settings."""

import warnings

from keras_attn.training.checkpoints import run_settings
from keras_attn.training.checkpoints.place import Place
from keras_attn.training.metrics.metric_accumulator import without_sums


def resumed(trainer, dataset, variables, settings, record, state):
    """Restores the variables of a `Trainer`, except those that changed settings define.

    Args:
        trainer: The `Trainer`.
        dataset: The data set of its `fit`.
        variables: Its variables, by their names in the checkpoint.
        settings: Its settings, see `run_settings.py`.
        record, state: The result of `Checkpoints.latest_record`.

    Returns:
        `(state besides variables, step, place)`.
    """
    step, changes = record["step"], run_settings.differences(record.get("settings"), settings)
    place = then = Place.restored(state, step * trainer.accumulation_steps)
    if record["dataset"] is None:
        place = then.found_in(dataset, not any(name.startswith("dataset.") for name in changes))
        if place.rows != then.rows:
            # A tf.data.Dataset does not expose its batch size.
            changes["dataset.batch_size"] = (then.rows, place.rows)
    if changes:
        warnings.warn(
            f"`checkpoints` are from a training run with other settings. Training resumes from step {step} with the "
            f"new ones: {run_settings.format_differences(changes)}",
            stacklevel=5,
        )
    for name, variable in variables.items():
        value = state.pop(name)
        if not run_settings.keeps_new_value(name, changes):
            variable.assign(value)
    return without_sums(state) if run_settings.metrics_changed(changes) else state, step, place
