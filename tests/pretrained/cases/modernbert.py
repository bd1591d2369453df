from pretrained.case import SIZE, Case
from pretrained.cases.bert import cases

CONFIG = {
    "vocab_size": SIZE,
    "hidden_size": 24,
    "intermediate_size": 37,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "local_attention": 6,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "cls_token_id": 1,
    "eos_token_id": 2,
    "sep_token_id": 2,
}
BIASED = {"norm_bias": True, "attention_bias": True, "mlp_bias": True, "classifier_bias": True}
CASES = [
    *cases("ModernBert", CONFIG),
    Case("ModernBertForSequenceClassification", {**CONFIG, **BIASED, "classifier_pooling": "mean"}, "biased"),
]
