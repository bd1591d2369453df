"""LoRA adapters of PEFT in ours, and of ours in PEFT."""

import numpy as np
import pytest
from pretrained.case import FIXTURES

from keras_attn import from_pretrained
from keras_attn.pretrained import enable_lora, load_adapter, save_adapter

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft", reason="PEFT is not among the peers that are always installed")

IDS = np.array([[5, 6, 7, 8, 9], [9, 10, 11, 12, 13]])
# Classes, the modules that PEFT adapts, the settings of both, and the projections of ours.
CASES = {
    "BertForSequenceClassification": (
        ["query", "dense"],
        {"task_type": "SEQ_CLS", "use_rslora": True},
        ["key", "output"],
    ),
    "GPT2LMHeadModel": (["c_attn", "c_proj"], {"task_type": "CAUSAL_LM"}, ["query", "value", "intermediate"]),
    "Phi3ForCausalLM-short": (["qkv_proj", "down_proj"], {"rank_pattern": {"down_proj": 3}}, ["query", "key", "gate"]),
    "LlamaForCausalLM": (["q_proj", "v_proj"], {"alpha_pattern": {"layers.0.self_attn.v_proj": 7}}, ["query", "value"]),
}


def theirs(name):
    architecture = getattr(transformers, name.partition("-")[0])
    return architecture.from_pretrained(FIXTURES / name, attn_implementation="eager", dtype=torch.float32).eval()


def logits(model):
    with torch.no_grad():
        return model(torch.tensor(IDS)).logits.numpy()


@pytest.mark.parametrize("name", CASES)
def test_adapters_of_peft(name, tmp_path):
    targets, settings, _ = CASES[name]
    model = peft.get_peft_model(theirs(name), peft.LoraConfig(r=2, lora_alpha=5, target_modules=targets, **settings))
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(0, 0.2)
    model.save_pretrained(tmp_path)
    mine = from_pretrained(FIXTURES / name)
    load_adapter(mine, tmp_path)
    expected = logits(model.eval())
    np.testing.assert_allclose(mine(IDS), expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", CASES)
def test_our_adapters_in_peft(name, tmp_path):
    mine = from_pretrained(FIXTURES / name)
    enable_lora(mine, 2, alpha=5, targets=CASES[name][2])
    rng = np.random.default_rng(0)
    for variable in mine.trainable_variables:
        variable.assign(rng.normal(0, 0.2, variable.shape))
    save_adapter(mine, tmp_path)
    expected = np.asarray(mine(IDS))
    found = logits(peft.PeftModel.from_pretrained(theirs(name), tmp_path).eval())
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
