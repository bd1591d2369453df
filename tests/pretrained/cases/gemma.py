from pretrained.case import Case
from pretrained.cases.llama import CONFIG

CASES = [Case("GemmaForCausalLM", CONFIG, fixture=True)]
