from pretrained.case import SIZE, Case

CONFIG = {
    "vocab_size": SIZE,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "ffn_dim": 37,
    "max_position_embeddings": 40,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
CASES = [
    Case("OPTForCausalLM", CONFIG, fixture=True),
    Case("OPTForCausalLM", {**CONFIG, "word_embed_proj_dim": 10, "do_layer_norm_before": False}, "350m"),
]
