import keras
import pytest

from keras_attn import GenerationConfig, Transformer
from keras_attn.export import export
from keras_attn.text import CharacterTokenizer

FORMATS = ["saved_model", "tflite", "onnx"]
CHARACTERS = "abcdefghij é日"


def make_transformer(**kwargs):
    keras.utils.set_random_seed(7)
    model = Transformer(
        len(CHARACTERS) + 4,
        num_layers=1,
        hidden_dim=12,
        num_heads=3,
        intermediate_dim=20,
        generation_config=GenerationConfig(max_length=5),
        **kwargs,
    )
    # Untrained, a model says the same token over and over.
    model.target_embedding.embeddings.assign(model.target_embedding.embeddings * 3)
    return model


@pytest.fixture
def classifier():
    keras.utils.set_random_seed(3)
    features = keras.Input((None, 3), name="features")
    extra = keras.Input((3,), name="extra")
    x = keras.layers.Dense(7, activation="relu")(features + keras.ops.expand_dims(extra, 1))
    return keras.Model([features, extra], keras.layers.Dense(5)(x))


@pytest.fixture
def tiny_transformer():
    return make_transformer


@pytest.fixture(scope="session")
def transformer():
    return make_transformer(tokenizer=CharacterTokenizer(CHARACTERS))


@pytest.fixture(scope="session")
def exported(transformer, tmp_path_factory):
    """A folder with every format and task of a Transformer, and its report."""
    path = tmp_path_factory.mktemp("export") / "new" / "dates"
    return path, export(transformer, path, FORMATS, tasks=["generate", "forward"])


@pytest.fixture
def tflite_folder(classifier, tmp_path):
    """A folder with one small artefact, which takes no second to verify."""
    export(classifier, tmp_path / "out", "tflite", tasks="forward")
    return tmp_path / "out"
