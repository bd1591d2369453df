from pretrained.case import Case
from pretrained.cases.llama import CONFIG

WINDOW = {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}
CASES = [Case("Qwen2ForCausalLM", {**CONFIG, **WINDOW}, fixture=True)]
