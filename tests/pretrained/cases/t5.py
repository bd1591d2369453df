from pretrained.case import SIZE, Case, ended, pairs

CONFIG = {
    "vocab_size": SIZE,
    "d_model": 24,
    "d_kv": 10,
    "d_ff": 37,
    "num_layers": 2,
    "num_heads": 4,
    "eos_token_id": 1,
    "decoder_start_token_id": 0,
}
UNEVEN = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "num_decoder_layers": 1}


def untied(model):
    """As in files of T5 1.1."""
    model.lm_head.weight = type(model.lm_head.weight)(model.shared.weight.flip(0) + 0.1)


CASES = [
    Case("T5ForConditionalGeneration", CONFIG, inputs=pairs, fixture=True, tokenizer="t5"),
    Case("T5ForConditionalGeneration", {**CONFIG, **UNEVEN}, "1.1", inputs=pairs),
    Case("T5ForConditionalGeneration", {**CONFIG, **UNEVEN}, "1.1-untied", inputs=pairs, change=untied),
    Case("MT5ForConditionalGeneration", CONFIG, inputs=pairs),
    Case("T5EncoderModel", CONFIG, fixture=True),
    Case("MT5EncoderModel", {**CONFIG, **UNEVEN}),
    Case("T5ForSequenceClassification", {**CONFIG, "num_labels": 3}, inputs=ended, fixture=True),
    Case("MT5ForSequenceClassification", {**CONFIG, **UNEVEN, "num_labels": 3}, inputs=ended),
    Case("T5ForQuestionAnswering", CONFIG),
    Case("T5ForTokenClassification", {**CONFIG, "num_labels": 5}),
]
