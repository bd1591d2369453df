from pretrained.case import Case
from pretrained.cases.llama import CONFIG

# The experts of `transformers` need widths that are multiples of four.
SIZES = {
    "num_local_experts": 5,
    "num_experts_per_tok": 2,
    "intermediate_size": 36,
    "sliding_window": 4,
    "swiglu_limit": 0.7,
}
CASES = [Case("GptOssForCausalLM", {**CONFIG, **SIZES}, fixture=True)]
