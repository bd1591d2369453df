from pretrained.case import SIZE
from pretrained.cases.bert import cases

CONFIG = {
    "vocab_size": SIZE,
    "dim": 24,
    "n_layers": 2,
    "n_heads": 4,
    "hidden_dim": 37,
    "max_position_embeddings": 40,
}
CASES = cases("DistilBert", CONFIG)
