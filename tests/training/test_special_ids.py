"""Models, data sets, losses and metrics know the same ids, or one of them is refused."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_attn import EncoderModel, GenerationConfig, LanguageModel, Seq2SeqRNN, Transformer
from keras_attn.layers import LearnedPositionEmbedding
from keras_attn.text import BytePairTokenizer, CharacterTokenizer
from keras_attn.training import (
    CallableTokenizer,
    LabelledTextDataset,
    MaskedAccuracy,
    MaskedCrossEntropy,
    ParallelTextDataset,
    Perplexity,
    RDrop,
    TextDataset,
    TokenBlockDataset,
    Trainer,
    mask_tokens,
)
from keras_attn.training.losses.id_checks import agree

pytest.importorskip("tokenizers", reason="it trains and encodes")

SIZES = {"num_layers": 1, "hidden_dim": 8, "num_heads": 2, "intermediate_dim": 8}
TEXTS = ["ab ba", "b", "abba b"]


def byte_pairs(order):
    """A tokenizer whose special tokens have the places that `order`, a string of s, e and p, gives them at the end."""
    names = {"s": "<s>", "e": "</s>", "p": "<pad>"}
    pieces = [*"ab\u0120", *(names[letter] for letter in order)]
    end = names["e"] if "e" in order else None
    return BytePairTokenizer(pieces, [], names["s"] if "s" in order else end, end, names["p"] if "p" in order else end)


# By what pads, starts and ends; `one` is GPT-2's kind.
TOKENIZERS = {
    "characters": lambda: CharacterTokenizer("ab "),
    "apart": lambda: byte_pairs("esp"),
    "pad is end": lambda: byte_pairs("se"),
    "one": lambda: byte_pairs("e"),
}
MODELS = {
    "language": lambda size, **kwargs: LanguageModel(size, **SIZES, **kwargs),
    "transformer": lambda size, **kwargs: Transformer(size, **SIZES, **kwargs),
    "recurrent": lambda size, **kwargs: Seq2SeqRNN(size, num_layers=1, hidden_dim=8, **kwargs),
    "classifier": lambda size, generation_config=None, **kwargs: EncoderModel(
        size, **SIZES, head="sequence_classification", num_classes=2, **kwargs
    ),
    "masked": lambda size, generation_config=None, **kwargs: EncoderModel(size, **SIZES, head="masked_lm", **kwargs),
}
DATA = {
    "texts": lambda t, **kwargs: TextDataset(TEXTS, t, batch_size=3, **kwargs),
    "pairs": lambda t, **kwargs: ParallelTextDataset([(x, x[::-1]) for x in TEXTS], t, batch_size=3, **kwargs),
    "blocks": lambda t: TokenBlockDataset.from_records(TEXTS, t, 4, 2),
    "classes": lambda t: LabelledTextDataset([(x, len(x) % 2) for x in TEXTS], t, batch_size=3),
    "masked": lambda t, **kwargs: TextDataset(TEXTS, t, causal=False, batch_size=3, **kwargs),
}
FITS = {
    "language": ["texts", "blocks"],
    "transformer": ["pairs"],
    "recurrent": ["pairs"],
    "classifier": ["classes"],
    "masked": ["masked"],
}
LOSSES = (MaskedCrossEntropy, RDrop, MaskedAccuracy, Perplexity)


def label_of_padding(tokenizer):
    return -100 if tokenizer.pad_id == tokenizer.end_id else tokenizer.pad_id


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_all_agree_or_one_is_refused(data):
    """What is left after all checks: one pad id, one end, and exactly the labels that are padding are ignored."""
    tokenizer = TOKENIZERS[data.draw(st.sampled_from(sorted(TOKENIZERS)))]()
    other = TOKENIZERS[data.draw(st.sampled_from(sorted(TOKENIZERS)))]()
    kind = data.draw(st.sampled_from(sorted(MODELS)))
    data_kind = data.draw(st.sampled_from(FITS[kind]))
    some = st.sampled_from([None, 0, tokenizer.pad_id, tokenizer.end_id, tokenizer.start_id])
    pad_id, ignored = data.draw(some), data.draw(st.one_of(st.just("auto"), some, st.just(-100)))
    of_data = data.draw(some) if data_kind in ("texts", "pairs", "masked") else None
    ids = {name: data.draw(some) for name in ("start_id", "end_id", "pad_id")}
    carries, size = data.draw(st.booleans()), max(tokenizer.vocabulary_size, other.vocabulary_size) + 1
    right = all(value in (None, getattr(tokenizer, name)) for name, value in {**ids, "pad_id": ids["pad_id"]}.items())
    refused = None
    try:
        carried = {"tokenizer": tokenizer} if carries else {}
        model = MODELS[kind](size, pad_id=pad_id, generation_config=GenerationConfig(4, **ids), **carried)
        dataset = DATA[data_kind](other, **({} if of_data is None else {"ignore_id": of_data}))
        losses = [made(ignore_id=ignored) for made in LOSSES]
        trainer = Trainer(model, keras.optimizers.SGD(), losses[0], metrics=losses[2:])
        agree("dataset", dataset, model, [*trainer.rated, losses[1]])
    except ValueError as error:
        refused = str(error)
    if refused is not None:
        assert "Received" in refused
        return
    if carries and kind not in ("classifier", "masked"):
        assert right
        assert (other.pad_id, other.start_id, other.end_id) == (tokenizer.pad_id, tokenizer.start_id, tokenizer.end_id)
    if data_kind != "blocks":
        assert model.pad_id == other.pad_id
    labels = next(dataset.batches())[1]
    for loss in losses:
        ignores = np.isin(labels, loss.ignored_labels)
        if data_kind in ("classes", "blocks"):
            assert not ignores.any()
        else:
            np.testing.assert_array_equal(ignores, labels == dataset.ignore_id)
            assert other.end_id not in loss.ignored_labels


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("kind", MODELS)
def test_the_defaults_agree(kind, name):
    tokenizer = TOKENIZERS[name]()
    model = MODELS[kind](tokenizer.vocabulary_size, tokenizer=tokenizer)
    for data_kind in FITS[kind]:
        dataset = DATA[data_kind](tokenizer)
        expected = None if data_kind in ("classes", "blocks") else label_of_padding(tokenizer)
        losses = [made() for made in LOSSES]
        agree("dataset", dataset, model, losses)
        agree("dataset", dataset.map(lambda batch, _: batch), model, losses)
        assert [loss.ignore_id for loss in losses] == [expected] * 4
        assert all(type(x).from_config(x.get_config()).given_ignore_id == "auto" for x in losses)


def test_compile_and_fit_ignore_what_the_trainer_does():
    tokenizer = TOKENIZERS["apart"]()
    values = []
    for train in ("fit", "Trainer"):
        keras.utils.set_random_seed(1)
        model = Transformer(tokenizer.vocabulary_size, **SIZES, tokenizer=tokenizer, dropout=0)
        data, optimizer, loss = DATA["pairs"](tokenizer, shuffle=False), keras.optimizers.SGD(0.1), MaskedCrossEntropy()
        if train == "fit":
            model.compile(optimizer, loss, metrics=[MaskedAccuracy()])
            history = model.fit(data.as_tf_dataset(), steps_per_epoch=1, epochs=2, verbose=0)
        else:
            trainer = Trainer(model, optimizer, loss, [MaskedAccuracy()])
            history = trainer.fit(data, steps=2, validation_freq=1)
        values.append([history.history["loss"], history.history["accuracy"]])
    np.testing.assert_allclose(*values, rtol=1e-5)


def test_a_model_learns_to_stop_with_gpt2s_one_special_token():
    tokenizer = TOKENIZERS["one"]()
    keras.utils.set_random_seed(0)
    config = GenerationConfig(8)
    model = LanguageModel(tokenizer.vocabulary_size, 1, 32, 2, 64, tokenizer=tokenizer, generation_config=config)
    data = TextDataset(["ab", "ba "] * 8, tokenizer, batch_size=16)
    Trainer(model, keras.optimizers.Adam(0.01), MaskedCrossEntropy()).fit(data, steps=60)
    assert model.generate(["a", "b"]) == ["b", "a "]


@pytest.mark.parametrize("kind", ["language", "transformer"])
def test_explicit_labels_of_padding_that_contradict_are_refused(kind):
    tokenizer = TOKENIZERS["apart"]()
    model = MODELS[kind](tokenizer.vocabulary_size, tokenizer=tokenizer)
    optimizer, piece = keras.optimizers.SGD(), tokenizer.tokenize(["a"])[0][0]
    for ignored, words in ((tokenizer.end_id, "must differ from the end id"), (piece, "the padding id, ")):
        with pytest.raises(ValueError, match=words):
            Trainer(model, optimizer, MaskedCrossEntropy(ignore_id=ignored))
        with pytest.raises(ValueError, match=words):
            Trainer(model, optimizer, MaskedCrossEntropy(), [Perplexity(ignored)])
        with pytest.raises(ValueError, match=words):
            model.compile("sgd", MaskedCrossEntropy(ignore_id=ignored))
        with pytest.raises(ValueError, match=words):
            model.compile("sgd", MaskedCrossEntropy(), metrics=[MaskedAccuracy(ignored)])
        with pytest.raises(ValueError, match=words):
            DATA["pairs"](tokenizer, ignore_id=ignored)
    trainer = Trainer(model, optimizer, MaskedCrossEntropy(ignore_id=-100))
    data = DATA[FITS[kind][0]](tokenizer)
    with pytest.raises(ValueError, match=rf"must be the padding label of `dataset`, {tokenizer.pad_id}, or \"auto\""):
        trainer.fit(data, steps=1)
    with pytest.raises(ValueError, match=r"must be the padding label of `validation_data`"):
        trainer.fit(DATA[FITS[kind][0]](tokenizer, ignore_id=-100), steps=1, validation_data=data)


def test_data_of_another_tokenizer_are_refused():
    tokenizer = TOKENIZERS["apart"]()
    model = LanguageModel(tokenizer.vocabulary_size, **SIZES, tokenizer=tokenizer)
    trainer = Trainer(model, keras.optimizers.SGD(), MaskedCrossEntropy())
    with pytest.raises(ValueError, match="must use the padding id of the model"):
        trainer.fit(DATA["texts"](CharacterTokenizer("ab ")), steps=1)
    with pytest.raises(ValueError, match="must use the tokenizer of the model, whose start_id is 4"):
        trainer.fit(DATA["blocks"](byte_pairs("sep")), steps=1)
    framed = BytePairTokenizer.from_config({**tokenizer.get_config(), "add_start": True})
    with pytest.raises(ValueError, match="must use the tokenizer of the model"):
        trainer.evaluate(DATA["blocks"](framed))
    function = CallableTokenizer(tokenizer.tokenize, tokenizer.pad_id, tokenizer.start_id, tokenizer.end_id)
    agree("dataset", DATA["texts"](function), model, [MaskedCrossEntropy()])


def test_data_longer_than_the_positions_are_refused():
    tokenizer = TOKENIZERS["characters"]()
    model = LanguageModel(tokenizer.vocabulary_size, **SIZES, position=LearnedPositionEmbedding(4))
    trainer = Trainer(model, keras.optimizers.SGD(), MaskedCrossEntropy())
    short, long = (TokenBlockDataset.from_records(TEXTS, tokenizer, length, 2) for length in (4, 5))
    trainer.fit(short, steps=1)
    for call in (lambda: trainer.fit(long, steps=2), lambda: trainer.evaluate(long)):
        with pytest.raises(ValueError, match=r"`dataset\['token_ids'\]` must be no longer than the 4 positions"):
            call()


def test_a_class_of_the_data_is_not_ignored():
    tokenizer = TOKENIZERS["characters"]()
    model = MODELS["classifier"](tokenizer.vocabulary_size, tokenizer=tokenizer)
    trainer = Trainer(model, keras.optimizers.SGD(), MaskedCrossEntropy(ignore_id=0))
    with pytest.raises(ValueError, match="every label in `dataset` counts"):
        trainer.fit(DATA["classes"](tokenizer), steps=1)


def test_auto_means_one_label():
    loss = MaskedCrossEntropy()
    assert (loss.ignore_id, loss.ignored_labels) == (0, (0, -100))
    loss.bind_ignore_id(5)
    loss.bind_ignore_id(5)
    assert loss.ignored_labels == (5, -100)
    with pytest.raises(ValueError, match=r"as data mark padding with different labels\. Received: 5 before and 0 now"):
        loss.bind_ignore_id(0)
    assert MaskedCrossEntropy(ignore_id=None).ignored_labels == ()
    assert MaskedCrossEntropy(ignore_id=np.int64(3)).ignored_labels == (3,)
    with pytest.raises(ValueError, match='`ignore_id` must be an integer, None or "auto"'):
        MaskedCrossEntropy(ignore_id="pad")
    tokens = np.array([[1, -100, 5]])
    logits = np.random.default_rng(0).normal(size=(1, 3, 7)).astype("float32")
    expected = float(MaskedCrossEntropy(ignore_id=None)(tokens[:, :1], logits[:, :1]))
    assert float(loss(tokens, logits)) == pytest.approx(expected)


def test_masked_tokens_have_the_label_of_padding():
    tokenizer = TOKENIZERS["apart"]()
    special = (tokenizer.pad_id, tokenizer.start_id, tokenizer.end_id)
    options = {"mask_id": 0, "vocabulary_size": tokenizer.vocabulary_size, "special_ids": special}
    data = DATA["masked"](tokenizer)

    def hide(batch, number):
        inputs, labels = mask_tokens(batch[0]["token_ids"], number, **options)
        return {"token_ids": inputs}, labels

    loss = MaskedCrossEntropy()
    (_, labels) = next(data.map(hide).batches())
    assert set(labels[labels < 0]) == {-100}
    agree("dataset", data.map(hide), MODELS["masked"](tokenizer.vocabulary_size, tokenizer=tokenizer), [loss])
    assert loss.ignored_labels == (tokenizer.pad_id, -100)


def test_an_endless_data_set_is_evaluated_once():
    tokenizer = TOKENIZERS["characters"]()
    model = LanguageModel(tokenizer.vocabulary_size, **SIZES, tokenizer=tokenizer)
    trainer = Trainer(model, keras.optimizers.SGD(), MaskedCrossEntropy())
    once = TextDataset(TEXTS, tokenizer, batch_size=3, epochs=1)
    assert trainer.evaluate(DATA["texts"](tokenizer)) == trainer.evaluate(once)


@pytest.mark.parametrize("name", ["one", "pad is end"])
def test_tf_data_of_a_data_set_tells_the_label_of_padding(name):
    """Also for a model that knows no tokenizer."""
    tokenizer = TOKENIZERS[name]()
    data, size = DATA["texts"](tokenizer), tokenizer.vocabulary_size
    for model in (
        LanguageModel(size, **SIZES, pad_id=tokenizer.pad_id),
        LanguageModel(size, **SIZES, tokenizer=tokenizer),
    ):
        loss, compiled = MaskedCrossEntropy(), MaskedCrossEntropy()
        agree("dataset", data.as_tf_dataset(), model, [loss])
        model.compile("sgd", compiled)
        model.bind_labels(data.as_tf_dataset())
        assert loss.ignored_labels == compiled.ignored_labels == (-100,)


def test_a_compiled_model_is_loaded_with_its_optimizer_and_its_loss(tmp_path):
    tokenizer = TOKENIZERS["apart"]()
    model = Transformer(tokenizer.vocabulary_size, **SIZES, tokenizer=tokenizer)
    model.compile(keras.optimizers.Adam(0.01), MaskedCrossEntropy(), metrics=[MaskedAccuracy()])
    data = DATA["pairs"](tokenizer, shuffle=False)
    model.fit(data.as_tf_dataset(), steps_per_epoch=2, verbose=0)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    for one, two in zip(model.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_array_equal(one, two)
    batches = data.as_tf_dataset().take(1)
    np.testing.assert_allclose(loaded.evaluate(batches, verbose=0), model.evaluate(batches, verbose=0), rtol=1e-6)
    assert loaded.loss.ignored_labels == (tokenizer.pad_id, -100)


def test_a_loss_saved_with_an_end_token_to_ignore_ignores_padding_when_loaded():
    tokenizer = TOKENIZERS["one"]()
    model = LanguageModel(tokenizer.vocabulary_size, **SIZES, tokenizer=tokenizer)
    old = MaskedCrossEntropy(ignore_id=tokenizer.end_id)
    config = keras.saving.serialize_keras_object({"optimizer": "sgd", "loss": old})
    with pytest.warns(UserWarning, match="ignores a token of the model"):
        model.compile_from_config(config)
    assert model.loss.ignored_labels == (-100,)


def test_ends_count_where_no_tokenizer_says_them():
    model = LanguageModel(9, **SIZES, pad_id=3)
    assert model.padding_label == -100
    model = LanguageModel(9, **SIZES, generation_config=GenerationConfig(4, end_id=0))
    with pytest.raises(ValueError, match="must differ from the end id"):
        Trainer(model, keras.optimizers.SGD(), MaskedCrossEntropy(ignore_id=0))
    with pytest.raises(ValueError, match="must differ from the end id"):
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(ignore_class=0))


def test_a_model_around_one_of_ours_has_its_ids():
    tokenizer = TOKENIZERS["one"]()
    inner = LanguageModel(tokenizer.vocabulary_size, **SIZES, tokenizer=tokenizer)
    ids = keras.Input((None,), dtype="int32", name="token_ids")
    outer, loss = keras.Model(ids, inner(ids)), MaskedCrossEntropy()
    agree("dataset", object(), outer, [loss])
    assert loss.ignored_labels == (-100,)
    with pytest.raises(ValueError, match="must differ from the end id"):
        Trainer(outer, keras.optimizers.SGD(), MaskedCrossEntropy(ignore_id=tokenizer.end_id))


def test_ids_of_data_and_generation_without_a_tokenizer():
    tokenizer, data = TOKENIZERS["apart"](), DATA["pairs"](TOKENIZERS["apart"]())
    sizes = {**SIZES, "pad_id": tokenizer.pad_id}
    wrong = Transformer(tokenizer.vocabulary_size, **sizes, generation_config=GenerationConfig(4, start_id=1))
    with pytest.raises(ValueError, match=r"`dataset` and the model must use the same ids\. `start_id`"):
        agree("dataset", data, wrong, [])
    bare = Transformer(tokenizer.vocabulary_size, **sizes)
    with pytest.warns(
        UserWarning, match=f"start with id {tokenizer.start_id}, but the model generates with start id 2"
    ):
        agree("dataset", data, bare, [])


def test_two_tokenizers():
    one, other = CharacterTokenizer("ab ", max_length=3), CharacterTokenizer("ba ")
    model = Transformer(one.vocabulary_size, **SIZES, tokenizer=one)
    data = ParallelTextDataset([("ab", "a")], other, one, batch_size=1)
    with pytest.raises(ValueError, match=r"which differs in \['characters', 'max_length'\]"):
        agree("dataset", data, model, [])
    # Each text has the limit of its own tokenizer.
    data = ParallelTextDataset([("abab", "ababab")], one, other, batch_size=1, too_long="truncate", num_shapes=1)
    (inputs, labels) = next(data.batches())
    assert (inputs["source_ids"].shape, labels.shape) == ((1, 3), (1, 7))
