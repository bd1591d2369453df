from pretrained.case import Case
from pretrained.cases.llama import CONFIG

# The experts of `transformers` need widths that are multiples of four.
CASES = [
    Case(
        "MixtralForCausalLM",
        {**CONFIG, "num_local_experts": 5, "num_experts_per_tok": 2, "intermediate_size": 36},
        fixture=True,
    ),
]
