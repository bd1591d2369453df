"""Images are read with their classes, and a bad one is named before anything is trained."""

import importlib
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf


@pytest.fixture
def corpora(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[2] / "examples"), *sys.path])
    return importlib.import_module("corpora")


def picture(value, height=32, width=32):
    return np.full((height, width, 3), value, "uint8")


def write_zip(folder, **others):
    """`cifar10.zip` with one image for each part and class, some of which are replaced."""
    with zipfile.ZipFile(folder / "cifar10.zip", "w") as archive:
        for number, (part, label) in enumerate((p, x) for p in ("train", "test") for x in ("cat", "dog")):
            content = others.get(f"{part}_{label}", tf.io.encode_jpeg(picture(50 * number)).numpy())
            archive.writestr(f"cifar10/{part}/{label}/0001.jpg", content)


def write_folder(folder, sizes=((32, 32), (20, 40))):
    for number, label in enumerate(("cat", "dog")):
        (folder / label).mkdir(parents=True)
        for i, size in enumerate(sizes):
            content = tf.io.encode_png(picture(100 * number, *size)).numpy()
            (folder / label / f"{i}.png").write_bytes(content)
    (folder / "cat" / ".DS_Store").write_bytes(b"hidden")
    return folder


def test_cifar10(corpora, tmp_path):
    write_zip(tmp_path)
    (images, classes), test, labels = corpora.cifar10(tmp_path)
    assert labels == ["cat", "dog"]
    assert classes.tolist() == test[1].tolist() == [0, 1]
    assert images.shape == (2, 32, 32, 3)
    assert images.dtype == "uint8"
    assert np.abs(test[0].mean(axis=(1, 2, 3)) - [100, 150]).max() < 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xd8 not an image", r"cifar10\.zip/cifar10/test/cat/0001\.jpg must be a readable image"),
        (tf.io.encode_jpeg(picture(0, 16)).numpy(), r"test/cat/0001\.jpg must be .* \(32, 32\) pixels.*\(16, 32\)"),
    ],
    ids=["unreadable", "size"],
)
def test_a_bad_image_of_cifar10_is_named(corpora, tmp_path, content, message):
    write_zip(tmp_path, test_cat=content)
    with pytest.raises(ValueError, match=message):
        corpora.cifar10(tmp_path)


def test_a_folder_of_any_sizes(corpora, tmp_path):
    train, test, labels = corpora.image_folder(write_folder(tmp_path), 8, held_out=0.25)
    assert labels == ["cat", "dog"]
    assert train[0].shape == test[0].shape == (2, 8, 8, 3)
    for images, classes in (train, test):
        np.testing.assert_array_equal(images, np.broadcast_to(100 * classes[:, None, None, None], images.shape))


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        ("dog/7.png", b"not an image", r"dog/7\.png must be a readable image"),
        ("dog/notes.txt", b"text", r"dog/notes\.txt must be an image, \.bmp"),
        ("fish/", None, r"fish must hold two or more images of the class 'fish'.*Received: 0"),
        ("fish/1.png", b"", r"fish must hold two or more images of the class 'fish'.*Received: 1"),
    ],
    ids=["unreadable", "text", "empty", "one"],
)
def test_a_bad_file_of_a_folder_is_named(corpora, tmp_path, path, content, message):
    write_folder(tmp_path)
    if content is None:
        (tmp_path / path).mkdir()
    else:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        corpora.image_folder(tmp_path, 8)


def test_a_folder_without_classes(corpora, tmp_path):
    with pytest.raises(ValueError, match=r"--folder must be a folder\. Received: .*missing"):
        corpora.image_folder(tmp_path / "missing", 8)
    with pytest.raises(ValueError, match=r"--folder must hold a folder per class, two or more\. Received: 0"):
        corpora.image_folder(tmp_path, 8)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no archive", r"cifar10\.zip is damaged"),
        (b"PK\5\6" + bytes(18), r"cifar10\.zip must hold images train/<class>/<number>\.jpg. Received: \[\]"),
    ],
)
def test_a_bad_archive_is_named(corpora, tmp_path, content, message):
    (tmp_path / "cifar10.zip").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        corpora.cifar10(tmp_path)


def test_images_in_no_folder_of_a_class(corpora, tmp_path):
    write_zip(tmp_path)
    with zipfile.ZipFile(tmp_path / "cifar10.zip", "a") as archive:
        archive.writestr("0001.jpg", tf.io.encode_jpeg(picture(9)).numpy())
        archive.writestr("test/0002.jpg", tf.io.encode_jpeg(picture(9)).numpy())
    (images, _), _, labels = corpora.cifar10(tmp_path)
    assert labels == ["cat", "dog"]
    assert len(images) == 2
