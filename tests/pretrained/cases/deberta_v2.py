from pretrained.case import Case
from pretrained.cases.bert import CONFIG, cases

V3 = {
    **CONFIG,
    "relative_attention": True,
    "max_relative_positions": -1,
    "position_buckets": 6,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": "p2c|c2p",
    "position_biased_input": False,
    "pooler_hidden_act": "gelu",
}
V2 = {**V3, "share_att_key": False, "position_buckets": -1, "norm_rel_ebd": "none", "type_vocab_size": 2}
CASES = [
    *cases("DebertaV2", V3),
    Case("DebertaV2Model", {**V2, "position_biased_input": True, "pos_att_type": ["c2p"]}, "v2"),
    Case("DebertaV2Model", {**V3, "conv_kernel_size": 3, "conv_act": "gelu"}, "xlarge", fixture=True),
    Case("DebertaV2Model", CONFIG, "absolute"),
]
