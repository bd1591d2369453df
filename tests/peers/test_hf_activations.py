"""Activations side by side with those that Hugging Face's configs name."""

import keras
import numpy as np
import pytest

from keras_attn.ops import hugging_face_activation

torch = pytest.importorskip("torch", reason="needs torch==2.13.0: make peers")
pytest.importorskip("transformers", reason="needs transformers==5.24.0: make peers")

NAMES = ["gelu", "gelu_python", "gelu_new", "gelu_fast", "gelu_accurate", "gelu_pytorch_tanh", "gelu_python_tanh"]
NAMES += ["quick_gelu", "relu", "relu2", "relu6", "silu", "swish", "mish", "sigmoid", "tanh", "linear"]


@pytest.mark.peer("FeedForward", "transformers.activations.ACT2FN")
@pytest.mark.parametrize("name", NAMES)
def test_activations(name):
    from transformers.activations import ACT2FN

    x = np.linspace(-8, 8, 321, dtype="float32")
    actual = keras.activations.get(hugging_face_activation(name))(x)
    np.testing.assert_allclose(actual, ACT2FN[name](torch.from_numpy(x)).numpy(), atol=2e-6, rtol=1e-6)


def test_every_name_is_compared():
    with pytest.raises(ValueError, match="`name` must be one of") as error:
        hugging_face_activation("prelu")
    assert all(repr(name) in str(error.value) for name in NAMES)
    assert str(error.value).count("'") == 2 * len(NAMES) + 2
