from pretrained.case import SIZE, Case

CONFIG = {
    "vocab_size": SIZE,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "intermediate_size": 37,
    "max_position_embeddings": 64,
    "rope_parameters": {"rope_type": "default", "rope_theta": 5e3, "partial_rotary_factor": 0.5},
    "eos_token_id": 1,
    "pad_token_id": 0,
}
SEQUENTIAL = {"use_parallel_residual": False, "attention_bias": False, "tie_word_embeddings": True}
CASES = [
    Case("GPTNeoXForCausalLM", CONFIG, fixture=True),
    Case("GPTNeoXForCausalLM", {**CONFIG, **SEQUENTIAL}, "sequential"),
    Case("GPTNeoXForSequenceClassification", {**CONFIG, "num_labels": 3}),
]
