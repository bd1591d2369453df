"""Damaged and hostile checkpoints: each is refused in words, with memory bounded by the file."""

import json
import shutil
import struct

import numpy as np
import pytest
from pretrained.case import FIXTURES
from safetensors.numpy import load_file, save_file

from keras_attn import from_pretrained
from keras_attn.pretrained import save_pretrained

SOURCE = FIXTURES / "BertForSequenceClassification"
WEIGHTS = "model.safetensors"


@pytest.fixture
def folder(tmp_path):
    target = tmp_path / "folder"
    target.mkdir()
    for name in ("config.json", WEIGHTS):
        shutil.copy(SOURCE / name, target / name)
    return target


def edit_config(**entries):
    def edit(folder):
        config = json.loads((folder / "config.json").read_text())
        config = {name: value for name, value in {**config, **entries}.items() if value is not ...}
        (folder / "config.json").write_text(json.dumps(config))

    return edit


def write(name, content):
    def edit(folder):
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return edit


def edit_tensors(change):
    def edit(folder):
        tensors = load_file(folder / WEIGHTS)
        change(tensors)
        save_file(tensors, folder / WEIGHTS)

    return edit


def edit_header(change, as_text=False):
    """Changes the header alone."""

    def edit(folder):
        content = (folder / WEIGHTS).read_bytes()
        (size,) = struct.unpack("<Q", content[:8])
        header = content[8 : 8 + size].decode()
        if as_text:
            header = change(header)
        else:
            header = json.loads(header)
            change(header)
            header = json.dumps(header)
        header = header.encode()
        (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(header)) + header + content[8 + size :])

    return edit


def first(header):
    return next(name for name in header if name != "__metadata__")


def set_entry(name, value):
    def change(header):
        header[first(header)][name] = value

    return change


def overlap(header):
    names = [name for name in header if name != "__metadata__"]
    same = next(x for x in names[1:] if header[x]["shape"] == header[names[0]]["shape"])
    header[same]["data_offsets"] = header[names[0]]["data_offsets"]


def duplicate(header):
    name = first(json.loads(header))
    return header.rstrip()[:-1] + f', "{name}": ' + json.dumps(json.loads(header)[name]) + "}"


def index(weight_map):
    def edit(folder):
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))

    return edit


def renamed_weights(name):
    return lambda folder: (folder / WEIGHTS).rename(folder / name)


def rename(old, new):
    def change(tensors):
        tensors[new] = tensors.pop(old)

    return change


def reshape(tensors):
    tensors["classifier.weight"] = tensors["classifier.weight"].T.copy()


QUERY = "bert.encoder.layer.0.attention.self.query.weight"
HOSTILE = {
    "no config": (lambda folder: (folder / "config.json").unlink(), "must contain config.json"),
    "config is no JSON": (write("config.json", "{"), "config.json must be valid JSON"),
    "config is no UTF-8": (write("config.json", b"\xff\xfe{}"), "config.json must be valid JSON"),
    "config is a list": (write("config.json", "[]"), "must contain a JSON object.*list"),
    "config nests deeply": (write("config.json", '{"a":' * 100_000), "config.json must be valid JSON"),
    "config repeats a name": (write("config.json", '{"a": 1, "a": 2}'), "names must be unique, 'a' is not"),
    "no model type": (edit_config(model_type=...), "'model_type'.*None"),
    "unknown model type": (edit_config(model_type="mamba"), "'model_type'.*'mamba'"),
    "model type is a list": (edit_config(model_type=["bert"]), r"'model_type'.*\['bert'\]"),
    "unknown architecture": (edit_config(architectures=["BertForEverything"]), "`task` must be one of"),
    "unknown setting": (edit_config(attention_temperature=2.0), "does not know.*{'attention_temperature': 2.0}"),
    "unsupported setting": (edit_config(position_embedding_type="relative_key"), "may have 'position_embedding_type'"),
    "unknown activation": (edit_config(hidden_act="snake"), "as .hidden_act.*snake"),
    "size is a text": (edit_config(hidden_size="24"), "positive integer as 'hidden_size'. Received: '24'"),
    "size is negative": (edit_config(num_hidden_layers=-1), "positive integer as 'num_hidden_layers'. Received: -1"),
    "size is a bool": (edit_config(num_hidden_layers=True), "positive integer as 'num_hidden_layers'. Received: True"),
    "epsilon is infinite": (edit_config(layer_norm_eps=float("inf")), "finite number as 'layer_norm_eps'"),
    "huge vocabulary": (edit_config(vocab_size=2**30), "a model of the size of its tensors"),
    "huge positions": (edit_config(max_position_embeddings=2**30), "a model of the size of its tensors"),
    "a million layers": (edit_config(num_hidden_layers=10**6), "`num_layers` must be at most 4096"),
    "heads do not divide": (edit_config(num_attention_heads=7), "`num_heads`"),
    "one layer too many": (edit_config(num_hidden_layers=3), "no tensor 'encoder.layer.2"),
    "one layer too few": (edit_config(num_hidden_layers=1), "no weight for tensor 'bert.encoder.layer.1"),
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), "must contain model.safetensors or"),
    "only a pickle": (renamed_weights("pytorch_model.bin"), "pytorch_model.bin can run code.*AutoModel.from_pretr"),
    "only Keras weights": (renamed_weights("tf_model.h5"), "tf_model.h5 has no safe reader.*from_tf=True"),
    "quantised": (
        edit_config(quantization_config={"quant_method": "gptq"}),
        "must be of a model that is not quantised",
    ),
    "empty weights": (write(WEIGHTS, b""), "must be a complete safetensors file"),
    "huge header": (write(WEIGHTS, struct.pack("<Q", 2**62) + b"{}"), "must be a complete safetensors file"),
    "header is no JSON": (write(WEIGHTS, struct.pack("<Q", 2) + b"{{"), "must be a complete safetensors file"),
    "truncated": (lambda f: write(WEIGHTS, (f / WEIGHTS).read_bytes()[:-100])(f), "must be a complete safetensors"),
    "overlapping tensors": (edit_header(overlap), "must be a complete safetensors file"),
    "offsets outside": (edit_header(set_entry("data_offsets", [0, 2**40])), "must be a complete safetensors file"),
    "negative offsets": (edit_header(set_entry("data_offsets", [-8, 8])), "must be a complete safetensors file"),
    "huge shape": (edit_header(set_entry("shape", [2**40, 2**40])), "must be a complete safetensors file"),
    "unknown dtype": (edit_header(set_entry("dtype", "F1")), "must be a complete safetensors file"),
    "name twice": (edit_header(duplicate, as_text=True), "names must be unique"),
    "tensor missing": (
        edit_tensors(lambda tensors: tensors.pop(QUERY)),
        "no tensor 'encoder.layer.0.attention.self.qu",
    ),
    "tensor too many": (edit_tensors(lambda t: t.update({"extra.weight": np.ones(3, "f4")})), "tensor 'extra.weight'"),
    "tensor renamed": (edit_tensors(rename(QUERY, f"{QUERY}s")), "no tensor .* no weight for tensor"),
    "tensor of another shape": (edit_tensors(reshape), "has shape"),
    "index leaves the folder": (index({"a": "../other.safetensors"}), "files in its folder. Received: '../other"),
    "index has absolute paths": (index({"a": "/etc/passwd"}), "files in its folder. Received: '/etc/passwd'"),
    "index names pickles": (index({"a": "weights.bin"}), "must name safetensors files"),
    "index without map": (write("model.safetensors.index.json", "{}"), "'weight_map'"),
    "shard missing": (index({"a": "model-1.safetensors"}), "must contain model-1.safetensors, which its index names"),
    "index of other tensors": (index({"a": WEIGHTS}), "must list the tensors of its files"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_refused(folder, name, record_property):
    edit, message = HOSTILE[name]
    edit(folder)
    with pytest.raises(ValueError, match=message) as error:
        from_pretrained(folder)
    record_property("name", name)
    record_property("message", str(error.value).replace(str(folder), "FOLDER")[:300])


def test_folder_must_be_one(tmp_path):
    with pytest.raises(ValueError, match="`folder` must be a folder with config"):
        from_pretrained(tmp_path / "missing")
    with pytest.raises(ValueError, match="`folder` must be a folder or the id"):
        from_pretrained(3)


def test_shards(folder):
    whole = from_pretrained(folder)
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    names = sorted(tensors)
    files = {}
    for number, part in enumerate((names[::2], names[1::2])):
        file = f"model-0000{number + 1}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, folder / file)
        files |= dict.fromkeys(part, file)
    index(files)(folder)
    sharded = from_pretrained(folder)
    for variable, other in zip(whole.weights, sharded.weights, strict=True):
        np.testing.assert_array_equal(variable, other)
    sharded.weights[0].assign_add(np.ones(sharded.weights[0].shape))
    sharded.save_pretrained(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", WEIGHTS]
    np.testing.assert_array_equal(from_pretrained(folder).weights[0], sharded.weights[0])


def test_a_config_describes_the_model(folder, tmp_path):
    config = json.loads((folder / "config.json").read_text())
    model = from_pretrained(folder)
    unread = type(model).from_config({**model.get_config(), "checkpoint": None})
    with pytest.raises(ValueError, match="needs a model that `from_pretrained` returned"):
        unread.save_pretrained(tmp_path / "out")
    with pytest.raises(ValueError, match=r"must describe the model.*num_layers.*3.*2"):
        save_pretrained(unread, tmp_path / "out", {**config, "num_hidden_layers": 3})
    with pytest.raises(ValueError, match="must be of class LanguageModel"):
        save_pretrained(unread, tmp_path / "out", {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]})
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match=r"`folder` must be a folder, which need not exist\. Received a file"):
        model.save_pretrained(folder / "config.json")
    unread.set_weights(model.get_weights())
    save_pretrained(unread, tmp_path / "out", config)
    for variable, other in zip(model.weights, from_pretrained(tmp_path / "out").weights, strict=True):
        np.testing.assert_array_equal(variable, other)


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
def test_dtypes_of_files(folder, dtype):
    whole = from_pretrained(folder)
    tensors = {name: value.astype(dtype) for name, value in load_file(folder / WEIGHTS).items()}
    save_file(tensors, folder / WEIGHTS)
    for variable, other in zip(whole.weights, from_pretrained(folder).weights, strict=True):
        np.testing.assert_allclose(variable, other, atol=1e-7, rtol=1e-3 if dtype == "float16" else 0)


def test_old_names_and_prefix(folder):
    whole = from_pretrained(folder)
    tensors = {}
    for name, value in load_file(folder / WEIGHTS).items():
        if "LayerNorm" in name:
            name = name.replace(".weight", ".gamma").replace(".bias", ".beta")
        tensors[name.removeprefix("bert.")] = value
    save_file(tensors, folder / WEIGHTS)
    for variable, other in zip(whole.weights, from_pretrained(folder).weights, strict=True):
        np.testing.assert_array_equal(variable, other)


def test_mixed_precision(folder):
    model = from_pretrained(folder, dtype="mixed_bfloat16")
    assert model.weights[0].dtype == "float32"
    assert model.output.dtype == "bfloat16"
    model = from_pretrained(folder, dtype="bfloat16")
    assert model.weights[0].dtype == "bfloat16"
