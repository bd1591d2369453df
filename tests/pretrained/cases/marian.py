from pretrained.case import SIZE, Case, pairs
from pretrained.cases.bart import CONFIG

SEPARATE = {"share_encoder_decoder_embeddings": False, "decoder_vocab_size": SIZE + 4, "tie_word_embeddings": False}
CASES = [
    Case(
        "MarianMTModel", {**CONFIG, "activation_function": "swish", "scale_embedding": True}, inputs=pairs, fixture=True
    ),
    Case("MarianMTModel", {**CONFIG, **SEPARATE}, "separate", inputs=pairs),
    Case("PegasusForConditionalGeneration", CONFIG, inputs=pairs, fixture=True),
    Case("M2M100ForConditionalGeneration", CONFIG, inputs=pairs, fixture=True),
]
