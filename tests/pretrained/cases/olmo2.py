from pretrained.case import Case
from pretrained.cases.llama import CONFIG

CONFIG = {**CONFIG, "hidden_size": 60}
del CONFIG["head_dim"]
CASES = [Case("Olmo2ForCausalLM", CONFIG, fixture=True)]
