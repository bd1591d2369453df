from pretrained.case import Case
from pretrained.cases.bert import CONFIG, cases

SIZES = {**CONFIG, "embedding_size": 17, "num_hidden_layers": 3}
CASES = [
    *cases("Albert", SIZES),
    Case("AlbertModel", {**SIZES, "num_hidden_groups": 2, "inner_group_num": 2}, "groups", fixture=True),
]
