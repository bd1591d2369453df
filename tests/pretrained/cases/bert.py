from pretrained.case import SIZE, Case

CONFIG = {
    "vocab_size": SIZE,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 37,
    "max_position_embeddings": 40,
}
CASES = [
    Case("BertModel", CONFIG),
    Case("BertForSequenceClassification", {**CONFIG, "num_labels": 3}, fixture=True),
    Case("BertForTokenClassification", {**CONFIG, "num_labels": 5}),
    Case("BertForQuestionAnswering", CONFIG),
    Case("BertForMaskedLM", CONFIG),
]
