"""A new classifier on a checkpoint without one, or with one of other classes."""

import json
import shutil

import numpy as np
import pytest
from pretrained.case import FIXTURES
from safetensors.numpy import load_file, save_file

from keras_attn import from_pretrained

LABELS = ["world", "sports", "business", "science"]
IDS = np.array([[5, 6, 7, 8], [9, 10, 0, 0]])


def without(folder, tmp_path, *prefixes, **extra):
    """A copy of a fixture without some tensors, and with others."""
    target = tmp_path / "base"
    shutil.copytree(FIXTURES / folder, target)
    tensors = load_file(target / "model.safetensors")
    tensors = {name: value for name, value in tensors.items() if not name.startswith(prefixes)} | extra
    save_file(tensors, target / "model.safetensors")
    return target


def new_model(folder, labels=LABELS):
    with pytest.warns(UserWarning, match="These weights are new.*must be trained") as caught:
        model = from_pretrained(folder, "sequence_classification", labels=labels)
    (message,) = (str(x.message) for x in caught if "are new" in str(x.message))
    return model, message.partition("trained: ")[2]


@pytest.mark.parametrize(
    ("folder", "classifier"),
    [
        ("BertForSequenceClassification", "classifier"),
        ("RobertaForSequenceClassification", "classifier.out_proj"),
        ("ModernBertForSequenceClassification", "classifier"),
        ("GPT2LMHeadModel", "score"),
        ("BartForSequenceClassification", "classification_head.out_proj"),
    ],
)
def test_other_classes(folder, classifier, tmp_path):
    model, new = new_model(FIXTURES / folder)
    assert set(json.loads(new.replace("'", '"'))) <= {f"{classifier}.weight", f"{classifier}.bias"}
    assert model.labels == LABELS
    logits = np.asarray(model(IDS))
    assert logits.shape == (2, 4)
    assert np.std(logits) > 0
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert list(config["id2label"].values()) == LABELS
    again = from_pretrained(tmp_path, labels=LABELS)
    assert again.labels == LABELS
    np.testing.assert_allclose(again(IDS), logits, atol=1e-6)


def test_a_masked_language_model_as_classifier(tmp_path):
    extra = {"cls.predictions.bias": np.zeros(53, "float32"), "cls.seq_relationship.bias": np.zeros(2, "float32")}
    folder = without("BertForSequenceClassification", tmp_path, "classifier", "bert.pooler", **extra)
    with pytest.raises(ValueError, match=r"must hold 'classifier.weight'.*`labels` for a new classifier"):
        from_pretrained(folder, "sequence_classification")
    model, new = new_model(folder)
    assert "pooler.dense.weight" in new
    layer = model.get_layer("pooler")
    assert np.std(layer.kernel) > 0
    assert not np.any(layer.bias)


def test_the_classifier_of_the_same_classes_is_kept(recwarn):
    folder = FIXTURES / "BertForSequenceClassification"
    own = from_pretrained(folder)
    labels = [f"class {i}" for i in range(own.output_shape[-1])]
    model = from_pretrained(folder, labels=labels)
    assert model.labels == labels
    assert not [x for x in recwarn if "are new" in str(x.message)]
    np.testing.assert_array_equal(model(IDS), own(IDS))


def test_other_faults_are_still_found(tmp_path):
    folder = without("BertForSequenceClassification", tmp_path, "bert.encoder.layer.1", "classifier.bias")
    with pytest.raises(ValueError, match=r"no tensor 'classifier.bias'; no tensor 'encoder.layer.1"):
        from_pretrained(folder, labels=["a", "b", "c"])
    with pytest.raises(ValueError, match="`labels` must be None for task='base'"):
        from_pretrained(folder, "base", labels=LABELS)
    with pytest.raises(ValueError, match="`labels` must be unique"):
        from_pretrained(folder, labels=["a", "a"])
