import keras
import numpy as np
import pytest

from keras_attn import GenerationConfig, LanguageModel, Seq2SeqRNN, Transformer
from keras_attn.generation import BeamSearch, Greedy, MinLength, Sampling, stream
from keras_attn.generation.streaming import whole_characters
from keras_attn.text import CharacterTokenizer, Tokenizer

SIZES = {"num_layers": 1, "hidden_dim": 12, "num_heads": 3, "intermediate_dim": 19}
IDS = np.array([[5, 6, 7, 8, 9], [10, 11, 12, 0, 0], [4, 0, 0, 0, 0]])


def make(cls=LanguageModel, vocabulary_size=23, **kwargs):
    keras.utils.set_random_seed(7)
    sizes = {"num_layers": 1, "hidden_dim": 15} if cls is Seq2SeqRNN else SIZES
    model = cls(vocabulary_size, **sizes, **kwargs)
    rng = np.random.default_rng(7)
    model.set_weights([w + 0.3 * rng.standard_normal(w.shape) for w in model.get_weights()])
    return model


@pytest.mark.parametrize("cls", [LanguageModel, Transformer, Seq2SeqRNN])
@pytest.mark.parametrize("strategy", [Greedy(), Sampling(3)])
@pytest.mark.parametrize("every", [1, 4])
def test_pieces_are_what_generate_returns(cls, strategy, every):
    model = make(cls)
    config = GenerationConfig(11, strategy=strategy, end_id=22, processors=(MinLength(2),)).resolved()
    pieces = list(stream(model, IDS, config=config, every=every))
    assert all(piece.shape[1] == every for piece in pieces[:-1])
    joined, whole = np.concatenate(pieces, axis=1), model.generate(IDS, config=config)
    np.testing.assert_array_equal(joined, whole[:, : joined.shape[1]])
    assert (whole[:, joined.shape[1] :] == config.pad_id).all()


def test_text_comes_in_pieces():
    tokenizer = CharacterTokenizer("abcdefg ")
    model = make(vocabulary_size=12, tokenizer=tokenizer)
    pieces = list(stream(model, ["abc", "g"], max_length=7))
    assert len(pieces) == 7
    assert ["".join(texts) for texts in zip(*pieces, strict=True)] == model.generate(["abc", "g"], max_length=7)


class Bytes(Tokenizer):
    """Tokens are the bytes of UTF-8."""

    vocabulary_size = 256
    pad_id, end_id = 0, 1

    def tokenize(self, texts):
        return [list(text.encode()) for text in texts]

    def decode(self, rows, after=None):
        return [bytes(int(x) for x in row if x).decode("utf-8", "replace") for row in np.asarray(rows)]


def test_no_piece_holds_half_a_character(monkeypatch):
    model = make(vocabulary_size=256)
    model.tokenizer = Bytes()
    text = "aé€😀b"
    monkeypatch.setattr(Greedy, "choose", lambda self, decoding, fixed, logits, step: _said(text, step))
    config = GenerationConfig(len(text.encode()))
    pieces = [piece[0] for piece in stream(model, ["ab"], config=config)]
    assert "".join(pieces) == text
    assert all("\ufffd" not in piece for piece in pieces)
    assert len(pieces) == len(text.encode())


def _said(text, step):
    table = keras.ops.convert_to_tensor(list(text.encode()) + [1] * 99, "int32")
    return keras.ops.expand_dims(keras.ops.take(table, step), 0)


def test_whole_characters():
    assert whole_characters("ab\ufffd") == "ab"
    assert whole_characters("ab") == "ab"


def test_one_trace_of_the_prompt_serves_all_lengths(monkeypatch):
    model, traces = make(), []
    prefill = model.prefill
    monkeypatch.setattr(model, "prefill", lambda *args, **kwargs: traces.append(1) or prefill(*args, **kwargs))
    for batch, length, tokens in ((3, 5, 4), (1, 4, 7), (2, 3, 3), (3, 2, 5), (1, 1, 9)):
        assert sum(piece.shape[1] for piece in stream(model, IDS[:batch, :length], max_length=tokens)) <= tokens
    assert len(traces) == 1


def test_bad_arguments():
    model = make()
    with pytest.raises(ValueError, match=r"`config` must have a strategy of one sequence.*strategy=BeamSearch"):
        next(stream(model, IDS, config=GenerationConfig(4, strategy=BeamSearch(2))))
    with pytest.raises(ValueError, match=r"`config` must have a strategy of one sequence.*num_sequences=2"):
        next(stream(model, IDS, config=GenerationConfig(4, strategy=Sampling(num_sequences=2))))
    with pytest.raises(ValueError, match=r"`every` must be a positive integer. Received: every=0"):
        next(stream(model, IDS, every=0))


def test_time_runs_out_between_two_pieces():
    model = make()
    config = GenerationConfig(11, end_id=22, processors=(MinLength(10),))
    whole = model.generate(IDS, config=config)
    pieces = list(stream(model, IDS, config=config, every=2, max_time=1e-9))
    assert len(pieces) == 1
    np.testing.assert_array_equal(pieces[0], whole[:, :2])
    assert len(list(stream(model, IDS, config=config, every=2, max_time=1e9))) == 6
    with pytest.raises(ValueError, match=r"`max_time` must be a positive number.*Received"):
        next(stream(model, IDS, config=config, max_time=0))
