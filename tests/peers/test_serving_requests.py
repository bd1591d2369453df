"""TensorFlow Serving's own definitions read the requests that a SavedModel brings to warm up with."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_attn
from keras_attn.export import export
from keras_attn.export.formats.saved_model.warm_up import prediction_log
from keras_attn.text import CharacterTokenizer

prediction_log_pb2 = pytest.importorskip(
    "tensorflow_serving.apis.prediction_log_pb2", reason="needs tensorflow-serving-api: make peers"
)


def read(content):
    request = prediction_log_pb2.PredictionLog.FromString(content).predict_log.request
    return request.model_spec.signature_name, {name: tf.make_ndarray(x) for name, x in request.inputs.items()}


@pytest.mark.parametrize("rows", [1, 40, 5000])
def test_arrays(rows):
    inputs = {"ids": np.arange(rows * 3, dtype="int32").reshape(rows, 3), "x": np.ones((rows, 1), "float32") / 3}
    name, found = read(prediction_log("forward", inputs))
    assert name == "forward"
    assert found.keys() == inputs.keys()
    for key, value in inputs.items():
        assert found[key].dtype == value.dtype
        np.testing.assert_array_equal(found[key], value)


def test_of_an_export(tmp_path):
    tokenizer = CharacterTokenizer("abcé ")
    model = keras_attn.LanguageModel(
        tokenizer.vocabulary_size, num_layers=1, hidden_dim=8, num_heads=2, intermediate_dim=16, tokenizer=tokenizer
    )
    model.generation_config = keras_attn.GenerationConfig(max_length=4)
    export(model, tmp_path, "saved_model", tasks=["generate", "forward"])
    path = tmp_path / "saved_model" / "assets.extra" / "tf_serving_warmup_requests"
    requests = [read(record.numpy()) for record in tf.data.TFRecordDataset(str(path))]
    assert [name for name, _ in requests] == ["serving_default", "generate", "forward"]
    loaded = tf.saved_model.load(str(tmp_path / "saved_model"))
    for name, inputs in requests:
        outputs = loaded.signatures[name](**{key: tf.constant(value) for key, value in inputs.items()})
        assert all(np.isfinite(x).all() for x in keras.tree.flatten(outputs) if x.dtype.is_floating)
