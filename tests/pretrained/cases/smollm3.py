from pretrained.case import Case
from pretrained.cases.llama import CONFIG

ROPE = {"no_rope_layers": [1, 0], "use_sliding_window": True, "sliding_window": 4}
CASES = [
    Case("SmolLM3ForCausalLM", {**CONFIG, "no_rope_layer_interval": 2}, fixture=True),
    Case("SmolLM3ForCausalLM", {**CONFIG, **ROPE, "attention_bias": True, "mlp_bias": True}, "window"),
]
