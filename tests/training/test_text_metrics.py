import keras
import numpy as np
import pytest

from keras_attn.training import Bleu, Chrf, ExactMatch, Rouge, TextEvaluation, TextMetric

# From the README of sacrebleu: three outputs, two references each.
OUTPUTS = ["The dog bit the man.", "It wasn't surprising.", "The man had just bitten him."]
REFERENCES = [
    ["The dog bit the man.", "The dog had bit the man."],
    ["It was not unexpected.", "No one was surprised."],
    ["The man bit him first.", "The man had bitten the dog."],
]


def test_the_published_example_of_sacrebleu():
    assert Bleu()(OUTPUTS, REFERENCES) == pytest.approx(48.530827, abs=1e-6)
    assert Chrf()(OUTPUTS, REFERENCES) == pytest.approx(59.73, abs=0.01)


def test_the_published_example_of_rouge_score():
    target, output = "The quick brown fox jumps over the lazy dog", "The quick brown dog jumps on the log."
    assert Rouge("rouge1", use_stemmer=True)([output], [target]) == pytest.approx(12 / 17)
    assert Rouge("rougeL", use_stemmer=True)([output], [target]) == pytest.approx(10 / 17)
    # Three of seven pairs of the output, and of eight of the target, are the other's: "the quick", "quick brown", ...
    assert Rouge("rouge2")(["the quick brown"], [target]) == pytest.approx(2 * 1 * (2 / 8) / (1 + 2 / 8))


def test_the_best_reference_counts_in_rouge():
    assert Rouge("rouge1")(["a b"], [["c d", "a b"]]) == 1


def test_arguments_of_the_libraries():
    assert Bleu(lowercase=True)(["A b c d e"], ["a B c d e"]) == pytest.approx(100)
    assert Bleu()(["A b c d e"], ["a B c d e"]) < 80
    assert Bleu(tokenize="none")(["a b c d-e"], ["a b c d - e"]) < Bleu(tokenize="char")(["a b c d-e"], ["a b c d - e"])
    assert Chrf(word_order=2)(["a b c"], ["a c b"]) > Chrf()(["a b c"], ["a c b"])


def test_references_may_be_unequally_many():
    assert Bleu()(["a b c d", "e f g h"], ["a b c d", ["x", "e f g h"]]) == pytest.approx(100)
    assert Chrf()(["a b c d", "e f g h"], ["a b c d", ["x", "e f g h"]]) == pytest.approx(100)


def test_exact_match():
    assert ExactMatch()(["a", "b", "c"], ["a", ["x", "b"], "C"]) == pytest.approx(2 / 3)


@pytest.mark.parametrize("metric", [Bleu(), Chrf(), Rouge(), ExactMatch()], ids=lambda metric: metric.name)
def test_bad_texts(metric):
    with pytest.raises(ValueError, match="Received: 1 outputs and 2 references"):
        metric(["a"], ["a", "b"])
    with pytest.raises(ValueError, match="Received: 0 outputs and 0 references"):
        metric([], [])
    with pytest.raises(ValueError, match=r"`references` must contain a text for each output. Received: none at 1"):
        metric(["a", "b"], ["a", []])


def test_a_bad_kind_of_rouge():
    with pytest.raises(ValueError, match=r"`kind` must be one of .* Received: kind='rouge'"):
        Rouge("rouge")


class Speller(keras.Model):
    """Generates its input, with as many letters right as it has been trained steps."""

    def __init__(self):
        super().__init__()
        self.calls, self.steps = [], self.add_weight(shape=(), initializer="zeros")
        self.built = True

    def call(self, x):
        return x * self.steps

    def train_step(self, data):
        self.steps.assign_add(1)
        return {"loss": self.steps}

    def generate(self, inputs, **options):
        self.calls.append((list(inputs), options))
        return [text[: int(self.steps)] + "?" * (len(text) - int(self.steps)) for text in inputs]


class Letters(TextMetric):
    def __init__(self):
        super().__init__("letters")

    def score(self, outputs, references):
        return np.mean([a == b for x, (y,) in zip(outputs, references, strict=True) for a, b in zip(x, y, strict=True)])


TEXTS = ["abcd", "ab", "abcdef", "abc"]


def test_figures_are_among_the_logs_of_each_epoch(tmp_path):
    model, evaluation = Speller(), TextEvaluation(TEXTS, TEXTS, [ExactMatch(), Letters()], batch_size=3, config=7)
    model.compile(run_eagerly=True)
    path = str(tmp_path / "{val_exact_match:.2f}.weights.h5")
    best = keras.callbacks.ModelCheckpoint(path, "val_letters", mode="max", save_best_only=True, save_weights_only=True)
    stop = keras.callbacks.EarlyStopping("val_exact_match", patience=0, mode="max")
    history = model.fit(np.zeros((6, 1)), batch_size=3, epochs=5, verbose=0, callbacks=[evaluation, best, stop]).history
    # After 2 steps "ab" is right, and after 6 all; the epoch behind is no better, and the last.
    assert history["val_exact_match"] == [0.25, 0.75, 1.0, 1.0]
    assert history["val_letters"] == pytest.approx([8 / 15, 13 / 15, 1, 1])
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{x}.weights.h5" for x in ("0.25", "0.75", "1.00")]
    assert evaluation.outputs == TEXTS
    # The shortest together, in chunks, with the options of `generate`.
    assert model.calls[:2] == [(["ab", "abc", "abcd"], {"config": 7}), (["abcdef"], {"config": 7})]


def test_figures_of_every_so_many_steps():
    model, evaluation = Speller(), TextEvaluation(TEXTS, TEXTS, [ExactMatch()], every=3, prefix="")
    model.compile(run_eagerly=True)
    seen = []
    watcher = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(set(logs)))
    history = model.fit(np.zeros((7, 1)), batch_size=1, verbose=0, callbacks=[evaluation, watcher]).history
    assert [step for step, names in enumerate(seen, 1) if "exact_match" in names] == [3, 6]
    assert history["exact_match"] == [1.0]
    assert len(model.calls) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["a"], [], [ExactMatch()]), "Received: 1 inputs and 0 references"),
        ((["a"], ["b"], []), r"`metrics` must not be empty, and have different names. Received: \[\]"),
        ((["a"], ["b"], [ExactMatch(), ExactMatch()]), "Received: .'exact_match', 'exact_match'."),
        ((["a"], ["b"], [ExactMatch()], 0), "`every` must be a positive integer. Received: every=0"),
    ],
)
def test_bad_arguments_of_an_evaluation(arguments, message):
    with pytest.raises(ValueError, match=message):
        TextEvaluation(*arguments)
