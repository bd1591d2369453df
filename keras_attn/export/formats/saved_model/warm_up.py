"""Requests that TensorFlow Serving answers when it loads a model: the first of each signature takes far longer."""

import tensorflow as tf

# Numbers of fields, of which Serving's own package has the definitions: `PredictionLog.predict_log`,
# `PredictLog.request`, `PredictRequest.model_spec` and `inputs`, `ModelSpec.signature_name`.
PREDICT_LOG, REQUEST, MODEL_SPEC, INPUTS, SIGNATURE_NAME = 6, 1, 1, 2, 3
MAP_KEY, MAP_VALUE = 1, 2


def write(folder, requests):
    """Writes requests as Serving reads them.

    Args:
        folder: `Path` of the SavedModel's `assets.extra`.
        requests: dict, name of the signature -> dict of arrays.
    """
    with tf.io.TFRecordWriter(str(folder / "tf_serving_warmup_requests")) as writer:
        for name, inputs in requests.items():
            writer.write(prediction_log(name, inputs))


def prediction_log(signature, inputs):
    """A serialised `tensorflow.serving.PredictionLog` of a request.

    Args:
        signature: name of the signature.
        inputs: dict of arrays by name.
    """
    request = _field(MODEL_SPEC, _field(SIGNATURE_NAME, signature.encode()))
    for name, value in inputs.items():
        tensor = tf.make_tensor_proto(value).SerializeToString()
        request += _field(INPUTS, _field(MAP_KEY, name.encode()) + _field(MAP_VALUE, tensor))
    return _field(PREDICT_LOG, _field(REQUEST, request))


def _field(number, content):
    """A field of bytes as protocol buffers write it: number and kind, length, content."""
    length, size = b"", len(content)
    while size > 127:
        length, size = length + bytes([size % 128 + 128]), size // 128
    return bytes([number * 8 + 2]) + length + bytes([size]) + content
