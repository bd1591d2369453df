"""Generation settings of checkpoints: what `generate()` of `transformers` returns without arguments."""

import json
import shutil

import numpy as np
import pytest
from pretrained.case import FIXTURES

from keras_attn import from_pretrained

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

IDS = {"decoder_start_token_id": 2, "eos_token_id": 1, "pad_token_id": 0}
SOURCES = np.random.default_rng(1).integers(5, 53, (3, 7))
FEATURES = np.random.default_rng(2).normal(size=(6, 7, 20)).astype("float32")
WHISPER = {**IDS, "no_timestamps_token_id": 9, "lang_to_id": {"<|en|>": 5, "<|de|>": 6, "<|fr|>": 7, "<|ja|>": 8}}
WHISPER["task_to_id"] = {"transcribe": 10, "translate": 11}
SETTINGS = {
    "default": {},
    "bart": {
        "num_beams": 4,
        "max_length": 12,
        "min_length": 6,
        "length_penalty": 2.0,
        "early_stopping": True,
        "no_repeat_ngram_size": 3,
        "forced_bos_token_id": 7,
        "forced_eos_token_id": 1,
    },
    "marian": {
        "num_beams": 4,
        "max_length": 11,
        "bad_words_ids": [[0], [45], [1], [30, 31]],
        "forced_eos_token_id": 1,
        "renormalize_logits": True,
    },
    "suppressed": {"suppress_tokens": [45, 19], "begin_suppress_tokens": [12, 30], "min_new_tokens": 4},
    "suppressed-after-the-first": {"begin_suppress_tokens": [45, 19], "forced_bos_token_id": 6, "max_new_tokens": 6},
    "repeated": {
        "encoder_repetition_penalty": 1.6,
        "repetition_penalty": 1.4,
        "encoder_no_repeat_ngram_size": 2,
        "exponential_decay_length_penalty": [3, 1.4],
        "sequence_bias": [[[45], -3.0], [[19, 19], 2.0]],
    },
}
WHISPERED = {
    "english": {**IDS, "no_timestamps_token_id": 9, "begin_suppress_tokens": [3, 31], "suppress_tokens": [2, 9, 10]},
    "detected": WHISPER,
    "forced": {**WHISPER, "forced_decoder_ids": [[1, None], [2, 11]], "max_length": 15},
    "translated": {**WHISPER, "language": "de", "task": "translate", "max_new_tokens": 6},
    "language": {**WHISPER, "language": "<|ja|>", "is_multilingual": True},
}


@pytest.fixture
def folder(tmp_path):
    def copy(name, settings, file="generation_config.json"):
        shutil.copytree(FIXTURES / name, tmp_path, dirs_exist_ok=True)
        content = json.loads((tmp_path / "config.json").read_text()) if file == "config.json" else {}
        (tmp_path / "generation_config.json").unlink(missing_ok=True)
        (tmp_path / file).write_text(json.dumps({**content, **settings}))
        return tmp_path

    return copy


def theirs(folder, architecture, inputs):
    model = getattr(transformers, architecture).from_pretrained(folder, dtype=torch.float32)
    return [model.generate(torch.tensor(x)[None])[0].tolist() for x in inputs]


def until_end(row, end_id=1):
    return row[: row.index(end_id) + 1] if end_id in row else row


@pytest.mark.parametrize("name", [*SETTINGS, "config.json"])
def test_text(folder, name):
    architecture = "BartForConditionalGeneration"
    # Old folders have all settings in one file.
    settings, file = (SETTINGS["bart"], name) if name == "config.json" else (SETTINGS[name], "generation_config.json")
    path = folder(architecture, {**IDS, **settings}, file)
    found = from_pretrained(path).generate(SOURCES).tolist()
    expected = theirs(path, architecture, SOURCES)
    assert [until_end(row) for row in found] == [until_end(row[1:]) for row in expected]


@pytest.mark.parametrize("settings", WHISPERED.values(), ids=WHISPERED)
def test_speech(folder, settings):
    architecture = "WhisperForConditionalGeneration"
    path = folder(architecture, settings)
    model = from_pretrained(path)
    found = model.generate(FEATURES.transpose(0, 2, 1)).tolist()
    # Theirs returns neither the prompt nor the end.
    prompt = len(model.generation_config.processors[-1].ids)
    found = [[x for x in until_end(row)[prompt:] if x != 1] for row in found]
    assert found == [[x for x in row if x != 1] for row in theirs(path, architecture, FEATURES)]


@pytest.mark.parametrize(
    "settings",
    [
        {"num_return_sequences": 2},
        {"num_beam_groups": 2},
        {"forced_eos_token_id": 7},
        {"num_beams": 2, "do_sample": True},
        {"stop_strings": ["a"]},
        {"watermarking_config": {"bias": 2.0}},
    ],
    ids=lambda x: next(iter(x)),
)
def test_settings_that_are_refused(folder, settings):
    with pytest.raises(ValueError, match=next(iter(settings)) if len(settings) == 1 else "do_sample"):
        from_pretrained(folder("BartForConditionalGeneration", {**IDS, **settings}))


@pytest.mark.parametrize("settings", [{"num_beams": 2}, {"language": "it"}, {"return_timestamps": True}])
def test_settings_of_whisper_that_are_refused(folder, settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        from_pretrained(folder("WhisperForConditionalGeneration", {**WHISPER, **settings}))


@pytest.mark.parametrize("settings", [{"min_length": 3}, {"forced_bos_token_id": 4}])
def test_settings_that_count_the_prompt_are_refused(folder, settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        from_pretrained(folder("GPT2LMHeadModel", {"eos_token_id": 1, **settings}))
