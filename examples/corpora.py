"""Public data sets in the folder given by `--data`."""

import gzip
import io
import os
import re
import tarfile
import wave
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_attn.training import Records

AG_NEWS_CLASSES = ("World", "Sports", "Business", "Sci/Tech")  # 1 to 4 in the file
AG_NEWS_TEST = 1000
DIGIT_RATE = 8000  # samples per second
IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png")  # those that Keras reads


def add_data_argument(parser):
    """Adds the argument `--data` to those of an example."""
    folder = os.environ.get("KERAS_ATTN_DATA")
    parser.add_argument("--data", type=Path, default=folder, help="folder of data sets (default: a small built-in one)")


def multi30k(folder, split, source="en", target="de", tokenized=True):
    """Image captions and their translations (Elliott et al., 2016).

    Args:
        folder: The folder with `multi30k/`.
        split: "train", "val" or "test_2016_flickr".
        source, target: Languages, "en" or "de".
        tokenized: Whether to read `tok/`, with lowercase tokenised texts.

    Returns:
        `Records` of pairs.
    """
    folder = _existing(Path(folder) / "multi30k")
    if tokenized:
        return Records(*(folder / "tok" / f"{split}.lc.norm.tok.{language}.gz" for language in (source, target)))
    return Records(*(folder / f"{split}.{language}.gz" for language in (source, target)))


def tiny_shakespeare(folder):
    """The text of `tinyshakespeare.txt.gz`, split as in nanoGPT: `(first nine tenths, rest)`."""
    text = _unpacked(_existing(Path(folder) / "tinyshakespeare.txt.gz")).decode("utf-8")
    end = int(len(text) * 0.9)
    return text[:end], text[end:]


def ag_news(folder, seed=0):
    """News in four classes (Zhang et al., 2015), from `ag_news_test.csv.gz`: `(training records, 1,000 others)`.

    A record is title, description and the name of the class. The seed selects the held-out records.
    """
    path = _existing(Path(folder) / "ag_news_test.csv.gz")
    records = list(Records(path, columns=(1, 2, 0)))
    if len(records) <= AG_NEWS_TEST:
        raise ValueError(f"{path} must hold more than {AG_NEWS_TEST} records. Received: {len(records)}")
    names = {str(i + 1): name for i, name in enumerate(AG_NEWS_CLASSES)}
    if others := {record[-1] for record in records} - set(names):
        raise ValueError(f"{path} must hold labels from 1 to {len(AG_NEWS_CLASSES)}. Received: {sorted(others)[:3]}")
    order = np.random.default_rng(seed).permutation(len(records))
    chosen = [(*records[i][:-1], names[records[i][-1]]) for i in order]
    return chosen[AG_NEWS_TEST:], chosen[:AG_NEWS_TEST]


class Recording(NamedTuple):
    """A spoken digit; `samples` are float32 between -1 and 1."""

    digit: int
    speaker: str
    take: int
    samples: np.ndarray


def spoken_digits(folder):
    """Digits of six speakers, 50 takes each (Jackson et al., Free Spoken Digit Dataset): a list of `Recording`.

    Args:
        folder: A folder with `spoken_digits.tar.gz`, or with files `digit_speaker_take.wav`, such as your own.

    Raises:
        ValueError: If a file is not as expected; the message names it.
    """
    archive, found = Path(folder) / "spoken_digits.tar.gz", []
    if archive.exists():
        try:
            with tarfile.open(fileobj=io.BytesIO(_unpacked(archive))) as files:
                found = [_recording(x.name, files.extractfile(x)) for x in files if _is_recording(Path(x.name))]
        except tarfile.TarError as error:
            raise ValueError(f"{archive} is damaged: {error}") from None
    paths = Path(folder).iterdir() if Path(folder).is_dir() and not found else ()
    for path in sorted(filter(_is_recording, paths)):
        with path.open("rb") as file:
            found.append(_recording(str(path), file))
    if not found:
        raise FileNotFoundError(f"--data must be a folder with {archive.name} or .wav files. Received: {folder}")
    return sorted(found, key=lambda recording: recording[:3])


def _is_recording(path):
    return path.suffix.lower() == ".wav" and not path.name.startswith(".")


def _recording(name, file):
    parts = re.fullmatch(r"(\d)_([^_]+)_(\d+)\.wav", Path(name).name, re.IGNORECASE)
    if parts is None:
        raise ValueError(f"{name} must be named digit_speaker_take.wav, such as 7_jackson_32.wav")
    try:
        with wave.open(file) as sound:
            kind = sound.getframerate(), sound.getnchannels(), 8 * sound.getsampwidth()
            frames = sound.readframes(sound.getnframes())
            if len(frames) < sound.getnframes() * sound.getsampwidth() * sound.getnchannels():
                raise EOFError
    except (wave.Error, EOFError) as error:
        raise ValueError(f"{name} must be a WAV file of integers: {str(error) or 'it ends early'}") from None
    if kind != (DIGIT_RATE, 1, 16):
        raise ValueError(
            f"{name} must have {DIGIT_RATE} samples per second, 1 channel and 16 bits. Received: {kind[0]} samples per "
            f"second, {kind[1]} channel(s) and {kind[2]} bits"
        )
    if not frames:
        raise ValueError(f"{name} must hold samples. Received: an empty recording")
    samples = np.frombuffer(frames, "<i2").astype("float32") / 2**15
    return Recording(int(parts[1]), parts[2], int(parts[3]), samples)


def debian_descriptions(folder, split):
    """Descriptions of software packages, and the one-line summaries of their maintainers.

    Args:
        folder: The folder with `debian_descriptions/`.
        split: "train", "val" or "test".

    Returns:
        A list of pairs.
    """
    path = _existing(Path(folder) / "debian_descriptions" / f"{split}.jsonl.gz")
    pairs = list(Records(path, columns=("document", "summary")))
    if not pairs:
        raise ValueError(f"{path} must hold descriptions. Received: none")
    return pairs


def cifar10(folder):
    """Images of 32 x 32 pixels in ten classes (Krizhevsky, 2009), from `cifar10.zip`.

    Returns:
        `(train, test, names of the classes)`. A part is `(images, classes)`: uint8 `(B, 32, 32, 3)` and int `(B,)`.
    """
    path = _existing(Path(folder) / "cifar10.zip")
    try:
        with zipfile.ZipFile(path) as archive:
            names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))
            contents = {name: archive.read(name) for name in names}
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    places = {name: name.split("/")[-3:-1] for name in names if name.count("/") > 1}
    labels = sorted({label for _, label in places.values()})
    parts = []
    for part in ("train", "test"):
        chosen = [name for name, (split, _) in places.items() if split == part]
        if not chosen:
            raise ValueError(f"{path} must hold images {part}/<class>/<number>.jpg. Received: {names[:2]}")
        images = _images([contents[name] for name in chosen], [path / name for name in chosen])
        parts.append((images, np.array([labels.index(places[name][1]) for name in chosen])))
    return *parts, labels


def _images(contents, paths, size=(32, 32)):
    """The decoded images. In Python, asking for one image at a time would take ten times as long as decoding it."""

    def decoded(content):
        return tf.ensure_shape(tf.io.decode_image(content, channels=3, expand_animations=False), (*size, 3))

    data = tf.data.Dataset.from_tensor_slices(contents).map(decoded, num_parallel_calls=tf.data.AUTOTUNE)
    try:
        return np.concatenate(list(data.batch(1000).as_numpy_iterator()))
    except tf.errors.InvalidArgumentError:
        for content, path in zip(contents, paths, strict=True):
            _check_image(content, path, size)
        raise


def _check_image(content, path, size):
    try:
        shape = tf.io.decode_image(content, channels=3, expand_animations=False).shape
    except tf.errors.InvalidArgumentError as error:
        raise ValueError(f"{path} must be a readable image. Received: {len(content)} bytes") from error
    if shape[:2] != size:
        raise ValueError(f"{path} must be an image of {size} pixels. Received: {tuple(shape[:2])}")


def image_folder(folder, image_size, seed=0, held_out=0.2):
    """Images in a folder per class, read and resized by `keras.utils.image_dataset_from_directory`.

    Args:
        folder: The folder. All images are held in memory, `3 * image_size**2` bytes each.
        image_size: Height and width of the results; the longer side is cropped.
        seed: Selects the held-out images.
        held_out: Share of the held-out images of each class, at least one.

    Returns:
        As `cifar10`.

    Raises:
        ValueError: If a class has fewer than two images, or a file is no image that Keras can read. The message names
            it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"--folder must be a folder. Received: {folder}")
    classes = sorted(path for path in folder.glob("*/") if not path.name.startswith("."))
    if len(classes) < 2:
        raise ValueError(f"--folder must hold a folder per class, two or more. Received: {len(classes)} in {folder}")
    for path in classes:
        files = [file for file in path.rglob("*") if file.is_file() and not file.name.startswith(".")]
        if len(files) < 2:
            raise ValueError(
                f"{path} must hold two or more images of the class {path.name!r}, one of them for the test. "
                f"Received: {len(files)}"
            )
        if other := [file for file in files if file.suffix.lower() not in IMAGE_SUFFIXES]:
            raise ValueError(f"{other[0]} must be an image, {', '.join(IMAGE_SUFFIXES)}; convert or move it.")
    data = keras.utils.image_dataset_from_directory(
        folder,
        batch_size=None,
        image_size=(image_size, image_size),
        shuffle=False,
        crop_to_aspect_ratio=True,
        verbose=False,
    )
    images, numbers = [], []
    try:
        for image, number in data.as_numpy_iterator():
            images.append(np.rint(image).astype("uint8"))
            numbers.append(number)
    except tf.errors.InvalidArgumentError as error:
        raise ValueError(f"{data.file_paths[len(images)]} must be a readable image; replace or remove it.") from error
    images, numbers = np.stack(images), np.array(numbers)
    generator, train, test = np.random.default_rng(seed), [], []
    for number in range(len(data.class_names)):
        order = generator.permutation(np.flatnonzero(numbers == number))
        end = max(1, int(held_out * len(order)))
        test.extend(order[:end])
        train.extend(order[end:])
    return (images[train], numbers[train]), (images[test], numbers[test]), data.class_names


def _unpacked(path):
    """The content of a gzip file, with its checksum verified."""
    try:
        with gzip.open(path) as file:
            return file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is damaged: {error}") from None


def _existing(path):
    if not path.exists():
        raise FileNotFoundError(f"--data must be a folder with {path.name}. Received: {path.parent}")
    return path
