import functools

from pretrained.case import SIZE, Case, ended, pairs

CONFIG = {
    "vocab_size": SIZE,
    "d_model": 24,
    "encoder_layers": 2,
    "decoder_layers": 1,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 6,
    "encoder_ffn_dim": 37,
    "decoder_ffn_dim": 35,
    "max_position_embeddings": 40,
    "pad_token_id": 0,
    "bos_token_id": 3,
    "eos_token_id": 1,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": None,
}
SCALED = {**CONFIG, "scale_embedding": True}
# The language comes after the end token.
before_language = functools.partial(ended, after=1)
CASES = [
    Case("BartForConditionalGeneration", CONFIG, inputs=pairs, fixture=True),
    Case("MBartForConditionalGeneration", SCALED, inputs=pairs, fixture=True),
    Case("BartForSequenceClassification", {**CONFIG, "num_labels": 3}, inputs=ended, fixture=True),
    Case("BartForQuestionAnswering", CONFIG),
    Case("BartModel", CONFIG),
    Case("MBartForSequenceClassification", {**SCALED, "num_labels": 3}, inputs=before_language, fixture=True),
    Case("MBartForQuestionAnswering", SCALED, inputs=before_language),
    Case("MBartModel", SCALED, inputs=before_language),
]
