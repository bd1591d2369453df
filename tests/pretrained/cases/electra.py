from pretrained.case import Case
from pretrained.cases.bert import CONFIG, cases

CASES = [
    *cases("Electra", {**CONFIG, "embedding_size": 17}),
    Case("ElectraForPreTraining", {**CONFIG, "embedding_size": 24}),
]
