"""A `.keras` file that was damaged, or made to do harm, is refused in bounded time and memory, or works."""

import copy
import json
import time
import zipfile

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keras_attn import EncoderModel, GenerationConfig, LanguageModel, Seq2SeqRNN
from keras_attn.export.loading import load_model
from keras_attn.generation import Sampling
from keras_attn.text import SentencePieceTokenizer

SECONDS, MEGABYTES = 5, 300


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """What is in the file of a small model: contents by name."""
    tokenizer = SentencePieceTokenizer.train(["to be or not to be", "not to be or to be"] * 3, 30)
    model = LanguageModel(
        tokenizer.vocabulary_size,
        num_layers=1,
        hidden_dim=8,
        num_heads=2,
        intermediate_dim=8,
        tokenizer=tokenizer,
        generation_config=GenerationConfig(max_length=4, strategy=Sampling(seed=1)),
    )
    path = tmp_path_factory.mktemp("model") / "model.keras"
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def weights(files, tmp_path_factory):
    path = save(tmp_path_factory.mktemp("whole") / "model.keras", files)
    return keras.saving.load_model(path, compile=False).get_weights()


def save(path, files, config=None):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, json.dumps(config) if config and name == "config.json" else content)
    return path


def leaves(node, path=()):
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else None
    if children is None:
        return [path]
    return [leaf for name, child in children for leaf in leaves(child, (*path, name))]


def replaced(config, path, value):
    config = copy.deepcopy(config)
    node = config
    for name in path[:-1]:
        node = node[name]
    node[path[-1]] = value
    return config


def peak_bytes():
    with open("/proc/self/status", encoding="ascii") as status:
        return next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM"))


def load(path):
    """The model, or None if the file is refused; in bounds."""
    start, peak = time.process_time(), peak_bytes()
    try:
        model = load_model(path)
    except ValueError as error:
        model = None
        assert "\n" not in str(error).split(": ", 1)[0]  # noqa: PT017
    assert time.process_time() - start < SECONDS
    assert peak_bytes() - peak < MEGABYTES * 1e6
    return model


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("num_layers",), 10**9, "`num_layers` must be at most 4096"),
        (("vocabulary_size",), 10**9, "weights that are not in the file"),
        (("hidden_dim",), 10**6, "weights that are not in the file"),
        (("intermediate_dim",), 10**8, "weights that are not in the file"),
        (("tokenizer", "config", "add_start"), 10**9, "`add_start` must be True or False"),
        (("tokenizer", "config", "model"), 10**9, "`model` must be a SentencePiece model"),
    ],
)
def test_a_huge_number(path, value, message, files, tmp_path):
    config = replaced(json.loads(files["config.json"]), ("config", *path), value)
    path = save(tmp_path / "model.keras", files, config)
    assert load(path) is None
    with pytest.raises(ValueError, match=message):
        load_model(path)


def test_a_huge_config(files, tmp_path):
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content + bytes(2**28) if name == "config.json" else content)
    with pytest.raises(ValueError, match="larger than"):
        load_model(path)


def test_ordinary_models_are_within_bounds(tmp_path):
    sizes = {"hidden_dim": 32, "num_heads": 2, "intermediate_dim": 32}
    models = [
        EncoderModel(70_000, num_layers=3, share_weights=True, **sizes),
        Seq2SeqRNN(50, num_layers=1, hidden_dim=8),
    ]
    models[0].quantize("int4")
    for model in models:
        model.save(tmp_path / "model.keras")
        found = load_model(tmp_path / "model.keras")
        assert len(found.weights) == len(model.weights)


VALUES = st.one_of(
    st.sampled_from([0, -1, 2**31, 10**9, 10**18, 10**400, 1e308, float("nan"), "", "x" * 1000, None, True, [], {}]),
    st.integers(),
    st.text(max_size=5),
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_value_anywhere_in_the_config(files, tmp_path, data):
    config = json.loads(files["config.json"])
    for _ in range(data.draw(st.integers(1, 2))):
        config = replaced(config, data.draw(st.sampled_from(leaves(config))), data.draw(VALUES))
    model = load(save(tmp_path / "model.keras", files, config))
    if model is not None and getattr(model, "tokenizer", None) is not None:
        ids = model.tokenizer.encode(["to be"], length=8)
        assert model.tokenizer.decode(ids) == model.tokenizer.decode(np.asarray(ids))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), new=st.binary(max_size=8))
def test_any_damage_to_the_file(files, weights, tmp_path, place, new):
    content = bytearray(save(tmp_path / "model.keras", files).read_bytes())
    start = int(place * len(content))
    content[start : start + len(new) if new else None] = new
    (tmp_path / "model.keras").write_bytes(content)
    model = load(tmp_path / "model.keras")
    if model is not None:
        for ours, theirs in zip(model.get_weights(), weights, strict=True):
            np.testing.assert_array_equal(ours, theirs)
