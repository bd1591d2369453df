from pretrained.case import Case
from pretrained.cases.llama import CONFIG

CASES = [Case("MistralForCausalLM", {**CONFIG, "sliding_window": 4}, fixture=True)]
