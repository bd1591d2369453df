"""Folders with a SentencePiece model alone: the ids of each class of tokenizer follow from those of SentencePiece."""

import json

import numpy as np
import pytest

from keras_attn.text import SentencePieceTokenizer, tokenizer_from_folder
from keras_attn.text.pretrained.components import UnsupportedTokenizerError

sentencepiece = pytest.importorskip("sentencepiece", reason="it is the reference")
pytest.importorskip("tokenizers", reason="it encodes")

LINES = ["the old man and the sea", "a new ship on the old sea", "Two men, one ship.", "sea and land", "The ship's man"]
GERMAN = ["der alte Mann und das Meer", "ein neues Schiff auf dem Meer", "Zwei Männer, ein Schiff.", "Meer und Land"]
FILES = {"t5": "spiece.model", "pegasus": "spiece.model", "siglip": "spiece.model", "marian": "source.spm"}


# The ids of SentencePiece unless a class has others.
IDS = {"unk_id": 0, "bos_id": 1, "eos_id": 2, "pad_id": -1}


def trained(lines, **ids):
    return SentencePieceTokenizer.train(lines * 3, 60, trainer=IDS | ids).model


def write(folder, model, name, config=None, vocabulary=None):
    """Writes a folder, and returns its tokenizer and the processor of the model."""
    folder.mkdir(exist_ok=True)
    (folder / FILES.get(name, "sentencepiece.bpe.model")).write_bytes(model)
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": f"{name}Tokenizer", **(config or {})}))
    if vocabulary is not None:
        content = {piece: i for i, piece in enumerate(vocabulary)}
        (folder / "vocab.json").write_text(json.dumps(content), encoding="utf-8")
    return tokenizer_from_folder(folder), sentencepiece.SentencePieceProcessor(model_proto=model)


def encoded(tokenizer, line):
    return [*tokenizer.prefix, *tokenizer.tokenize([line])[0], *tokenizer.suffix]


# Prefix and suffix as pieces, and what is added to the ids of SentencePiece.
CLASSES = {
    "camembert": ((), ("</s>",), 4),
    "mbart": ((), ("</s>", "en_XX"), 1),
    "mbart50": (("en_XX",), ("</s>",), 1),
    "pegasus": ((), ("</s>",), 103),
}


@pytest.mark.parametrize("name", CLASSES)
def test_ids(name, tmp_path):
    ids = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1} if name == "pegasus" else {}
    tokenizer, processor = write(tmp_path, trained(LINES, **ids), name)
    prefix, suffix, offset = CLASSES[name]
    prefix, suffix = ([tokenizer.vocabulary.index(piece) for piece in pieces] for pieces in (prefix, suffix))
    if name == "camembert":
        prefix = [tokenizer.start_id]
    for line in LINES:
        wanted = [i + offset for i in processor.encode(line)]
        assert encoded(tokenizer, line) == [*prefix, *wanted, *suffix]
        assert tokenizer.decode(np.array([encoded(tokenizer, line)])) == [line]
    assert tokenizer.tokenize(["ж"])[0][-1] == tokenizer.unknown_id == (105 if name == "pegasus" else 3)


@pytest.mark.parametrize(("language", "code"), [("de_DE", "de_DE"), (None, "en_XX")])
def test_the_language_of_the_source(language, code, tmp_path):
    tokenizer, _ = write(tmp_path, trained(LINES), "mbart50", {"src_lang": language})
    assert [tokenizer.vocabulary[i] for i in tokenizer.prefix] == [code]
    # The first language follows the pieces, and the mask follows the last one.
    assert tokenizer.vocabulary[-53:][0] == "ar_AR"
    assert tokenizer.vocabulary[-1] == "<mask>"


def test_punctuation_is_no_text_for_siglip(tmp_path):
    model = trained(LINES, pad_id=-1, eos_id=1, unk_id=2, bos_id=0)
    tokenizer, processor = write(tmp_path, model, "siglip", {"do_lower_case": True, "pad_token": "</s>"})
    assert encoded(tokenizer, "The ship's man!  [sea]-_") == [*processor.encode("the ships man sea"), tokenizer.end_id]
    assert tokenizer.pad_id == tokenizer.end_id


@pytest.fixture
def marian(tmp_path):
    """Marian's folder, in which the pieces of two languages share their ids."""
    ids = {"eos_id": 0, "unk_id": 1, "bos_id": -1, "pad_id": -1}
    source, target = trained(LINES, **ids), trained(GERMAN, **ids)
    processors = [sentencepiece.SentencePieceProcessor(model_proto=x) for x in (target, source)]
    pieces = [piece for x in processors for piece in x.id_to_piece(list(range(2, len(x))))]
    vocabulary = list(dict.fromkeys(["</s>", "<unk>", *pieces, ">>deu<<", "<pad>"]))
    return *write(tmp_path, source, "marian", vocabulary=vocabulary), vocabulary, target


def test_pieces_of_two_languages(marian, tmp_path):
    tokenizer, processor, vocabulary, target = marian
    assert tokenizer.vocabulary == vocabulary
    for line in LINES:
        assert encoded(tokenizer, line) == [*map(vocabulary.index, processor.encode(line, out_type=str)), 0]
    # A text has no pieces of the other language alone, and starts with the name of a language if there are several.
    assert tokenizer.tokenize(["ä"])[0][-1] == tokenizer.unknown_id
    assert tokenizer.tokenize([">>deu<< the sea"])[0][0] == vocabulary.index(">>deu<<")
    german = sentencepiece.SentencePieceProcessor(model_proto=target)
    ids = [vocabulary.index(piece) for piece in german.encode(GERMAN[2], out_type=str)]
    assert tokenizer.decode(np.array([ids])) == [GERMAN[2]]
    assert (tokenizer.end_id, tokenizer.pad_id) == (0, len(vocabulary) - 1)
    (tmp_path / "written").mkdir()
    for name, content in tokenizer.hugging_face_files().items():
        (tmp_path / "written" / name).write_text(content, encoding="utf-8")
    assert tokenizer_from_folder(tmp_path / "written") == tokenizer


def test_languages_follow_the_vocabulary(tmp_path):
    model = trained(LINES, bos_id=0, pad_id=1, eos_id=2, unk_id=3)
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    pieces = processor.id_to_piece(list(range(4, len(processor))))
    vocabulary = ["<s>", "<pad>", "</s>", "<unk>", *reversed(pieces)]
    tokenizer, _ = write(tmp_path, model, "m2m100", vocabulary=vocabulary)
    first = len(vocabulary) + 18
    assert tokenizer.vocabulary[first] == "__en__"
    for line in LINES:
        assert encoded(tokenizer, line) == [first, *map(vocabulary.index, processor.encode(line, out_type=str)), 2]


def test_what_is_refused(tmp_path):
    with pytest.raises(UnsupportedTokenizerError, match="magic"):
        write(tmp_path / "magic", trained(LINES), "magic")
    for name, content in (("none", None), ("list", []), ("holes", {"</s>": 0, "a": 7})):
        folder = tmp_path / name
        folder.mkdir()
        if content is not None:
            (folder / "vocab.json").write_text(json.dumps(content))
        with pytest.raises(ValueError, match=r"vocab\.json"):
            write(folder, trained(LINES), "marian")
