from pretrained.case import Case
from pretrained.cases.llama import CONFIG

ROPE = {
    "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
}
TYPES = ["sliding_attention", "full_attention"]
SIZES = {"sliding_window": 4, "query_pre_attn_scalar": 7, "layer_types": TYPES, "rope_parameters": ROPE}
CASES = [
    Case("Gemma3ForCausalLM", {**CONFIG, **SIZES}, fixture=True),
    Case("Gemma3TextForSequenceClassification", {**CONFIG, **SIZES, "num_labels": 3}),
]
