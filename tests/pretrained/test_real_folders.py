"""Folders as they are on the Hub: the settings, names of tensors and files of releases from 2018 on.

Each is a fixture with such a config and such tensors, and computes what the fixture does.
"""

import dataclasses
import json
import re
import shutil
from collections.abc import Mapping, Sequence

import keras
import numpy as np
import pytest
from pretrained import ours
from pretrained.case import FIXTURES, all_cases
from safetensors.numpy import load_file, save_file

from keras_attn import from_pretrained

CASES = {case.name: case for case in all_cases() if case.fixture}


@dataclasses.dataclass(frozen=True)
class Folder:
    """A fixture, and how a folder differs from it.

    Args:
        fixture: Its name.
        config: Entries of `config.json` that differ; those that are `...` are missing.
        renamed: Pairs of a regular expression for names of tensors and its replacement.
        added: Dict from the name of a further tensor to its values, or to the name of a tensor that it repeats.
        removed: Names of tensors that are missing.
        task: The task.
    """

    fixture: str
    config: Mapping = dataclasses.field(default_factory=dict)
    renamed: Sequence = ()
    added: Mapping = dataclasses.field(default_factory=dict)
    removed: Sequence = ()
    task: str | None = None

    def write(self, path):
        """Writes the folder."""
        source = FIXTURES / self.fixture
        shutil.copytree(source, path, dirs_exist_ok=True)
        entries = json.loads((source / "config.json").read_text()) | self.config
        entries = {name: value for name, value in entries.items() if value is not ...}
        (path / "config.json").write_text(json.dumps(entries))
        tensors = load_file(source / "model.safetensors")
        for name, value in self.added.items():
            tensors[name] = tensors[value].copy() if isinstance(value, str) else value
        for pattern, name in self.renamed:
            tensors = {re.sub(pattern, name, x): value for x, value in tensors.items()}
        save_file({x: value for x, value in tensors.items() if x not in self.removed}, path / "model.safetensors")
        return path


def zeros(*shape):
    return np.zeros(shape, "float32")


OF_GENERATION = {"max_length": 20, "num_beams": 1, "do_sample": False, "no_repeat_ngram_size": 0, "temperature": 1.0}
MASKING = {f"mask_channel_{x}": 0.0 for x in ("length", "min_space", "other", "prob")}
FOLDERS = {
    "leftovers": Folder(
        "BertForSequenceClassification",
        {
            "_num_labels": 3,
            "directionality": "bidi",
            "pooler_fc_size": 768,
            "pooler_type": "first_token_transform",
            "output_past": True,
            "gradient_checkpointing": False,
            "torchscript": False,
            "finetuning_task": "sst-2",
            "replacing_rate": 0,
            "student_encoder_layers": None,
            "cell": {},
            "structure": [],
            "training": "",
            "_attn_implementation_autoset": True,
            **OF_GENERATION,
        },
    ),
    "CLIP's parts": Folder(
        "CLIPModel", {"text_config_dict": {"tie_word_embeddings": True, "bos_token_id": None, **OF_GENERATION}}
    ),
    "GPT-NeoX 20B": Folder("GPTNeoXForCausalLM", {"attention_probs_dropout_prob": 0, "hidden_dropout_prob": 0}),
    "GPT-2 of 2019": Folder("GPT2LMHeadModel", {"n_special": 0, "predict_special_tokens": True, "n_ctx": 1024}),
    "ELECTRA's generator": Folder("ElectraForSequenceClassification", {"generator_size": "0.25"}),
    "Wav2Vec2 of 2021": Folder(
        "Wav2Vec2ForCTC",
        {
            **MASKING,
            "mask_channel_selection": "static",
            "no_mask_time_overlap": False,
            "freeze_feat_extract_train": True,
            "hidden_dropout_prob": 0.1,
        },
    ),
    "tensors of 2018": Folder(
        "BertForSequenceClassification",
        renamed=[(r"LayerNorm\.weight$", "LayerNorm.gamma"), (r"LayerNorm\.bias$", "LayerNorm.beta")],
        added={"bert.embeddings.position_ids": np.arange(40)[None]},
    ),
    "heads of pretraining": Folder(
        "BertForSequenceClassification",
        added={
            "cls.seq_relationship.weight": zeros(2, 24),
            "cls.seq_relationship.bias": zeros(2),
            "cls.predictions.bias": zeros(53),
            "cls.predictions.decoder.weight": zeros(53, 24),
            "cls.predictions.decoder.bias": zeros(53),
            "cls.predictions.transform.dense.weight": zeros(24, 24),
        },
    ),
    "ELECTRA's discriminator": Folder(
        "ElectraForSequenceClassification", added={"discriminator_predictions.dense.weight": zeros(24, 24)}
    ),
    "DeBERTa v3": Folder(
        "DebertaV2ForSequenceClassification",
        {"pos_att_type": "p2c|c2p", "legacy": ...},
        added={
            "deberta.embeddings.position_embeddings.weight": zeros(40, 24),
            "mask_predictions.classifier.weight": zeros(1, 24),
            "lm_predictions.lm_head.bias": zeros(53),
        },
    ),
    "BART's table under another name": Folder(
        "BartForConditionalGeneration", renamed=[(r"model\.shared\.", "model.decoder.embed_tokens.")]
    ),
    "BART's table under all names": Folder(
        "BartForConditionalGeneration",
        added={
            "lm_head.weight": "model.shared.weight",
            "model.encoder.embed_tokens.weight": "model.shared.weight",
            "model.decoder.embed_tokens.weight": "model.shared.weight",
            "model.encoder.version": zeros(1),
        },
    ),
    "T5's table under another name": Folder(
        "T5ForConditionalGeneration", renamed=[(r"^shared\.", "encoder.embed_tokens.")]
    ),
    "GPT-2's table under another name": Folder("GPT2LMHeadModel", renamed=[(r"transformer\.wte", "lm_head")]),
    "Marian's table under another name": Folder(
        "MarianMTModel",
        renamed=[(r"model\.shared\.", "model.decoder.embed_tokens.")],
        added={"model.encoder.embed_positions.weight": zeros(40, 24)},
    ),
    "Wav2Vec2's pretraining": Folder(
        "Wav2Vec2ForCTC",
        renamed=[
            (r"parametrizations\.weight\.original0", "weight_g"),
            (r"parametrizations\.weight\.original1", "weight_v"),
        ],
        added={
            "quantizer.codevectors": zeros(1, 4, 2),
            "project_hid.bias": zeros(4),
            "wav2vec2.masked_spec_embed": zeros(24),
        },
    ),
}


@pytest.mark.parametrize("folder", FOLDERS.values(), ids=FOLDERS)
def test_outputs(folder, tmp_path):
    model, case = from_pretrained(folder.write(tmp_path), folder.task), CASES[folder.fixture]
    stored = load_file(FIXTURES / folder.fixture / "expected.safetensors")
    inputs = {name.partition("/")[2]: x for name, x in stored.items() if name.startswith("input/")}
    found = model(case.to_ours(inputs), training=False)
    for name, wanted in ((x.partition("/")[2], y) for x, y in stored.items() if x.startswith("output/")):
        values = found[name] if isinstance(found, dict) else found
        assert ours.difference(ours.real(values, inputs), ours.real(wanted, inputs)) <= 1e-5


@pytest.mark.parametrize(
    ("fixture", "architectures", "task"),
    [
        ("BertForSequenceClassification", ..., "base"),
        ("BertForSequenceClassification", None, "base"),
        ("T5ForConditionalGeneration", ["T5WithLMHeadModel"], "seq2seq_lm"),
        ("LlamaForCausalLM", ["LLaMAForCausalLM"], "causal_lm"),
    ],
)
def test_the_task_follows_from_the_class(fixture, architectures, task, tmp_path):
    folder = Folder(fixture, {"architectures": architectures}).write(tmp_path)
    assert from_pretrained(folder).checkpoint.task == task


def test_an_unknown_class_needs_a_task(tmp_path):
    folder = Folder("BertForSequenceClassification", {"architectures": ["BertForMagic"]}).write(tmp_path)
    with pytest.raises(ValueError, match="BertForMagic"):
        from_pretrained(folder)
    assert from_pretrained(folder, "sequence_classification").checkpoint.task == "sequence_classification"


def test_generation_settings_of_early_configs(tmp_path):
    entries = {"bos_token_id": 3, "eos_token_id": 1, "forced_eos_token_id": 1, "max_length": 7}
    entries["force_bos_token_to_be_generated"] = True
    folder = Folder("BartForConditionalGeneration", entries).write(tmp_path)
    (folder / "generation_config.json").unlink()
    model = from_pretrained(folder)
    rows = np.asarray(model.generate(np.array([[5, 6, 7], [8, 9, 10]])))
    # Six tokens follow the start: the first is forced, and the last is the end.
    assert rows.shape[1] <= 6
    assert (rows[:, 0] == 3).all()
    assert all(1 in row for row in rows.tolist())


def test_the_end_is_that_of_the_generation_settings(tmp_path):
    folder = Folder("LlamaForCausalLM-text").write(tmp_path)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [7, 8]}))
    model = from_pretrained(folder)
    assert model.tokenizer.end_id == 7
    assert model.generation_config.end_ids == (7, 8)
    assert isinstance(model.generate(["Hello"], max_length=3)[0], str)
    model.save(tmp_path / "model.keras")
    assert keras.models.load_model(tmp_path / "model.keras").tokenizer == model.tokenizer


def test_a_model_without_its_tokenizer(tmp_path):
    folder = Folder("M2M100ForConditionalGeneration").write(tmp_path)
    (folder / "sentencepiece.bpe.model").write_bytes(b"")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "NllbTokenizer"}))
    with pytest.warns(UserWarning, match="reads ids only.*nllb"):
        assert from_pretrained(folder).tokenizer is None
    with pytest.raises(ValueError, match="nllb"):
        from_pretrained(folder, max_length=8)


def test_special_tokens_without_a_row(tmp_path):
    folder = Folder("BertForSequenceClassification-text").write(tmp_path)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    size, wanted = len(tokenizer["model"]["vocab"]), from_pretrained(folder)
    flags = dict.fromkeys(("lstrip", "rstrip", "single_word", "normalized"), False)
    tokenizer["added_tokens"].append({"id": size, "content": "<extra>", "special": True, **flags})
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "tokenizer_config.json").write_text(json.dumps({"mask_token": "<extra>"}))
    found = from_pretrained(folder).tokenizer
    assert found.vocabulary_size == size == wanted.tokenizer.vocabulary_size
    assert found.mask_id is None
    np.testing.assert_array_equal(found.encode(["a <extra> dog"]), wanted.tokenizer.encode(["a <extra> dog"]))
    # A piece of texts without a row is an error.
    tokenizer["added_tokens"][-1]["special"] = False
    (folder / "tokenizer_config.json").unlink()
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ValueError, match="vocabulary_size"):
        from_pretrained(folder)


@pytest.mark.parametrize("file", ["spm.model", "source.spm", "spiece.model"])
def test_every_file_of_a_tokenizer_is_read(file, tmp_path):
    folder = Folder("BertForSequenceClassification").write(tmp_path)
    (folder / file).write_bytes(b"damaged")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "T5Tokenizer"}))
    with pytest.raises(ValueError, match="SentencePiece model"):
        from_pretrained(folder)


@pytest.mark.parametrize("entries", [{"use_magic": True}, {"magic": 0}, {"magic": {"a": 1}}], ids=str)
def test_what_may_change_numbers_is_refused(entries, tmp_path):
    folder = Folder("BertForSequenceClassification", entries).write(tmp_path)
    with pytest.raises(ValueError, match=next(iter(entries))):
        from_pretrained(folder)
