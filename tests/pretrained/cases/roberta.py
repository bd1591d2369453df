import dataclasses

from pretrained.cases.bert import CONFIG, cases

# XLM-R and CamemBERT differ in names only.
ALIKE = [cases(name, CONFIG, pad_id=1)[1] for name in ("XLMRoberta", "Camembert")]
CASES = [
    *cases("Roberta", {**CONFIG, "type_vocab_size": 1}, pad_id=1),
    *(dataclasses.replace(case, fixture=False) for case in ALIKE),
]
