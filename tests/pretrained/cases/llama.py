from pretrained.case import SIZE, Case

CONFIG = {
    "vocab_size": SIZE,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 10,
    "intermediate_size": 37,
    "max_position_embeddings": 64,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
TEXT = Case(
    "LlamaForCausalLM",
    {
        **CONFIG,
        "vocab_size": 320,
        "num_hidden_layers": 1,
        "tie_word_embeddings": True,
        "eos_token_id": 318,
        "pad_token_id": 318,
    },
    "text",
    fixture=True,
    tokenizer="qwen2",
    exempt={"generated": "Padding is the end token: see tests/pretrained/test_texts.py."},
)
CASES = [
    Case("LlamaForCausalLM", {**CONFIG, "rope_parameters": LLAMA3}, fixture=True),
    Case("LlamaForCausalLM", {**CONFIG, "tie_word_embeddings": True}, "tied"),
    Case("LlamaModel", CONFIG),
    Case("LlamaForSequenceClassification", {**CONFIG, "num_labels": 3}),
    TEXT,
]
