"""Warm-up requests for TensorFlow Serving, since the first request of each signature is slow."""

import tensorflow as tf

# Field numbers of protocol buffers that are defined in Serving's package: `PredictionLog.predict_log`,
# `PredictLog.request`, `PredictRequest.model_spec` and `inputs`, `ModelSpec.signature_name`.
PREDICT_LOG, REQUEST, MODEL_SPEC, INPUTS, SIGNATURE_NAME = 6, 1, 1, 2, 3
MAP_KEY, MAP_VALUE = 1, 2


def write(folder, requests):
    """Writes warm-up requests.

    Args:
        folder: `Path` of the SavedModel's `assets.extra`.
        requests: Dict from signature name to dict of arrays.
    """
    with tf.io.TFRecordWriter(str(folder / "tf_serving_warmup_requests")) as writer:
        for name, inputs in requests.items():
            writer.write(prediction_log(name, inputs))


def prediction_log(signature, inputs):
    """Serialises a request as a `tensorflow.serving.PredictionLog`.

    Args:
        signature: Name of the signature.
        inputs: Dict of arrays by name.
    """
    request = _field(MODEL_SPEC, _field(SIGNATURE_NAME, signature.encode()))
    for name, value in inputs.items():
        tensor = tf.make_tensor_proto(value).SerializeToString()
        request += _field(INPUTS, _field(MAP_KEY, name.encode()) + _field(MAP_VALUE, tensor))
    return _field(PREDICT_LOG, _field(REQUEST, request))


def _field(number, content):
    """Encodes a protocol buffer field of bytes: number and type, length, content."""
    length, size = b"", len(content)
    while size > 127:
        length, size = length + bytes([size % 128 + 128]), size // 128
    return bytes([number * 8 + 2]) + length + bytes([size]) + content
