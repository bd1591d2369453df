from pretrained.cases.bert import CONFIG, cases

CASES = cases("MPNet", CONFIG, pad_id=1)
