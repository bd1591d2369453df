"""Multi-modal folders, which are read as their text model."""

import json
import shutil

import numpy as np
import pytest
from pretrained.case import FIXTURES
from pretrained.test_hostile_files import edit_config, edit_tensors
from safetensors.numpy import load_file

from keras_attn import from_pretrained

SOURCE = FIXTURES / "Gemma3ForConditionalGeneration"
IDS = np.array([[5, 6, 7, 8]])


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(SOURCE, tmp_path / "folder")


def rename(*pairs):
    def change(tensors):
        for name in list(tensors):
            for old, new in pairs:
                if name.startswith(old):
                    tensors[name.replace(old, new, 1)] = tensors.pop(name)

    return edit_tensors(change)


IMAGES = [(name, f"model.{name}") for name in ("vision_tower", "multi_modal_projector")]


@pytest.mark.parametrize("text", ["model.language_model.", "language_model.", "model."])
def test_names_of_other_releases(folder, text):
    rename(("language_model.model.", text), *IMAGES)(folder)
    np.testing.assert_array_equal(from_pretrained(folder)(IDS), from_pretrained(SOURCE)(IDS))


def test_the_text_model_is_written(tmp_path):
    model = from_pretrained(SOURCE)
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["model_type"], config["architectures"]) == ("gemma3_text", ["Gemma3ForCausalLM"])
    assert not {"text_config", "vision_config", "mm_tokens_per_image", "image_token_index"} & set(config)
    assert all(name.startswith("model.") and "vision" not in name for name in load_file(tmp_path / "model.safetensors"))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (edit_config(audio_config={"hidden_size": 8}), "does not know.*audio_config"),
        (edit_config(text_config={"model_type": "llama"}), "'model_type' only as 'gemma3_text'"),
        (edit_config(text_config=[]), "an object as 'text_config'"),
        (rename(("vision_tower", "audio_tower")), "no weight for tensor 'audio_tower"),
    ],
)
def test_refused(folder, edit, message):
    edit(folder)
    with pytest.raises(ValueError, match=message):
        from_pretrained(folder)
