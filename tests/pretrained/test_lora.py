"""LoRA adapters in the files of PEFT: what they compute, what is trained, and what is refused."""

import json
import shutil

import keras
import numpy as np
import pytest
from pretrained.case import FIXTURES
from safetensors.numpy import load_file, save_file

from keras_attn import compat, from_pretrained
from keras_attn.pretrained import enable_lora, load_adapter, merge_lora, save_adapter

IDS = np.array([[5, 6, 7, 8, 9], [9, 10, 11, 12, 13]])
BERT, GPT2, PHI3 = "BertForSequenceClassification", "GPT2LMHeadModel", "Phi3ForCausalLM-short"
# Modules of theirs, as files name them, and how the paths of ours end.
TARGETS = {
    BERT: ("bert.encoder.layer.{}.attention.self.query", "bert.encoder.layer.{}.output.dense"),
    GPT2: ("transformer.h.{}.attn.c_attn", "transformer.h.{}.mlp.c_fc"),
    PHI3: ("model.layers.{}.self_attn.qkv_proj", "model.layers.{}.mlp.gate_up_proj"),
}
OURS = {BERT: ("query", "network/output"), GPT2: ("query", "value", "intermediate"), PHI3: ("key", "value", "gate")}


def normal(*shape):
    return np.random.default_rng(sum(shape)).normal(0, 0.3, shape).astype("float32")


def write_adapter(folder, tensors, **config):
    folder.mkdir(exist_ok=True)
    save_file(
        {f"base_model.model.{name}": value for name, value in tensors.items()}, folder / "adapter_model.safetensors"
    )
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 3, "bias": "none", **config}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def by_hand(name, tmp_path, scale, **config):
    """`(adapter, checkpoint)`: matrices for some modules, and the checkpoint plus their products."""
    tensors = load_file(FIXTURES / name / "model.safetensors")
    bare = {theirs.removeprefix("transformer."): theirs for theirs in tensors}
    matrices, targets = {}, []
    for module in (target.format(i) for target in TARGETS[name] for i in range(2)):
        stored = (
            f"{module}.weight"
            if f"{module}.weight" in tensors
            else bare[f"{module}.weight".removeprefix("transformer.")]
        )
        kernel = tensors[stored] if name != GPT2 else tensors[stored].T
        a, b = normal(2, kernel.shape[1]), normal(kernel.shape[0], 2)
        matrices |= {f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b}
        changed = kernel.astype("float32") + scale * b @ a
        tensors[stored] = np.ascontiguousarray(changed if name != GPT2 else changed.T)
        targets.append(module)
    merged = tmp_path / "merged"
    shutil.copytree(FIXTURES / name, merged)
    save_file(tensors, merged / "model.safetensors")
    return write_adapter(tmp_path / "adapter", matrices, target_modules=targets, **config), merged


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("use_rslora", [False, True])
def test_formula(name, use_rslora, tmp_path):
    scale = 3 / np.sqrt(2) if use_rslora else 3 / 2
    adapter, merged = by_hand(name, tmp_path, scale, use_rslora=use_rslora)
    model = from_pretrained(FIXTURES / name)
    before = np.asarray(model(IDS))
    load_adapter(model, adapter)
    expected = np.asarray(from_pretrained(merged)(IDS))
    assert np.abs(expected - before).max() > 0.1
    np.testing.assert_allclose(model(IDS), expected, atol=1e-5 * np.abs(expected).max())
    save_adapter(model, tmp_path / "again")
    found, wanted = (load_file(tmp_path / x / "adapter_model.safetensors") for x in ("again", "adapter"))
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        np.testing.assert_array_equal(found[key], value)


@pytest.mark.parametrize("name", TARGETS)
def test_only_matrices_and_the_head_are_trained_and_saved(name, tmp_path):
    model = from_pretrained(FIXTURES / name)
    before = np.asarray(model(IDS))
    enable_lora(model, 2, alpha=5, targets=OURS[name])
    np.testing.assert_array_equal(model(IDS), before)
    frozen = [(x, np.array(x)) for x in model.weights if not x.trainable]
    model.compile("sgd", "mse")
    model.fit(IDS, np.asarray(before) + normal(*before.shape), epochs=2, verbose=0)
    trained = np.asarray(model(IDS))
    assert np.abs(trained - before).max() > 1e-4
    for variable, value in frozen:
        np.testing.assert_array_equal(variable, value)
    names = {x.path.rpartition("/")[2] for x in model.trainable_variables}
    assert names == (
        {"lora_kernel_a", "lora_kernel_b", "kernel", "bias"} if name == BERT else {"lora_kernel_a", "lora_kernel_b"}
    )

    save_adapter(model, tmp_path / "adapter")
    assert (tmp_path / "adapter" / "adapter_model.safetensors").stat().st_size < 20_000
    other = from_pretrained(FIXTURES / name)
    load_adapter(other, tmp_path / "adapter")
    np.testing.assert_allclose(other(IDS), trained, atol=1e-5)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again(IDS), trained, atol=1e-6)
    assert [x.path for x in again.trainable_variables] == [x.path for x in model.trainable_variables]
    with pytest.raises(ValueError, match=r"call `keras_attn.pretrained.merge_lora"):
        model.save_pretrained(tmp_path / "merged")
    merge_lora(model)
    model.save_pretrained(tmp_path / "merged")
    np.testing.assert_allclose(from_pretrained(tmp_path / "merged")(IDS), trained, atol=1e-5)


def edit_config(**entries):
    def edit(folder):
        file = folder / "adapter_config.json"
        config = {name: value for name, value in (json.loads(file.read_text()) | entries).items() if value is not ...}
        file.write_text(json.dumps(config))

    return edit


def edit_tensors(change):
    def edit(folder):
        tensors = load_file(folder / "adapter_model.safetensors")
        change(tensors)
        save_file(tensors, folder / "adapter_model.safetensors")

    return edit


QUERY = "base_model.model.bert.encoder.layer.0.attention.self.query"
REFUSED = {
    "no config": (lambda folder: (folder / "adapter_config.json").unlink(), "must contain adapter_config.json"),
    "config is a list": (
        lambda folder: (folder / "adapter_config.json").write_text("[]"),
        "must contain a JSON object",
    ),
    "no weights": (lambda f: (f / "adapter_model.safetensors").unlink(), "must contain adapter_model.safetensors"),
    "only a pickle": (
        lambda folder: (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin"),
        "adapter_model.bin can run code",
    ),
    "damaged": (lambda f: (f / "adapter_model.safetensors").write_bytes(b"{}"), "a complete safetensors file"),
    "another method": (edit_config(peft_type="IA3"), "'peft_type' only as 'LORA'. Received: 'IA3'"),
    "no method": (edit_config(peft_type=...), "'peft_type' only as 'LORA'. Received: None"),
    "DoRA": (edit_config(use_dora=True), "does not know.*{'use_dora': True}"),
    "biases": (edit_config(bias="all"), "'bias' only as 'none'. Received: 'all'"),
    "PiSSA": (edit_config(init_lora_weights="pissa"), "'init_lora_weights' only as.*Received: 'pissa'"),
    "no rank": (edit_config(r=...), "positive numbers as 'r'. Received: None"),
    "rank is huge": (edit_config(r=2**40), "positive numbers as 'r'"),
    "alpha is a text": (edit_config(lora_alpha="3"), "positive numbers as 'lora_alpha'. Received: '3'"),
    "pattern": (edit_config(rank_pattern={"(a+)+$": 2}), "names of modules in 'rank_pattern'"),
    "another rank": (
        edit_config(r=4),
        r"lora_A of 'encoder.* has shape \(2, 24\), the model and the rank need \(4, 24\)",
    ),
    "another model": (
        edit_tensors(lambda x: x.update({"base_model.model.h.0.lora_A.weight": normal(2, 3)})),
        "no weight for",
    ),
    "no prefix": (
        edit_tensors(lambda x: x.update({"classifier.weight": x.popitem()[1]})),
        "no weight for tensor 'classif",
    ),
    "half a pair": (
        edit_tensors(lambda x: x.pop(f"{QUERY}.lora_B.weight")),
        "no tensor 'encoder.layer.0.*query.lora_B",
    ),
    "no pair": (
        edit_tensors(lambda x: (x.pop(f"{QUERY}.lora_B.weight"), x.pop(f"{QUERY}.lora_A.weight"))),
        "no tensor 'encoder.layer.0.*query.lora_A.weight'; no tensor",
    ),
    "shape": (
        edit_tensors(lambda x: x.update({f"{QUERY}.lora_B.weight": normal(3, 2)})),
        r"lora_B of .* shape \(3, 2\)",
    ),
    "no head": (edit_config(modules_to_save=["classifier"]), "no tensor 'classifier.bias'"),
    "embedding": (
        edit_tensors(
            lambda x: x.update({"base_model.model.bert.embeddings.word_embeddings.lora_A.weight": normal(2, 53)})
        ),
        "matrices for 'embeddings.word_embeddings', which is no single matrix here",
    ),
}


@pytest.fixture(scope="module")
def adapter_of_bert(tmp_path_factory):
    return by_hand(BERT, tmp_path_factory.mktemp("adapter"), 1.5)[0]


@pytest.fixture(scope="module")
def bert():
    return from_pretrained(FIXTURES / BERT)


@pytest.mark.parametrize("name", REFUSED)
def test_refused_adapters(name, adapter_of_bert, bert, tmp_path):
    edit, message = REFUSED[name]
    folder = shutil.copytree(adapter_of_bert, tmp_path / "adapter")
    edit(folder)
    with pytest.raises(ValueError, match=message):
        load_adapter(bert, folder)
    # Nothing was changed before the adapter was known to fit.
    assert not any("lora" in x.path for x in bert.weights)
    assert all(x.trainable for x in bert.weights if "seed" not in x.path)


def test_refused_models(adapter_of_bert, tmp_path):
    model = from_pretrained(FIXTURES / BERT)
    with pytest.raises(ValueError, match="must have LoRA: call"):
        save_adapter(model, tmp_path)
    with pytest.raises(ValueError, match=r"`targets` must be a list.*'attention_output'"):
        enable_lora(model, 2, targets=["q_proj"])
    with pytest.raises(ValueError, match="`rank` must be a positive integer"):
        enable_lora(model, 0)
    enable_lora(model, 3)
    with pytest.raises(ValueError, match="`merge_lora"):
        enable_lora(model, 3)
    with pytest.raises(ValueError, match=r"matrices of rank 2 for .*query, which has LoRA of rank 3"):
        load_adapter(model, adapter_of_bert)
    with pytest.raises(ValueError, match="`merge_lora` must precede `quantize`"):
        model.quantize("int8")
    merge_lora(model)
    query = next(x for x in compat.layers_of(model) if x.name == "query")
    query.enable_lora(2)
    with pytest.raises(ValueError, match="as PEFT describes it"):
        save_adapter(model, tmp_path)
