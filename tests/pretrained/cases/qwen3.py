from pretrained.case import Case
from pretrained.cases.llama import CONFIG

CASES = [
    Case("Qwen3ForCausalLM", CONFIG, fixture=True),
    Case("Qwen3ForCausalLM", {**CONFIG, "attention_bias": True, "tie_word_embeddings": True}, "bias"),
]
