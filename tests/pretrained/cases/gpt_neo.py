from pretrained.case import SIZE, Case

CONFIG = {
    "vocab_size": SIZE,
    "hidden_size": 24,
    "num_layers": 2,
    "num_heads": 4,
    "intermediate_size": 37,
    "attention_types": [[["global", "local"], 1]],
    "window_size": 4,
    "max_position_embeddings": 40,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
CASES = [Case("GPTNeoForCausalLM", CONFIG, fixture=True)]
