from pretrained.case import Case
from pretrained.cases.llama import CONFIG

CONFIG = {**CONFIG, "hidden_size": 60, "num_hidden_layers": 2}
del CONFIG["head_dim"]


def longrope(original):
    """Parameters of heads of width 10, of which 6 channels are rotated."""
    factors = {"short_factor": [1.0, 1.1, 1.3], "long_factor": [1.5, 2.0, 4.0]}
    return {
        "rope_parameters": {"rope_type": "longrope", "rope_theta": 1e4, "partial_rotary_factor": 0.6, **factors},
        "original_max_position_embeddings": original,
    }


CASES = [
    Case("Phi3ForCausalLM", {**CONFIG, "sliding_window": 4}),
    Case("Phi3ForCausalLM", {**CONFIG, **longrope(32)}, "short", fixture=True),
    # Of all prompts.
    Case("Phi3ForCausalLM", {**CONFIG, **longrope(2)}, "long"),
]
