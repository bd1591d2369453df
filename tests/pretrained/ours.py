"""What our models compute, in the form of `theirs`."""

import numpy as np
import tensorflow as tf

from keras_attn.generation import BeamSearch, GenerationConfig
from keras_attn.pretrained.checkpoint_config import CheckpointConfig
from keras_attn.pretrained.families import family_of
from keras_attn.pretrained.weights import assignments


def real(values, inputs):
    """The outputs at tokens that are no padding, for outputs per token."""
    values = np.asarray(values)
    mask = inputs.get("attention_mask")
    if mask is not None and "decoder_input_ids" not in inputs and values.shape[:2] == mask.shape:
        return values[mask.astype(bool)]
    return values


def difference(ours, theirs):
    """The largest difference relative to the largest value; infinite if shapes differ or a value is not finite."""
    ours, theirs = np.asarray(ours, "float64"), np.asarray(theirs, "float64")
    if ours.shape != theirs.shape or not np.isfinite(ours).all():
        return np.inf
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def generated(model, inputs, num_beams, length, end_id, start_id=None):
    """Generated tokens, without what follows the end."""
    strategy = BeamSearch(num_beams) if num_beams > 1 else None
    settings = GenerationConfig(max_length=length, end_id=end_id, start_id=start_id, pad_id=0, strategy=strategy)
    rows = np.asarray(model.generate(inputs, config=settings))
    return [row[: list(row).index(end_id) + 1] if end_id in row else row for row in rows.tolist()]


def loss_gradients(model, case, inputs, limit=6):
    """The gradients of variables that their tensors are without a transform, by the names in the table."""
    config = CheckpointConfig(model.checkpoint.config)
    family = family_of(config.entries["model_type"])
    _, head = family.head_of(None, model.checkpoint.task)
    plan, _ = assignments(model, family.table(config, head))
    plain = [entry for entry in plan if not entry.row.transforms and entry.parts[0].variable.trainable]
    plain = plain[:: max(1, len(plain) // limit)]
    variables = [entry.parts[0].variable for entry in plain]
    with tf.GradientTape() as tape:
        outputs, loss = model(case.to_ours(inputs), training=False), 0.0
        mask = inputs.get("attention_mask")
        for values in outputs.values() if isinstance(outputs, dict) else [outputs]:
            if mask is not None and "decoder_input_ids" not in inputs and tuple(values.shape[:2]) == mask.shape:
                values = tf.boolean_mask(values, mask.astype(bool))
            loss += tf.reduce_sum(values**2)
    gradients = tape.gradient(loss, [x.value for x in variables])
    found = {}
    for entry, gradient in zip(plain, gradients, strict=True):
        if gradient is not None:
            found[entry.names[0]] = entry.parts[0].to_theirs(np.asarray(tf.convert_to_tensor(gradient)))
    return found
