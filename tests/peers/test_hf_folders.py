"""The same ids as the tokenizers library for each known family, and folders that transformers reads."""

import json

import pytest

from benchmarks import tokenizer_kinds
from benchmarks.pretrained_tokenizers import compared
from keras_attn.text import tokenizer_from_folder

transformers = pytest.importorskip("transformers", reason="needs transformers: make peers")
pytest.importorskip("sentencepiece", reason="its rules of characters")


@pytest.fixture(scope="module")
def texts():
    return tokenizer_kinds.corpus()


@pytest.mark.parametrize("kind", tokenizer_kinds.KINDS)
def test_ids_and_written_folders(kind, texts, tmp_path):
    lines = tokenizer_kinds.lines(2000)
    source, target = tmp_path / "source", tmp_path / "target"
    for folder in (source, target):
        folder.mkdir()
    (source / "tokenizer.json").write_text(tokenizer_kinds.made(kind, texts), encoding="utf-8")
    different, parsed, _, formats = compared(source, lines, graph=False)
    assert (different, parsed) == (0, 0)
    assert formats == ("SavedModel, TFLite" if kind == "CLIP" else "SavedModel, TFLite, ONNX")
    ours = tokenizer_from_folder(source, split_special_tokens=False, max_length=64)
    for name, content in ours.hugging_face_files().items():
        (target / name).write_text(content, encoding="utf-8")
    theirs = transformers.AutoTokenizer.from_pretrained(target)
    expected = theirs(lines, truncation=True)["input_ids"]
    assert [row[: len(ids)] for row, ids in zip(ours.encode(lines).tolist(), expected, strict=True)] == expected
    assert theirs.model_max_length == 64
    assert theirs.pad_token_id in (ours.pad_id, None)
    pairs = theirs(lines[:40], lines[40:80], truncation="longest_first", max_length=30)
    ids, segments = ours.encode_pairs(lines[:40], lines[40:80], length=30)
    for row, types, expected, kinds in zip(
        ids, segments, pairs["input_ids"], pairs.get("token_type_ids", segments), strict=True
    ):
        assert row[: len(expected)].tolist() == expected
        assert "token_type_ids" not in pairs or types[: len(expected)].tolist() == kinds


def test_chat_templates(tmp_path, texts):
    (tmp_path / "tokenizer.json").write_text(tokenizer_kinds.made("Qwen2", texts), encoding="utf-8")
    template = (
        "{%- for message in messages %}\n    {%- if loop.first and message.role != 'system' %}\n"
        "        {{- '<|endoftext|>system' }}\n    {%- endif %}\n    {{ message.role }}: {{ message.content | trim }}\n"
        "    {%- if tools %}{{ tools | tojson }}{% endif %}\n    {% generation %}!{% endgeneration %}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}{{ eos_token }}"
    )
    config = {"chat_template": template, "eos_token": "<|endoftext|>", "tokenizer_class": "PreTrainedTokenizerFast"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    ours, theirs = tokenizer_from_folder(tmp_path), transformers.AutoTokenizer.from_pretrained(tmp_path)
    messages = [{"role": "user", "content": " Grüße <b> "}, {"role": "assistant", "content": "é\u2028"}]
    for settings in ({}, {"add_generation_prompt": True}, {"tools": [{"name": "größe", "type": "<x>"}]}):
        text = theirs.apply_chat_template(messages, tokenize=False, **settings)
        assert ours.apply_chat_template(messages, tokenize=False, **settings) == text
        ids = theirs.apply_chat_template(messages, tokenize=True, return_dict=False, **settings)
        assert ours.apply_chat_template(messages, **settings) == ids
