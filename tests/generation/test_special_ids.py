"""Start, end and pad ids, and the number of tokens, are those of the tokenizer that a model carries."""

import dataclasses

import keras
import numpy as np
import pytest

from keras_attn import EncoderModel, GenerationConfig, LanguageModel, Seq2SeqRNN, Transformer
from keras_attn.export import export, labelled_data
from keras_attn.export.tasks import decode, prefill
from keras_attn.export.tasks import generate as generate_task
from keras_attn.generation import (
    AllowedTokens,
    AutomatonConstraint,
    BeamSearch,
    ContrastiveSearch,
    DiverseBeamSearch,
    ForcedEnd,
    ForcedPrefix,
    MinLength,
    PromptLookup,
    Sampling,
    SpeculativeDecoding,
    TokenAutomaton,
    minimum_bayes_risk,
    score,
    stream,
)
from keras_attn.layers import LearnedPositionEmbedding
from keras_attn.text import BytePairTokenizer, CharacterTokenizer, SentencePieceTokenizer, WordPieceTokenizer

pytest.importorskip("tokenizers", reason="it trains and encodes")

SIZES = {"num_layers": 1, "hidden_dim": 12, "num_heads": 3, "intermediate_dim": 20, "tie_output": False}
MODELS = {
    "language": lambda *args, **kwargs: LanguageModel(*args, **{**SIZES, "output_bias": True, **kwargs}),
    "transformer": lambda *args, **kwargs: Transformer(*args, **{**SIZES, **kwargs}),
    "recurrent": lambda *args, **kwargs: Seq2SeqRNN(*args, num_layers=1, hidden_dim=12, tie_output=False, **kwargs),
}
TEXTS = ["one two", "three four five"]


@pytest.fixture(scope="module")
def tokenizer():
    learned = BytePairTokenizer.train(TEXTS, 270, start_token="<s>", end_token="</s>", pad_token="<pad>")
    # GPT-2's order: the special tokens come last.
    pieces = [*learned.vocabulary[3:], "<s>", "<pad>", "</s>"]
    return BytePairTokenizer(pieces, learned.merges, "<s>", "</s>", "<pad>")


@pytest.fixture(scope="module", params=MODELS)
def make(request):
    def made(*args, **kwargs):
        keras.utils.set_random_seed(4)
        model = MODELS[request.param](*args, **kwargs)
        rng = np.random.default_rng(4)
        model.set_weights([w + 0.3 * rng.standard_normal(w.shape) for w in model.get_weights()])
        return model

    return made


@pytest.fixture(scope="module")
def made(make, tokenizer):
    """A model with the tokenizer, for all tests that leave it as it is."""
    return make(tokenizer.vocabulary_size, tokenizer=tokenizer)


@pytest.fixture(scope="module")
def with_unused_rows(make, tokenizer):
    """A model of more rows than the tokenizer has pieces, which are by far the likeliest."""
    model = make(tokenizer.vocabulary_size + 17, tokenizer=tokenizer)
    favour_unused_rows(model, tokenizer.vocabulary_size)
    return model


def ids_of(config):
    return config.start_id, config.end_id, config.pad_id


def test_ids_are_those_of_the_tokenizer(made, tokenizer):
    model = made
    given = GenerationConfig(6, tokenizer.start_id, tokenizer.end_id, tokenizer.pad_id)
    assert model.pad_id == tokenizer.pad_id
    assert ids_of(GenerationConfig().resolved(tokenizer)) == ids_of(given)
    assert ids_of(GenerationConfig().resolved()) == (2, 3, 0)
    assert ids_of(GenerationConfig(end_id=7).resolved(None, 5)) == (2, 7, 5)
    ids = tokenizer.encode(TEXTS)
    one, other = (model.generate(ids, 6, config, return_dict=True) for config in (None, given))
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name])
    pieces = np.concatenate(list(stream(model, ids, 6)), axis=1)
    np.testing.assert_array_equal(pieces, one["tokens"][:, : pieces.shape[1]])
    rated = score(model, TEXTS, TEXTS)
    for name, value in score(model, TEXTS, TEXTS, given).items():
        np.testing.assert_array_equal(value, rated[name])
    # Each text is followed by the tokenizer's end token.
    lengths = [len(row) + 1 for row in tokenizer.tokenize(TEXTS)]
    assert (rated["scores"] != 0).sum(axis=1).tolist() == lengths


def test_a_row_does_not_depend_on_its_neighbours(made):
    model = made
    together = model.generate(TEXTS, max_length=6, return_dict=True)
    alone = model.generate(TEXTS[:1], max_length=6, return_dict=True)
    np.testing.assert_array_equal(alone["tokens"][0], together["tokens"][0])
    np.testing.assert_allclose(alone["scores"][0], together["scores"][0], atol=1e-5)


@pytest.mark.parametrize("name", ["start_id", "end_id", "pad_id"])
def test_other_ids_than_those_of_the_tokenizer_are_refused(make, made, tokenizer, name):
    model, size = made, tokenizer.vocabulary_size
    config = GenerationConfig(4, **{name: 7})
    words = f"`{name}` of GenerationConfig must be None or that of the tokenizer, {getattr(tokenizer, name)}"
    calls = [
        lambda: make(size, tokenizer=tokenizer, generation_config=config),
        lambda: model.generate(TEXTS, config=config),
        lambda: list(stream(model, TEXTS, config=config)),
        lambda: score(model, TEXTS, TEXTS, config),
        lambda: minimum_bayes_risk(model, TEXTS, config=config, utility=lambda a, b: 0.0),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=words):
            call()
    # Further end tokens are no contradiction.
    assert GenerationConfig(end_id=(7, tokenizer.end_id)).resolved(tokenizer).end_ids == (7, tokenizer.end_id)


def test_another_padding_or_vocabulary_is_refused(make, tokenizer, tmp_path):
    size, other = tokenizer.vocabulary_size, CharacterTokenizer("one twhrfuiv")
    for pad_id in (0, -1):
        with pytest.raises(
            ValueError, match=f"`pad_id` of the model must be that of .*, {tokenizer.pad_id}; pass only"
        ):
            make(size, tokenizer=tokenizer, pad_id=pad_id)
    with pytest.raises(ValueError, match=f"`vocabulary_size` must be at least that of the tokenizer, {size}"):
        make(size - 1, tokenizer=tokenizer)
    model = make(size, tokenizer=tokenizer, generation_config=GenerationConfig(4))
    with pytest.raises(ValueError, match="`tokenizer` must be that of the model"):
        export(model, tmp_path, "onnx", tasks="generate", tokenizer=other)
    bare = make(size, generation_config=GenerationConfig(4))
    with pytest.raises(ValueError, match="`pad_id` of the model must be that of the tokenizer"):
        export(bare, tmp_path, "onnx", tasks="generate", tokenizer=tokenizer)
    with pytest.raises(ValueError, match="`pad_id` of the model must be that of the tokenizer"):
        bare.tokenizer = tokenizer
    with pytest.raises(AttributeError):
        bare.pad_id = tokenizer.pad_id
    with pytest.raises(ValueError, match="`end_id` of GenerationConfig must be None or that of the tokenizer"):
        model.generation_config = GenerationConfig(4, end_id=7)
    assert (bare.tokenizer, model.generation_config) == (None, GenerationConfig(4))


def test_a_saved_model_keeps_its_ids_and_an_old_one_gets_those_of_its_tokenizer(make, tokenizer, tmp_path):
    model = make(tokenizer.vocabulary_size, tokenizer=tokenizer, generation_config=GenerationConfig(5))
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert loaded.generate(TEXTS) == model.generate(TEXTS)
    assert (loaded.pad_id, loaded.generation_config) == (tokenizer.pad_id, GenerationConfig(5))
    old = {**model.get_config(), "pad_id": 0}
    old["generation_config"] = keras.saving.serialize_keras_object(GenerationConfig(5, 2, 3, 0))
    with pytest.warns(UserWarning, match="ids that its tokenizer does not have"):
        revived = type(model).from_config(old)
    assert (revived.pad_id, revived.generation_config) == (tokenizer.pad_id, GenerationConfig(5))
    settings = GenerationConfig(5, start_id=tokenizer.start_id, end_id=(9, 1))
    old |= {"pad_id": -1, "generation_config": keras.saving.serialize_keras_object(settings)}
    with pytest.warns(UserWarning, match=r"pad_id=-1, end_id=\(9, 1\) of generation_config; the tokenizer's are used"):
        revived = type(model).from_config(old)
    assert revived.generation_config == GenerationConfig(5, start_id=tokenizer.start_id)


def test_a_tokenizer_without_start_or_end(make, tokenizer):
    kept = [piece for piece in tokenizer.vocabulary if piece not in ("<s>", "</s>")]
    plain = BytePairTokenizer(kept, tokenizer.merges, None, None, "<pad>")
    model = make(plain.vocabulary_size, tokenizer=plain)
    given = GenerationConfig(4, start_id=1)
    if model.continues_prompts:
        given = None
    else:
        with pytest.raises(ValueError, match="`start_id` of GenerationConfig must be the token that targets start"):
            model.generate(TEXTS)
    outputs = model.generate(TEXTS, 4, given, return_dict=True)
    # Nothing ends a row.
    assert (outputs["scores"] != 0).all()
    assert score(model, TEXTS, TEXTS, given)["scores"].shape[1] == max(map(len, plain.tokenize(TEXTS)))
    base = given or GenerationConfig(4)
    tokens = model.generate(TEXTS, config=dataclasses.replace(base, processors=(MinLength(2),)), return_dict=True)
    np.testing.assert_array_equal(tokens["tokens"], outputs["tokens"])
    with pytest.raises(ValueError, match="for ForcedEnd, as the tokenizer has no end token"):
        model.generate(TEXTS, config=dataclasses.replace(base, processors=(ForcedEnd(),)))


STRATEGIES = {
    "greedy": None,
    "sampling": Sampling(1, num_sequences=3),
    "beams": BeamSearch(3, num_sequences=3),
    "diverse": DiverseBeamSearch(4, num_groups=2, num_sequences=4),
    "contrastive": ContrastiveSearch(4, 0.6),
    "speculative": SpeculativeDecoding(PromptLookup(2), num_tokens=3),
}


def favour_unused_rows(model, count):
    """Makes the rows from `count` on by far the likeliest."""
    head = model.target_embedding if hasattr(model, "target_embedding") else model.embedding
    if head.use_bias:
        head.bias.assign(np.where(np.arange(head.input_dim) < count, 0, 50))
        return
    kernel = np.array(head.reverse_embeddings)
    # One of two opposite rows is likely whatever the hidden state.
    kernel[:, count:] = 50 * np.random.default_rng(0).choice([-1, 1], kernel[:, count:].shape)
    head.reverse_embeddings.assign(kernel)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_rows_without_a_piece_are_never_generated(with_unused_rows, tokenizer, strategy):
    count = tokenizer.vocabulary_size
    model, strategy = with_unused_rows, STRATEGIES[strategy]
    if not model.has_slots and isinstance(strategy, (ContrastiveSearch, SpeculativeDecoding)):
        pytest.skip("the strategy takes tokens back, which a recurrent state cannot")
    outputs = model.generate(TEXTS, config=GenerationConfig(5, strategy=strategy), return_dict=True)
    assert outputs["tokens"].max() < count
    assert len(outputs["text"]) == 2
    # Probabilities are those among the tokens.
    assert (outputs["scores"] > -30).all()


def test_constraints_know_no_row_without_a_piece(with_unused_rows, tokenizer):
    count, model = tokenizer.vocabulary_size, with_unused_rows
    for processor in (AllowedTokens((1, count)), ForcedPrefix((count,))):
        with pytest.raises(ValueError, match=f"ids of the vocabulary, 0 to {count - 1}"):
            model.generate(TEXTS, config=GenerationConfig(4, processors=(processor,)))
    automaton = TokenAutomaton.from_regex("(one|two)", [x.decode("utf-8", "replace") for x in tokenizer.readings()[0]])
    config = GenerationConfig(6, processors=(AutomatonConstraint(automaton),))
    assert set(model.generate(TEXTS, config=config)) <= {"one", "two"}
    with pytest.raises(ValueError, match="`targets` must hold ids of the vocabulary"):
        score(model, tokenizer.encode(TEXTS), np.full((2, 1), count))


@pytest.mark.parametrize(
    ("kind", "tasks"), [("language", ["prefill", "decode"]), ("transformer", ["generate", "beam"])]
)
def test_artefacts_generate_no_row_without_a_piece(kind, tasks, tokenizer, tmp_path):
    count = tokenizer.vocabulary_size
    model = MODELS[kind](count + 17, tokenizer=tokenizer, generation_config=GenerationConfig(3))
    favour_unused_rows(model, count)
    report = export(model, tmp_path, ["saved_model", "tflite", "onnx"], tasks=tasks)
    assert report.ok
    assert all(row["identical"] == row["total"] > 0 for row in report.rows)
    for path in (tmp_path / "verification").rglob("*.npz"):
        with np.load(path) as stored:
            for name in stored.files:
                if name.endswith("/tokens"):
                    assert stored[name].max() < count
                if name.endswith("/logits"):
                    assert stored[name].shape[-1] == count


def test_an_encoder_masks_what_its_tokenizer_pads_with(tokenizer):
    sizes = {name: value for name, value in SIZES.items() if name != "tie_output"}
    settings = {"head": "sequence_classification", "num_classes": 3, "tokenizer": tokenizer}
    model = EncoderModel(tokenizer.vocabulary_size, **sizes, **settings)
    ids = tokenizer.encode(TEXTS)
    np.testing.assert_allclose(model(ids)[:1], model(tokenizer.encode(TEXTS[:1])), atol=1e-6)
    with pytest.raises(ValueError, match="`pad_id` of the model must be that of the tokenizer"):
        EncoderModel(tokenizer.vocabulary_size, **sizes, **settings, pad_id=1)


def test_score_counts_an_end_token_that_pads():
    tokenizer = BytePairTokenizer.train(TEXTS, 262)
    assert tokenizer.pad_id == tokenizer.end_id
    model = LanguageModel(tokenizer.vocabulary_size, **SIZES, output_bias=True, tokenizer=tokenizer)
    model.embedding.bias.assign(np.where(np.arange(tokenizer.vocabulary_size) == tokenizer.end_id, 5, 0))
    prompts = tokenizer.encode(TEXTS)
    outputs = model.generate(prompts, 6, GenerationConfig(6, strategy=Sampling(2)), return_dict=True)
    rated = score(model, prompts, outputs["tokens"])
    ends = (outputs["tokens"] == tokenizer.end_id).argmax(axis=1)
    assert (np.take_along_axis(rated["scores"], ends[:, None], axis=1) != 0).all()
    np.testing.assert_allclose(rated["scores"], outputs["scores"], atol=1e-4)


def test_a_continued_prompt_has_no_end():
    """A language model reads prompts as data sets train it to: without what ends a text."""
    tokenizer = WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "one", "two"])
    model = LanguageModel(6, **SIZES, tokenizer=tokenizer)
    ids = np.array([[tokenizer.start_id, 4, 5]])
    given = model.generate(ids, max_length=4)
    assert model.generate(["one two"], max_length=4) == tokenizer.decode(given, after=ids)
    assert score(model, ["one two"], [" two"])["scores"].shape == (1, 2)


def test_scored_text_continues_its_prompt():
    tokenizer = SentencePieceTokenizer.train(["the cat sat", "the cats sat on mats"] * 5, 30)
    model = LanguageModel(tokenizer.vocabulary_size, **SIZES, tokenizer=tokenizer)
    ids, start = tokenizer.encode(["the cat"]), tokenizer.token_to_id
    for token, text in ((start("s"), "s"), (start("\u2581"), " ")):
        by_ids = score(model, ids, np.array([[token, tokenizer.end_id]]))["scores"]
        by_text = score(model, ["the cat"], [text])["scores"]
        if tokenizer.tokenize(["the cat" + text])[0][: ids.shape[1]] == ids[0].tolist() and text.strip():
            np.testing.assert_allclose(by_text, by_ids, atol=1e-5)


def test_steps_know_the_tokenizer_of_the_export(tokenizer):
    model = Transformer(tokenizer.vocabulary_size + 9, **SIZES, pad_id=tokenizer.pad_id)
    model.generation_config = GenerationConfig(3)
    start = prefill.Task(model, tokenizer).call(source_ids=np.array([[5, 6]]))["token_ids"]
    assert np.asarray(start).tolist() == [[tokenizer.start_id]]
    step = decode.Task(model, tokenizer)
    case = step.cases()[0]
    assert step.reference(case)["logits"].shape[-1] == tokenizer.vocabulary_size


def test_a_model_whose_inputs_have_no_padding_id():
    model = LanguageModel(9, **SIZES, pad_id=-1)
    ids = np.array([[5, 6, 7], [4, 2, 1]])
    free = np.asarray(model.generate(ids, config=GenerationConfig(6, end_id=8, pad_id=0)))
    end = int(free[0, 2])
    model.generation_config = GenerationConfig(6, end_id=end)
    for row, expected in zip(np.asarray(model.generate(ids)).tolist(), free.tolist(), strict=True):
        kept = expected[: expected.index(end) + 1] if end in expected else expected
        assert row == kept + [0] * (6 - len(kept))


def test_references_of_tokens_are_padded_as_outputs_are(tokenizer, tmp_path):
    model = Transformer(tokenizer.vocabulary_size, **SIZES, pad_id=tokenizer.pad_id)
    model.generation_config = GenerationConfig(6, end_id=tokenizer.end_id)
    task = generate_task.Task(model, False)
    made = {"tokens": np.array([[5, 6, tokenizer.end_id, *[tokenizer.pad_id] * 3]])}
    [references, *_] = labelled_data.answers(task, {"source_ids": [[5]]}, [[5, 6, tokenizer.end_id]])
    assert task.score(made, references) == (1, 1)


def test_an_export_longer_than_the_positions_is_refused(tmp_path):
    model = LanguageModel(9, **SIZES, position=LearnedPositionEmbedding(8), generation_config=GenerationConfig(8))
    with pytest.raises(ValueError, match="within the 8 positions of the model"):
        export(model, tmp_path, "onnx", tasks="generate")


def test_text_that_starts_with_padding_needs_the_tokenizer_in_the_constructor(tmp_path):
    tokenizer = BytePairTokenizer.train(TEXTS, 262, add_start=True)
    model = LanguageModel(tokenizer.vocabulary_size, **SIZES, generation_config=GenerationConfig(4))
    with pytest.raises(ValueError, match="must be given to the constructor of the model"):
        model.tokenizer = tokenizer
    with pytest.raises(ValueError, match="must be given to the constructor of the model"):
        export(model, tmp_path, "onnx", tasks="generate", tokenizer=tokenizer)


def test_a_draft_may_lack_the_tokenizer(tokenizer):
    model = LanguageModel(tokenizer.vocabulary_size + 5, **SIZES, tokenizer=tokenizer)
    draft = LanguageModel(tokenizer.vocabulary_size + 5, **SIZES, pad_id=tokenizer.pad_id)
    config = GenerationConfig(4, strategy=SpeculativeDecoding(draft))
    assert model.generate(TEXTS, config=config) == model.generate(TEXTS, max_length=4)
