"""An artefact that is no longer what was exported is found and named."""

import numpy as np
import pytest

from keras_attn.export import export, precisions, verify
from keras_attn.export.folder import manifest
from keras_attn.export.verification import comparison, verification


def rewrite_digests(folder):
    """Makes the manifest agree with the files, so that only running the artefact can tell."""
    entries = manifest.read(folder)
    for entry in entries:
        entry["files"] = {name: manifest.sha256(folder / name) for name in entry["files"]}
    manifest.write(folder, entries)


def flip_byte(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 0xFF
    path.write_bytes(content)


def weight_position(folder, classifier):
    kernel = np.ascontiguousarray(classifier.layers[-1].kernel.numpy().T)
    return (folder / "model.tflite").read_bytes().index(kernel.tobytes())


def test_untouched(tflite_folder):
    report = verify(tflite_folder)
    assert report.ok
    assert report.rows[0]["identical"] == report.rows[0]["total"]


def test_one_byte_of_the_weights(tflite_folder, classifier):
    flip_byte(tflite_folder / "model.tflite", weight_position(tflite_folder, classifier) + 3)
    report = verify(tflite_folder)
    assert not report.ok
    assert "model.tflite has changed" in report.failures[0]

    rewrite_digests(tflite_folder)
    report = verify(tflite_folder)
    assert "model.tflite (tflite, forward): logits of case 0" in report.failures[0]


@pytest.mark.parametrize("name", ["model.tflite", "verification/forward.npz"])
def test_a_missing_or_truncated_file(name, tflite_folder):
    content = (tflite_folder / name).read_bytes()
    (tflite_folder / name).write_bytes(content[:-7])
    assert f"{name} has changed" in verify(tflite_folder).failures[0]
    (tflite_folder / name).unlink()
    report = verify(tflite_folder)
    assert f"{name} is missing" in report.failures[0]
    assert report.rows[0]["ms"] is None


def test_a_file_of_a_saved_model(classifier, tmp_path):
    folder = tmp_path / "out"
    export(classifier, folder, "saved_model", tasks="forward")
    name = "saved_model/variables/variables.data-00000-of-00001"
    flip_byte(folder / name, 100)
    [message] = verify(folder).failures
    assert f"{name} has changed" in message


def test_stored_answers_that_differ(tflite_folder):
    path = tflite_folder / "verification" / "forward.npz"
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files}
    arrays["outputs/1/logits"] = arrays["outputs/1/logits"] + 1
    arrays["outputs/2/probabilities"] = arrays["outputs/2/logits"]
    np.savez(path, **arrays)
    rewrite_digests(tflite_folder)
    [message] = verify(tflite_folder).failures
    assert "logits of case 1 differs by 1" in message
    assert "probabilities of case 2 is missing" in message


def test_an_artefact_that_does_not_run(classifier, tmp_path):
    folder = tmp_path / "out"
    export(classifier, folder, "onnx", tasks="forward")
    (folder / "forward.onnx").write_bytes(b"no model")
    rewrite_digests(folder)
    [message] = verify(folder).failures
    assert "forward.onnx (onnx, forward): does not run" in message
    assert "InvalidProtobuf" in message


@pytest.mark.parametrize("content", [None, "{", "[]", '{"artefacts": [{}]}'])
def test_no_manifest(content, tflite_folder):
    (tflite_folder / "manifest.json").unlink()
    if content is not None:
        (tflite_folder / "manifest.json").write_text(content)
    with pytest.raises(ValueError, match=r"manifest\.json"):
        verify(tflite_folder)


def test_large_numbers_may_round():
    limits, large = precisions.TABLE["float32"], np.array([-300.0, 1.0], "float32")
    assert comparison.difference(large, large + np.float32(3e-4), limits)[0] is None
    assert comparison.difference(large, large + np.float32(5e-4), limits)[0] == "differs by 5.0e-04"
    assert comparison.difference(large[1:], large[1:] + np.float32(3e-4), limits)[0] == "differs by 3.0e-04"


def test_what_is_no_number_is_no_agreement():
    values, bad = np.array([1.0, 2.0]), np.array([1.0, np.nan])
    assert comparison.cosine(values, values) == pytest.approx(1)
    assert comparison.cosine(values, bad) == comparison.cosine(values, np.array([1.0, np.inf])) == -1


@pytest.mark.parametrize(("labels", "accuracy"), [([1, 0], 0.5), ([-1, -1], None)])
def test_no_known_answer_is_no_accuracy(labels, accuracy):
    """NaN would be within any limit: without answers, it is the agreement with the model that may not drop."""
    entry = {"task": "forward", "precision": "int8", "max_accuracy_drop": 0.1}
    arrays = {"inputs/0/x": np.zeros((2, 1)), "references/0": np.array(labels)}
    expected, actual = np.array([[0.0, 1.0], [1.0, 0.9]]), np.array([[0.0, 1.0], [0.9, 1.0]])
    row = dict.fromkeys(("accuracy", "model_accuracy", "token_agreement")) | {"identical": 0, "total": 0}
    problems = verification._differences(entry, row, arrays | {"outputs/0/y": expected}, {"outputs/0/y": actual})
    assert row["accuracy"] == accuracy
    assert any("loses 50.00%" in problem for problem in problems)


def cases_of(folder):
    files = {f"verification/{path.name}" for path in (folder / "verification").iterdir()}
    cases = {entry["path"]: entry["cases"] for entry in manifest.read(folder)}
    assert files == {*cases.values()}
    return cases


def test_exports_of_other_inputs_to_one_folder(classifier, tmp_path):
    def exported(precision, **arguments):
        assert export(classifier, tmp_path, "tflite", tasks="forward", precision=precision, **arguments).ok

    shared, own = "verification/forward.npz", "verification/forward.model.tflite.npz"
    exported("float32", shapes={"batch": 1, "features_length": 7})
    for _ in range(2):
        # No case of the second fits into the first.
        exported("float16")
        assert cases_of(tmp_path) == {"model.tflite": own, "model.float16.tflite": shared}
        assert verify(tmp_path).ok
    exported("float32")
    assert set(cases_of(tmp_path).values()) == {shared}
    exported("float32", shapes={"batch": 2})
    assert cases_of(tmp_path)["model.float16.tflite"] == "verification/forward.model.float16.tflite.npz"
    # Of like inputs, the newest cases are for all: an artefact of older weights is found.
    classifier.layers[-1].kernel.assign(-classifier.layers[-1].kernel)
    exported("float32")
    assert set(cases_of(tmp_path).values()) == {shared}
    [failure] = verify(tmp_path).failures
    assert "model.float16.tflite (tflite, forward): logits" in failure


def test_a_folder_of_an_older_version(classifier, tflite_folder):
    entries = manifest.read(tflite_folder)
    del entries[0]["inputs"]
    manifest.write(tflite_folder, entries)
    assert verify(tflite_folder).ok
    export(classifier, tflite_folder, "tflite", tasks="forward", precision="float16")
    assert verify(tflite_folder).ok
