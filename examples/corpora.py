"""Public data sets in the folder given by `--data`."""

import gzip
import os
import re
import tarfile
import wave
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_attn.training import Records

AG_NEWS_CLASSES = ("World", "Sports", "Business", "Sci/Tech")  # labels "1" to "4"
AG_NEWS_TEST = 1000
DIGIT_RATE = 8000  # samples per second


def add_data_argument(parser):
    """Adds the argument `--data` to those of an example."""
    folder = os.environ.get("KERAS_ATTN_DATA")
    parser.add_argument("--data", type=Path, default=folder, help="folder of data sets (default: a few built-in texts)")


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
    with gzip.open(_existing(Path(folder) / "tinyshakespeare.txt.gz"), "rt", encoding="utf-8") as file:
        text = file.read()
    end = int(len(text) * 0.9)
    return text[:end], text[end:]


def ag_news(folder, seed=0):
    """News in four classes (Zhang et al., 2015), from `ag_news_test.csv.gz`: `(training records, 1,000 others)`.

    A record is title, description and label. The seed selects the held-out records.
    """
    path = _existing(Path(folder) / "ag_news_test.csv.gz")
    records = list(Records(path, columns=(1, 2, 0)))
    order = np.random.default_rng(seed).permutation(len(records))
    chosen = [records[i] for i in order]
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
            with tarfile.open(archive) as files:
                found = [_recording(x.name, files.extractfile(x)) for x in files if x.name.endswith(".wav")]
        except (tarfile.TarError, EOFError, zlib.error) as error:
            raise ValueError(f"{archive} is damaged: {error}") from None
    for path in [] if found else sorted(Path(folder).glob("*.wav")):
        with path.open("rb") as file:
            found.append(_recording(str(path), file))
    if not found:
        raise FileNotFoundError(f"--data must be a folder with {archive.name} or .wav files. Received: {folder}")
    return sorted(found, key=lambda recording: recording[:3])


def _recording(name, file):
    parts = re.fullmatch(r"(\d)_([^_]+)_(\d+)\.wav", Path(name).name)
    if parts is None:
        raise ValueError(f"{name} must be named digit_speaker_take.wav, such as 7_jackson_32.wav")
    try:
        with wave.open(file) as sound:
            kind = sound.getframerate(), sound.getnchannels(), 8 * sound.getsampwidth()
            frames = sound.readframes(sound.getnframes())
    except (wave.Error, EOFError) as error:
        raise ValueError(f"{name} is not a WAV file: {str(error) or 'it ends early'}") from None
    if kind != (DIGIT_RATE, 1, 16):
        raise ValueError(
            f"{name} must have {DIGIT_RATE} samples per second, 1 channel and 16 bits. Received: {kind[0]} samples per "
            f"second, {kind[1]} channels and {kind[2]} bits"
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
        `Records` of pairs.
    """
    path = _existing(Path(folder) / "debian_descriptions" / f"{split}.jsonl.gz")
    return Records(path, columns=("document", "summary"))


def _existing(path):
    if not path.exists():
        raise FileNotFoundError(f"--data must be a folder with {path.name}. Received: {path.parent}")
    return path
