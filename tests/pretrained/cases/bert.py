import dataclasses
import functools

from pretrained.case import SIZE, Case, choices, tokens

CONFIG = {
    "vocab_size": SIZE,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 37,
    "max_position_embeddings": 40,
}


def cases(name, config=CONFIG, pad_id=0):
    """A case for each head of a text encoder."""
    found = [
        Case(f"{name}Model", config),
        Case(f"{name}ForSequenceClassification", {**config, "num_labels": 3}, fixture=True),
        Case(f"{name}ForTokenClassification", {**config, "num_labels": 5}),
        Case(f"{name}ForQuestionAnswering", config),
        Case(f"{name}ForMaskedLM", config),
        Case(f"{name}ForMultipleChoice", config, inputs=functools.partial(choices, pad_id=pad_id)),
    ]
    tokens_of = functools.partial(tokens, pad_id=pad_id)
    return [dataclasses.replace(case, inputs=tokens_of) if case.inputs is tokens else case for case in found]


TEXT = Case(
    "BertForSequenceClassification",
    {**CONFIG, "vocab_size": 91, "pad_token_id": 1, "num_labels": 2, "id2label": {0: "bad", 1: "good"}},
    "text",
    inputs=functools.partial(tokens, pad_id=1),
    fixture=True,
    tokenizer="bert_uncased",
)
CASES = [
    *cases("Bert"),
    Case("BertForNextSentencePrediction", CONFIG),
    Case("BertForPreTraining", CONFIG, fixture=True),
    TEXT,
]
