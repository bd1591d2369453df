"""What `ProgressBar` prints to a terminal and to a log."""

import io

import numpy as np
import pytest
import rich
import rich.console
import tensorflow as tf

import keras_attn
from keras_attn.training import FusedAdam, MaskedCrossEntropy, ProgressBar, Trainer
from keras_attn.training.callbacks import progress_bar


@pytest.fixture
def lines(monkeypatch):
    """A function that trains seven steps, and returns the first words of each printed line."""

    def train(is_terminal):
        console = rich.console.Console(file=io.StringIO(), force_terminal=is_terminal, no_color=True, width=200)
        monkeypatch.setattr(rich, "_console", console)
        model = keras_attn.LanguageModel(9, num_layers=1, hidden_dim=8, num_heads=2, intermediate_dim=8)
        ids = np.ones((2, 4), "int32")
        data = tf.data.Dataset.from_tensors(({"token_ids": ids}, ids))
        trainer = Trainer(model, FusedAdam(1e-3), MaskedCrossEntropy())
        trainer.fit(data.repeat(), 7, [ProgressBar("chars")], validation_data=data, validation_freq=5)
        # A terminal overwrites the bar.
        shown = [line.split("\x1b[2K")[-1] for line in console.file.getvalue().splitlines()]
        return [line.split() for line in shown if line.startswith("chars")]

    return train


def test_a_log_has_a_line_now_and_then(lines, monkeypatch):
    monkeypatch.setattr(progress_bar, "_PAUSE", 0)
    *steps, bar = lines(is_terminal=False)
    validations = [line for line in steps if line[2] == "val_loss"]
    assert [line[1] for line in steps if line not in validations] == list("1234567")
    assert [line[1] for line in validations] == ["5", "7"]
    assert all(0 < float(line[3]) < 9 for line in validations)
    assert "7/7" in bar


@pytest.mark.parametrize("is_terminal", [False, True], ids=["log", "terminal"])
def test_only_validations_are_printed_within_a_minute(lines, is_terminal):
    *validations, bar = lines(is_terminal)
    assert [line[1:3] for line in validations if "left" not in line] == [["5", "val_loss"], ["7", "val_loss"]]
    assert "7/7" in bar
