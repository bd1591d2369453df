from pretrained.case import SIZE, Case

CONFIG = {
    "vocab_size": SIZE,
    "n_embd": 24,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 40,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
CASES = [
    Case("GPT2LMHeadModel", CONFIG, fixture=True),
    Case("GPT2LMHeadModel", {**CONFIG, "n_inner": 37, "tie_word_embeddings": False}, "untied"),
    Case("GPT2ForSequenceClassification", {**CONFIG, "num_labels": 3}),
]
