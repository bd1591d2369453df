"""Models leave with each tokenizer inside: strings in, strings or classes out."""

import json

import keras
import numpy as np
import pytest

from keras_attn import EncoderModel, GenerationConfig, LanguageModel, Transformer
from keras_attn.export import export
from keras_attn.export.verification import clients
from keras_attn.generation import BeamSearch
from keras_attn.text import BytePairTokenizer, SentencePieceTokenizer, Tokenizer, WordPieceTokenizer

pytest.importorskip("tokenizers", reason="it trains and encodes")
pytest.importorskip("sentencepiece", reason="it trains and encodes")

TEXTS = ["the old man and the sea", "the sea and the old ship, née Ünïcode", "a man on the ship, at sea! 日本 🙂"] * 3
SIZES = {"num_layers": 1, "hidden_dim": 12, "num_heads": 3, "intermediate_dim": 20}
FORMATS = ["saved_model", "tflite", "onnx"]


def make_model(cls, tokenizer, **kwargs):
    keras.utils.set_random_seed(5)
    model = cls(tokenizer.vocabulary_size, **SIZES, pad_id=tokenizer.pad_id, tokenizer=tokenizer, **kwargs)
    rng = np.random.default_rng(1)
    model.set_weights([w + 0.3 * rng.standard_normal(w.shape) for w in model.get_weights()])
    return model


def settings(tokenizer, **kwargs):
    return GenerationConfig(5, start_id=tokenizer.start_id, end_id=tokenizer.end_id, pad_id=tokenizer.pad_id, **kwargs)


def check(model, formats, folder, task="generate"):
    report = export(model, folder, formats, tasks=task)
    assert report.ok
    assert all(row["flex_ops"] == 0 and row["identical"] == row["total"] > 0 for row in report.rows)


def test_gpt2_generates_after_its_one_special_token(tmp_path):
    """With the tokenizer's defaults, which begin and pad with the same id."""
    tokenizer = BytePairTokenizer.train(TEXTS, 290, add_start=True)
    model = make_model(LanguageModel, tokenizer, generation_config=settings(tokenizer))
    texts = ["the sea", "", "a man on the ship"]
    together = model.generate(texts)
    assert together == [model.generate([text])[0] for text in texts]
    assert len(set(together)) == 3
    check(model, FORMATS, tmp_path)


def test_bert_classifies_text(tmp_path):
    check(
        make_model(EncoderModel, WordPieceTokenizer.train(TEXTS, 90), head="sequence_classification", num_classes=5),
        FORMATS,
        tmp_path,
        "classify",
    )


def test_word_pieces_come_out_as_words_of_several_beams(tmp_path):
    tokenizer = WordPieceTokenizer.train(TEXTS, 90)
    config = settings(tokenizer, strategy=BeamSearch(3, num_sequences=2))
    check(make_model(Transformer, tokenizer, generation_config=config), ["tflite"], tmp_path)


def test_unigrams_come_out_of_tflite(tmp_path):
    tokenizer = SentencePieceTokenizer.train(TEXTS, 45, add_start=True, add_end=True)
    check(make_model(Transformer, tokenizer, generation_config=settings(tokenizer)), ["tflite"], tmp_path)


def test_sentence_pieces_where_they_can_and_ids_elsewhere(tmp_path):
    trainer = {"byte_fallback": True, "character_coverage": 0.98}
    tokenizer = SentencePieceTokenizer.train(TEXTS, 330, "bpe", trainer=trainer, add_end=True)
    model = make_model(Transformer, tokenizer, generation_config=settings(tokenizer))
    check(model, ["saved_model", "onnx"], tmp_path)
    with pytest.raises(ValueError, match=r"that tflite supports. Received: .*Export with `tokenizer=False`"):
        export(model, tmp_path, "tflite")
    # The way out that the message names.
    assert export(model, tmp_path, "tflite", tokenizer=False).ok
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    np.savez(tmp_path / "cases.npz", **{"inputs/0/source_ids": loaded.encode(TEXTS[:3])})
    cases = {"generate": tmp_path / "cases.npz"}
    found, _, _ = clients.run("tflite", tmp_path / "model.tflite", cases, repeat=0)["generate"]
    assert loaded.decode(found["outputs/0/tokens"]) == model.generate(TEXTS[:3])


def test_a_step_model_comes_with_the_tokenizer_of_hugging_face(tmp_path):
    from tokenizers import Tokenizer as Library

    tokenizer = BytePairTokenizer.train(TEXTS, 290, add_start=True)
    model = make_model(LanguageModel, tokenizer, generation_config=settings(tokenizer))
    assert export(model, tmp_path, "onnx", tasks="step").ok
    library = Library.from_file(str(tmp_path / "step" / "tokenizer.json"))
    expected = [row[: len(row) - list(row[::-1] != tokenizer.pad_id).index(True)] for row in tokenizer.encode(TEXTS)]
    assert [found.ids for found in library.encode_batch(TEXTS)] == [row.tolist() for row in expected]
    assert library.decode(tokenizer.encode(TEXTS[:1])[0].tolist()) == TEXTS[0]
    config = json.loads((tmp_path / "step" / "tokenizer_config.json").read_text())
    assert config["bos_token"] == config["pad_token"] == "<|endoftext|>"
