from pretrained.case import Case
from pretrained.cases.llama import CONFIG

CASES = [Case("Gemma2ForCausalLM", {**CONFIG, "sliding_window": 4, "query_pre_attn_scalar": 7}, fixture=True)]
