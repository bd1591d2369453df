"""Public data sets in the folder given by `--data`."""

import gzip
import os
from pathlib import Path

import numpy as np

from keras_attn.training import Records

AG_NEWS_CLASSES = ("World", "Sports", "Business", "Sci/Tech")  # labels "1" to "4"
AG_NEWS_TEST = 1000


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
