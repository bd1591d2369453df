from pretrained.case import Case
from pretrained.cases.llama import CONFIG

ROPE = {
    "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
}
TYPES = ["sliding_attention", "full_attention"]
SIZES = {"sliding_window": 4, "query_pre_attn_scalar": 7, "layer_types": TYPES, "rope_parameters": ROPE}
VISION = {
    "hidden_size": 12,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 13,
    "image_size": 8,
    "patch_size": 4,
}
IMAGES = {"text_config": {**CONFIG, **SIZES}, "vision_config": VISION, "mm_tokens_per_image": 4}
CASES = [
    Case("Gemma3ForCausalLM", {**CONFIG, **SIZES}, fixture=True),
    Case("Gemma3ForConditionalGeneration", IMAGES, written="Gemma3ForCausalLM", fixture=True),
    Case("Gemma3TextForSequenceClassification", {**CONFIG, **SIZES, "num_labels": 3}),
]
