from pretrained.case import SIZE, Case

CONFIG = {
    "vocab_size": SIZE,
    "n_embd": 40,
    "n_layer": 2,
    "n_head": 4,
    "n_inner": 37,
    "rotary_dim": 6,
    "n_positions": 40,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
CASES = [Case("GPTJForCausalLM", CONFIG, fixture=True)]
