"""Folders of sentence-transformers, without PyTorch: a fixture as the Transformer, and modules after it."""

import json
import shutil

import numpy as np
import pytest
from pretrained import ours
from pretrained.case import FIXTURES, tokens
from safetensors.numpy import load_file, save_file

from keras_attn import from_pretrained
from keras_attn.export import export

SOURCE = FIXTURES / "BertForSequenceClassification"
TYPES = {
    "Transformer": "sentence_transformers.base.modules.transformer.Transformer",
    "Pooling": "sentence_transformers.models.Pooling",
    "Dense": "sentence_transformers.models.Dense",
    "Normalize": "sentence_transformers.models.Normalize",
}
MEAN = {"embedding_dimension": 24, "pooling_mode": "mean", "include_prompt": True}
DENSE = {"in_features": 24, "out_features": 9, "bias": True, "activation_function": "torch.nn.modules.activation.Tanh"}
INPUTS = tokens(np.random.default_rng(1))


def flags(mode):
    names = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")
    return {"word_embedding_dimension": 24, **{f"pooling_mode_{name}": name == mode for name in names}}


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def folder_of(path, modules, transformer="", source=SOURCE):
    """A folder with these modules, dicts from kind to config."""
    paths = {"Transformer": transformer, **{kind: f"{i + 1}_{kind}" for i, kind in enumerate(modules)}}
    entries = [{"idx": i, "name": str(i), "path": paths[kind], "type": TYPES[kind]} for i, kind in enumerate(paths)]
    write(path / "modules.json", entries)
    (path / transformer).mkdir(exist_ok=True)
    for name in ("config.json", "model.safetensors"):
        shutil.copy(source / name, path / transformer / name)
    for kind, config in modules.items():
        write(path / paths[kind] / "config.json", config)
    if "Dense" in modules:
        rng = np.random.default_rng(0)
        shapes = {"linear.weight": (9, 24), "linear.bias": (9,)}
        found = {name: rng.normal(size=shape).astype("float32") for name, shape in shapes.items()}
        save_file(found, path / paths["Dense"] / "model.safetensors")
    return path


def vectors(source=SOURCE):
    """The vectors of the real tokens of each text."""
    model = from_pretrained(source, "base")
    found = np.asarray(model(case_inputs(), training=False))
    return [x[mask.astype(bool)] for x, mask in zip(found, INPUTS["attention_mask"], strict=True)]


def case_inputs():
    return {"token_ids": INPUTS["input_ids"], "padding_mask": INPUTS["attention_mask"].astype(bool)}


POOLINGS = {
    "mean": (MEAN, lambda x: x.mean(0)),
    "cls": (flags("cls_token"), lambda x: x[0]),
    "max": (flags("max_tokens"), lambda x: x.max(0)),
    "last": ({**MEAN, "pooling_mode": ["lasttoken"]}, lambda x: x[-1]),
}


@pytest.mark.parametrize("mode", POOLINGS)
def test_poolings(mode, tmp_path):
    config, pool = POOLINGS[mode]
    model = from_pretrained(folder_of(tmp_path, {"Pooling": config}))
    found = model(case_inputs(), training=False)
    assert ours.difference(found, np.stack([pool(x) for x in vectors()])) <= 1e-6


def test_all_modules_in_their_folders(tmp_path):
    modules = {"Pooling": MEAN, "Dense": DENSE, "Normalize": {}}
    source = folder_of(tmp_path / "source", modules, "0_Transformer")
    write(source / "0_Transformer" / "sentence_bert_config.json", {"max_seq_length": 16, "do_lower_case": False})
    write(source / "config_sentence_transformers.json", {"prompts": {"query": "find: "}, "default_prompt_name": None})
    model = from_pretrained(source)
    found = np.asarray(model(case_inputs(), training=False))
    dense = load_file(source / "2_Dense" / "model.safetensors")
    wanted = np.tanh(np.stack([x.mean(0) for x in vectors()]) @ dense["linear.weight"].T + dense["linear.bias"])
    assert ours.difference(found, wanted / np.linalg.norm(wanted, axis=1, keepdims=True)) <= 1e-6
    model.save_pretrained(tmp_path / "written")
    for file in source.rglob("*.json"):
        if file.name != "config.json" or "Transformer" not in str(file):
            written = tmp_path / "written" / file.relative_to(source)
            assert json.loads(written.read_text()) == json.loads(file.read_text())
    np.testing.assert_array_equal(
        load_file(tmp_path / "written" / "2_Dense" / "model.safetensors")["linear.weight"], dense["linear.weight"]
    )
    np.testing.assert_array_equal(from_pretrained(tmp_path / "written")(case_inputs(), training=False), found)
    report = export(model, tmp_path / "exported", ["tflite", "onnx"], tasks="forward")
    assert all(row["max_abs_diff"] <= 1e-5 for row in report.rows)


@pytest.mark.parametrize("name", ["T5EncoderModel", "T5ForConditionalGeneration"])
def test_encoder_of_t5(name, tmp_path):
    modules = {"Pooling": MEAN, "Dense": {**DENSE, "bias": False, "activation_function": "Identity"}, "Normalize": {}}
    source = folder_of(tmp_path / "source", modules, source=FIXTURES / name)
    kernel = load_file(source / "2_Dense" / "model.safetensors")["linear.weight"]
    save_file({"linear.weight": kernel}, source / "2_Dense" / "model.safetensors")
    model = from_pretrained(source)
    wanted = np.stack([x.mean(0) for x in vectors(FIXTURES / name)]) @ kernel.T
    found = np.asarray(model(case_inputs(), training=False))
    assert ours.difference(found, wanted / np.linalg.norm(wanted, axis=1, keepdims=True)) <= 1e-6
    model.save_pretrained(tmp_path / "written")
    written = load_file(tmp_path / "written" / "model.safetensors")
    assert not [x for x in written if not x.startswith(("shared.", "encoder."))]
    np.testing.assert_array_equal(from_pretrained(tmp_path / "written")(case_inputs(), training=False), found)


@pytest.mark.parametrize("lowercases", [False, True])
def test_texts_are_lowercased_if_a_module_says_so(lowercases, tmp_path):
    source = FIXTURES / "BertForSequenceClassification-text"
    folder_of(tmp_path, {"Pooling": MEAN})
    for name in ("config.json", "model.safetensors"):
        shutil.copy(source / name, tmp_path)
    tokenizer = json.loads((source / "tokenizer.json").read_text())
    tokenizer["normalizer"]["lowercase"] = False
    write(tmp_path / "tokenizer.json", tokenizer)
    write(tmp_path / "sentence_bert_config.json", {"max_seq_length": 16, "do_lower_case": lowercases})
    model = from_pretrained(tmp_path)
    upper, lower = model.tokenizer.encode(["A DOG", "a dog"]).tolist()
    assert (upper == lower) is lowercases
    model.save_pretrained(tmp_path / "written")
    assert from_pretrained(tmp_path / "written").tokenizer == model.tokenizer


def edit(path, change):
    def apply(folder):
        content = json.loads((folder / path).read_text())
        write(folder / path, change(content))

    return apply


def with_entry(number, **entries):
    return edit("modules.json", lambda x: [{**y, **entries} if i == number else y for i, y in enumerate(x)])


def settings(name, **entries):
    return lambda folder: write(folder / name, entries)


BAD = {
    "path out of the folder": (with_entry(1, path="../1_Pooling"), "names of folders as 'path'"),
    "absolute path": (with_entry(0, path="/etc"), "names of folders as 'path'"),
    "link out of the folder": (lambda x: _link(x), "paths in its folder"),
    "code of others": (with_entry(1, type="my_package.Pooling"), "only modules of sentence_transformers"),
    "unknown module": (with_entry(2, type="sentence_transformers.models.LSTM"), "Transformer, a Pooling"),
    "another order": (edit("modules.json", lambda x: [x[0], x[2], x[1]]), "Transformer, a Pooling"),
    "no list": (edit("modules.json", lambda x: {}), "modules.json must contain a JSON array"),
    "several modes": (
        settings("1_Pooling/config.json", **{**MEAN, "pooling_mode": ["cls", "mean"]}),
        "one of the modes",
    ),
    "weighted mean": (settings("1_Pooling/config.json", **flags("mean_sqrt_len_tokens")), "one of the modes"),
    "residual": (settings("2_Dense/config.json", **DENSE, use_residual=True), "'use_residual' only as False"),
    "unknown activation": (
        settings("2_Dense/config.json", **{**DENSE, "activation_function": "os.system"}),
        "activations",
    ),
    "pickled weights": (
        lambda x: (x / "2_Dense/model.safetensors").rename(x / "2_Dense/pytorch_model.bin"),
        "can run code",
    ),
    "prompt": (settings("config_sentence_transformers.json", default_prompt_name="query"), "in front of your texts"),
    "lower case": (settings("sentence_bert_config.json", do_lower_case="yes"), "'do_lower_case' only as False or True"),
    "unknown setting": (settings("sentence_bert_config.json", pooling_stride=2), "pooling_stride"),
}


def _link(folder):
    shutil.rmtree(folder / "1_Pooling")
    (folder / "1_Pooling").symlink_to("/etc", target_is_directory=True)


@pytest.mark.parametrize("name", BAD)
def test_refusals(name, tmp_path):
    folder_of(tmp_path, {"Pooling": MEAN, "Dense": DENSE})
    change, message = BAD[name]
    change(tmp_path)
    with pytest.raises(ValueError, match=message):
        from_pretrained(tmp_path)
