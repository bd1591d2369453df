"""The file of bert-base-uncased holds both heads of pretraining, under old names: each task reads its own."""

import numpy as np
import pytest
from pretrained.case import FIXTURES
from pretrained.test_hostile_files import edit_config
from pretrained.test_new_head import without
from safetensors.numpy import load_file, save_file

from keras_attn import from_pretrained

IDS = np.array([[5, 6, 7, 8], [9, 10, 0, 0]])
TABLE = "bert.embeddings.word_embeddings.weight"
DECODER = "cls.predictions.decoder.weight"


def heads():
    rng = np.random.default_rng(0)
    shapes = {"predictions.transform.dense.weight": (24, 24), "seq_relationship.weight": (2, 24)}
    shapes |= {"predictions.transform.dense.bias": (24,), "seq_relationship.bias": (2,), "predictions.bias": (53,)}
    shapes |= {f"predictions.transform.LayerNorm.{name}": (24,) for name in ("gamma", "beta")}
    return {f"cls.{name}": rng.normal(size=shape).astype("float32") for name, shape in shapes.items()}


@pytest.fixture(params=["without the tied table", "with the tied table"])
def folder(request, tmp_path):
    found = without("BertForSequenceClassification", tmp_path, "classifier", **heads())
    edit_config(architectures=["BertForMaskedLM"])(found)
    tensors = load_file(found / "model.safetensors")
    if request.param == "with the tied table":
        tensors[DECODER] = tensors[TABLE]
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    for new, name in old.items():
        tensors = {x.replace(new, name): value for x, value in tensors.items()}
    save_file(tensors, found / "model.safetensors")
    return found


def test_each_task_reads_its_own(folder):
    both = from_pretrained(folder, "pretraining")(IDS)
    tokens = from_pretrained(folder)
    np.testing.assert_allclose(tokens(IDS), both["prediction_logits"], atol=1e-6)
    follows = from_pretrained(folder, "next_sentence_prediction")
    np.testing.assert_allclose(follows(IDS), both["seq_relationship_logits"], atol=1e-6)
    vectors = from_pretrained(folder, "base")(IDS)
    np.testing.assert_array_equal(vectors, from_pretrained(FIXTURES / "BertForSequenceClassification", "base")(IDS))
    own = heads()
    pooled = np.asarray(follows.get_layer("pooler")(np.asarray(vectors)[:, 0]))
    wanted = pooled @ own["cls.seq_relationship.weight"].T + own["cls.seq_relationship.bias"]
    np.testing.assert_allclose(both["seq_relationship_logits"], wanted, atol=1e-5)
    with pytest.raises(ValueError, match=r"must hold 'classifier.weight'.*`labels`"):
        from_pretrained(folder, "token_classification")
    with pytest.warns(UserWarning, match="These weights are new"):
        from_pretrained(folder, "token_classification", labels=["a", "b", "c"])


def test_an_output_table_of_its_own_is_refused(folder):
    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, DECODER: tensors[TABLE] + 1}, folder / "model.safetensors")
    with pytest.raises(ValueError, match="'tie_word_embeddings' only as True"):
        from_pretrained(folder, "masked_lm")
    from_pretrained(folder, "base")


def test_a_head_that_is_not_there_is_named():
    with pytest.raises(ValueError, match=r"no tensor 'cls.*lacks the head of BertForMaskedLM: choose another `task`"):
        from_pretrained(FIXTURES / "BertForSequenceClassification", "masked_lm")
