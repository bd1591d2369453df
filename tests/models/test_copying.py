"""Models with a `PointerGenerator`: copying of tokens that they cannot generate, everywhere they run."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_attn import GenerationConfig, attention_maps
from keras_attn.export import export
from keras_attn.generation import BeamSearch, ContrastiveSearch, Greedy
from keras_attn.layers import AudioFrontEnd, LuongAttention, PointerGenerator, ScheduledSampling
from keras_attn.models import Seq2SeqRNN, Transformer
from keras_attn.text import BytePairTokenizer, CharacterTokenizer
from keras_attn.training import FusedAdam, MaskedCrossEntropy, Trainer

V, E = 12, 8
SOURCE = np.array([[5, 13, 7, 19, 4, 13], [6, 14, 8, 0, 0, 0], [15, 0, 0, 0, 0, 0]])
TARGET = np.array([[2, 13, 5, 19], [2, 6, 14, 3], [2, 15, 15, 9]])


def pointer(size=E, **kwargs):
    return PointerGenerator(size, **{"unknown_id": 3, "coverage_weight": 0.5, **kwargs})


MAKERS = {
    "transformer": lambda size=V, **kwargs: Transformer(
        size, **{"num_layers": 1, "hidden_dim": 32, "num_heads": 2, "intermediate_dim": 64, "dropout": 0.0, **kwargs}
    ),
    "recurrent": lambda size=V, **kwargs: Seq2SeqRNN(
        size, **{"num_layers": 1, "hidden_dim": 32, "cell": "gru", "dropout": 0.0, **kwargs}
    ),
}


@pytest.fixture(params=MAKERS)
def make(request):
    keras.utils.set_random_seed(1)
    return MAKERS[request.param]


def sources(rng, rows):
    """Sources of 6 tokens of which two can only be copied, and the targets: these two, then the end."""
    ids = rng.integers(4, V, (rows, 6), dtype="int32")
    places = np.sort(rng.permuted(np.tile(np.arange(6), (rows, 1)), axis=1)[:, :2], axis=1)
    copied = rng.integers(V, V + E, (rows, 2), dtype="int32")
    np.put_along_axis(ids, places, copied, axis=1)
    return ids, np.concatenate([copied, np.full((rows, 1), 1)], axis=1)


def test_tokens_that_cannot_be_generated_are_learnt(make):
    model, rng = make(pointer_generator=pointer()), np.random.default_rng(0)

    ids, targets = sources(rng, 64 * 300)
    shifted = np.concatenate([np.full((len(ids), 1), 2), targets[:, :-1]], axis=1).astype("int32")
    dataset = tf.data.Dataset.from_tensor_slices(({"source_ids": ids, "target_ids": shifted}, targets)).batch(64)
    Trainer(model, FusedAdam(5e-3), MaskedCrossEntropy()).fit(dataset, 300)
    ids, targets = sources(np.random.default_rng(1), 50)
    for strategy in (Greedy(), BeamSearch(3)):
        config = GenerationConfig(4, start_id=2, end_id=1, pad_id=0, strategy=strategy)
        found = np.asarray(model.generate(ids, config=config))[:, :2]
        assert np.mean(np.all(found == targets[:, :2], axis=1)) >= 0.9


def test_steps_agree_with_the_whole_sequence(make):
    model = make(pointer_generator=pointer())
    model.set_weights([w + np.random.default_rng(0).normal(scale=0.1, size=w.shape) for w in model.get_weights()])
    whole = ops.convert_to_numpy(model({"source_ids": SOURCE, "target_ids": TARGET}))
    np.testing.assert_allclose(np.exp(whole).sum(-1), 1, atol=1e-5)
    cache, memory = model.prefill(SOURCE, length=4)
    for t in range(4):
        logits, cache = model.decode(TARGET[:, t : t + 1], np.full((1, 1), t), cache, memory)
        np.testing.assert_allclose(logits[:, 0], whole[:, t], atol=1e-4)
    # Tokens that are not in the source cannot be copied.
    assert whole[1, :, 13].max() < -27
    assert whole[1, :, 14].min() > -20


def test_a_masked_source_is_not_copied():
    model = MAKERS["transformer"](pointer_generator=pointer())
    mask = np.zeros((1, 4, 6), bool)
    mask[:, :, 1] = True
    found = model({"source_ids": SOURCE[:1], "target_ids": TARGET[:1], "memory_attention_mask": mask})
    assert ops.convert_to_numpy(found)[..., 19].max() < -27
    assert ops.convert_to_numpy(found)[..., 13].min() > -20


def test_a_saved_model_copies(make, tmp_path):
    model = make(pointer_generator=pointer())
    inputs = {"source_ids": SOURCE, "target_ids": TARGET}
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(inputs), model(inputs))
    assert loaded.vocabularies == {"source_ids": V + E, "target_ids": V + E}
    assert set(loaded.alignment_layers()) <= attention_maps(loaded, inputs).keys()
    # Coverage counts in training only.
    assert not loaded.losses
    loaded(inputs, training=True)
    assert len(loaded.losses) == 1


@pytest.mark.parametrize(("kind", "task"), [("transformer", "beam"), ("recurrent", "generate")])
def test_texts_with_copied_pieces_leave_in_every_format(kind, task, tmp_path):
    keras.utils.set_random_seed(1)
    words = "install the xyzzy library for python and the plugh tool"
    tokens = {"start_token": "<s>", "end_token": "</s>", "pad_token": "<pad>"}
    tokenizer = BytePairTokenizer.train([words] * 9, 300, **tokens, add_prefix_space=True)
    config = GenerationConfig(6, strategy=BeamSearch(2))
    options = {"pointer_generator": pointer(12), "tokenizer": tokenizer, "generation_config": config}
    model = MAKERS[kind](tokenizer.vocabulary_size - 12, **options)
    # So that nearly all tokens are copied.
    bias = model.pointer_generator.gate.bias
    bias.assign(bias - 12)
    texts = ["the plugh tool for python", "install xyzzy and the library for the tool"]
    for text, output in zip(texts, model.generate(texts), strict=True):
        assert any(word in text.split() for word in output.split())
    assert export(model, tmp_path, ["saved_model", "tflite", "onnx"], tasks=[task], samples=texts).ok


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MAKERS["transformer"](pointer_generator=LuongAttention()), "must be a PointerGenerator layer"),
        (
            lambda: MAKERS["transformer"](pointer_generator=pointer(), source_vocabulary_size=9),
            "a source of the target",
        ),
        (
            lambda: MAKERS["transformer"](
                pointer_generator=pointer(), embeddings=AudioFrontEnd(32), inputs={"x": keras.Input((None, 5))}
            ),
            "a source of the target",
        ),
        (lambda: MAKERS["recurrent"](pointer_generator=pointer(unknown_id=V)), "`unknown_id` must hold ids"),
        (
            lambda: MAKERS["recurrent"](pointer_generator=pointer(), scheduled_sampling=ScheduledSampling(0.5)),
            "without `scheduled_sampling`",
        ),
        (
            lambda: MAKERS["transformer"](pointer_generator=pointer()).generate(
                SOURCE, config=GenerationConfig(3, end_id=1, strategy=ContrastiveSearch())
            ),
            "`strategy` must be another one for a model with a `pointer_generator`",
        ),
        (
            lambda: MAKERS["transformer"](pointer_generator=pointer()).generate(np.array([[V + E]]), max_length=2),
            "`inputs` must hold ids of the vocabulary, 0 to 19",
        ),
        (
            lambda: MAKERS["transformer"](pointer_generator=pointer(), tokenizer=CharacterTokenizer("abc")),
            "`vocabulary_size` must leave out the tokens that can only be copied",
        ),
    ],
)
def test_what_cannot_copy_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
