from pretrained.case import SIZE, Case

CONFIG = {
    "vocab_size": SIZE,
    "hidden_size": 36,
    "n_layer": 2,
    # Slopes of a number of heads that is no power of two.
    "n_head": 6,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
CASES = [Case("BloomForCausalLM", CONFIG, fixture=True)]
