"""Experts that the files hold in other tensors than the tables name: fused ones, and MXFP4."""

import json
import shutil

import numpy as np
import pytest
from pretrained.case import FIXTURES
from pretrained.test_hostile_files import edit_config, edit_tensors
from safetensors.numpy import load_file, save_file

from keras_attn import from_pretrained
from keras_attn.pretrained.checkpoint_config import CheckpointConfig
from keras_attn.pretrained.families import family_of
from keras_attn.pretrained.saving import save_pretrained

IDS = np.array([[5, 6, 7, 8], [9, 10, 11, 12]])


def fused(tensors):
    for layer in {name.partition(".block_sparse_moe.")[0] for name in tensors if ".block_sparse_moe." in name}:
        old, new = f"{layer}.block_sparse_moe", f"{layer}.mlp"
        w1, w2, w3 = (
            np.stack([tensors.pop(f"{old}.experts.{i}.{x}.weight") for i in range(5)]) for x in ("w1", "w2", "w3")
        )
        tensors[f"{new}.experts.gate_up_proj"] = np.concatenate([w1, w3], axis=1)
        tensors[f"{new}.experts.down_proj"] = w2
        tensors[f"{new}.gate.weight"] = tensors.pop(f"{old}.gate.weight")


def test_fused_experts(tmp_path):
    folder = shutil.copytree(FIXTURES / "MixtralForCausalLM", tmp_path / "folder")
    model = from_pretrained(folder)
    # NumPy has no bfloat16.
    model.save_pretrained(folder)
    edit_tensors(fused)(folder)
    np.testing.assert_array_equal(from_pretrained(folder)(IDS), model(IDS))


def decoded(code):
    """A number of four bits by its definition: a sign, two bits of exponent with bias 1, one of mantissa."""
    sign, exponent, mantissa = code >> 3, code >> 1 & 3, code & 1
    return (-1) ** sign * (mantissa / 2 if exponent == 0 else 2 ** (exponent - 1) * (1 + mantissa / 2))


@pytest.fixture
def folders(tmp_path):
    """`(with floats, with MXFP4)`, the same model of GPT-OSS."""
    config = json.loads((FIXTURES / "GptOssForCausalLM" / "config.json").read_text())
    config |= {"hidden_size": 64, "intermediate_size": 32, "num_hidden_layers": 1, "num_local_experts": 3}
    config["layer_types"] = config["layer_types"][:1]
    family = family_of("gpt_oss")
    made = family.model(**family.arguments(CheckpointConfig(config), family.heads["causal_lm"], None))
    rng = np.random.default_rng(0)
    made.set_weights([rng.normal(0, 0.3, x.shape) for x in made.weights])
    plain, packed = tmp_path / "plain", tmp_path / "packed"
    save_pretrained(made, plain, config)
    shutil.copytree(plain, packed)
    tensors = load_file(plain / "model.safetensors")
    others = dict(tensors)
    table = np.array([decoded(code) for code in range(16)])
    for name in [x for x in tensors if x.endswith(("gate_up_proj", "down_proj"))]:
        experts, inputs, outputs = tensors[name].shape
        codes = rng.integers(0, 16, (experts, outputs, inputs // 32, 32))
        scales = rng.integers(120, 129, (experts, outputs, inputs // 32))
        values = (table[codes] * 2.0 ** (scales[..., None] - 127)).reshape(experts, outputs, inputs)
        tensors[name] = np.ascontiguousarray(values.swapaxes(1, 2), "float32")
        others[f"{name}_blocks"] = (codes[..., 0::2] | codes[..., 1::2] << 4).astype("uint8")
        others[f"{name}_scales"] = scales.astype("uint8")
        del others[name]
    save_file(tensors, plain / "model.safetensors")
    save_file(others, packed / "model.safetensors")
    edit_config(quantization_config={"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]})(packed)
    return plain, packed


def test_mxfp4(folders, tmp_path):
    plain, packed = map(from_pretrained, folders)
    for variable, other in zip(packed.weights, plain.weights, strict=True):
        np.testing.assert_array_equal(variable, other, err_msg=variable.path)
    np.testing.assert_array_equal(packed(IDS), plain(IDS))
    packed.save_pretrained(tmp_path / "written")
    assert "quantization_config" not in json.loads((tmp_path / "written" / "config.json").read_text())
    np.testing.assert_array_equal(from_pretrained(tmp_path / "written")(IDS), plain(IDS))


NAME = "model.layers.0.mlp.experts.down_proj"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.pop(f"{NAME}_scales"), r"must hold .*down_proj_scales' \(experts, outputs, blocks\).* None"),
        (
            lambda x: x.update({f"{NAME}_scales": np.zeros((3, 64, 2), "u1")}),
            r"Received: \(3, 64, 1, 16\) and \(3, 64, 2",
        ),
        (lambda x: x.update({f"{NAME}_scales": np.zeros((3, 64, 1), "f4")}), "must hold bytes.*uint8 and float32"),
    ],
)
def test_damaged_blocks(folders, change, message):
    edit_tensors(change)(folders[1])
    with pytest.raises(ValueError, match=message):
        from_pretrained(folders[1])


def test_other_quantisations_are_refused(folders):
    edit_config(quantization_config={"quant_method": "gptq"})(folders[0])
    with pytest.raises(ValueError, match=r"GPT-OSS in MXFP4, or without quantisation.*gptq"):
        from_pretrained(folders[0])
