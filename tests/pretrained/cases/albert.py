from pretrained.cases.bert import CONFIG, cases

CASES = cases("Albert", {**CONFIG, "embedding_size": 17, "num_hidden_layers": 3})
