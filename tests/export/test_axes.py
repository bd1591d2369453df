"""Axes have one name in ONNX only where the model takes no two sizes for them: runtimes reuse memory by these names."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from onnx_checks import check_axes, empty_constants

from keras_attn import EncoderModel, GenerationConfig, LanguageModel
from keras_attn.export import export, registry
from keras_attn.layers import EncoderBlock, LearnedPositionEmbedding, PatchEmbedding
from keras_attn.text import CharacterTokenizer

SIZES = {"num_layers": 1, "hidden_dim": 8, "num_heads": 2, "intermediate_dim": 8}


def two(outputs, **names):
    left, right = (keras.Input((None, 4), name=name) for name in names.values() or ("source_text", "source_audio"))
    return keras.Model([left, right], outputs(left, right))


def pooled(x):
    return ops.max(x, axis=1)


def forward(model):
    return registry.load("tasks", "forward")(model)


@pytest.mark.parametrize(
    ("outputs", "names"),
    [
        (lambda a, b: pooled(a) + pooled(b), ["batch", "source_text_length", "batch", "source_audio_length"]),
        (lambda a, b: a + b, ["batch", "source_length"] * 2),
        (
            lambda a, b: ops.matmul(pooled(a), ops.transpose(pooled(b))),
            ["source_text_batch", "source_text_length", "source_audio_batch", "source_audio_length"],
        ),
    ],
    ids=["lengths", "none", "rows too"],
)
def test_axes_that_need_not_be_equal_have_names_of_their_own(outputs, names):
    task = forward(two(outputs))
    assert [axis for spec in task.inputs.values() for axis in spec.axes[:2]] == names
    for case in task.cases():
        sizes = dict(zip(names, [size for value in case.values() for size in value.shape[:2]], strict=True))
        assert len(set(sizes.values())) == len(sizes)
    # A name from before they were parted stands for all of them.
    task.fix({"batch": 2, "source_length": 3})
    assert {spec.axes for spec in task.inputs.values()} == {(2, 3, 4)}


def test_an_axis_that_must_be_as_long_as_another_input_has_rows():
    near, nodes = keras.Input(batch_shape=(None, None), name="near"), keras.Input((4,), name="nodes")
    task = forward(keras.Model([near, nodes], ops.matmul(near, nodes)))
    assert {name: spec.axes[0] for name, spec in task.inputs.items()} == {"near": "near_batch", "nodes": "nodes_batch"}
    for case in task.cases():
        (rows, columns), (count, _) = case["near"].shape, case["nodes"].shape
        assert rows != columns == count


def test_axes_that_must_be_equal_are_fixed_together():
    task = forward(two(lambda a, b: a + b, left="left", right="right"))
    assert task.axes == ["batch", "left_length", "right_length"]
    task.fix({"right_length": 5})
    assert [spec.axes for spec in task.inputs.values()] == [("batch", 5, 4)] * 2
    assert {case["left"].shape[1:] for case in task.cases()} == {(5, 4)}


def test_a_model_of_unrelated_lengths(tmp_path):
    import onnxruntime

    def outputs(a, b):
        x = pooled(EncoderBlock(2, 8)(a)) + pooled(b)
        return {"sum": x, "start": a[:, :4], "flat": ops.reshape(b, (-1, 4)), "same": b * 2.0}

    model = two(outputs)
    assert export(model, tmp_path, "onnx", tasks="forward").ok
    for sizes in check_axes(tmp_path, "forward"):
        assert {"start_length", "flat_batch"} < set(sizes)
        inputs = [sizes[name] for name in ("batch", "source_text_length", "source_audio_length")]
        assert len(set(inputs)) == 3
    session = onnxruntime.InferenceSession(tmp_path / "forward.onnx")
    for text, audio in ((4, 9), (9, 4), (1, 30)):
        case = {"source_text": np.ones((2, text, 4), "f"), "source_audio": np.ones((2, audio, 4), "f")}
        answers = dict(zip([x.name for x in session.get_outputs()], session.run(None, case), strict=True))
        for name, value in model(list(case.values())).items():
            np.testing.assert_allclose(answers[name], value, atol=1e-5)


def test_windows_make_no_empty_constants():
    from keras_attn.export.formats.onnx import writer

    model = LanguageModel(9, window=3, generation_config=GenerationConfig(4), **SIZES)
    converted, _ = writer._convert(registry.load("tasks", "prefill")(model))
    assert empty_constants(converted) == []


def image_model():
    image = keras.Input((None, None, 3), name="image")
    x = layers.GlobalAveragePooling1D()(PatchEmbedding(4, 8)(image))
    return keras.Model(image, layers.Dense(2)(x))


def test_sizes_that_a_model_takes_are_found():
    shapes = [case["image"].shape for case in forward(image_model()).cases()]
    assert all(size % 4 == 0 for shape in shapes for size in shape[1:3])
    assert all(height != width for _, height, width, _ in shapes)


def test_made_up_inputs_are_as_long_as_kernels():
    x = keras.Input((None, 2), name="x")
    cases = forward(keras.Model(x, pooled(layers.Conv1D(3, 6, strides=2)(x)))).cases()
    assert min(case["x"].shape[1] for case in cases) >= 6


def test_what_no_made_up_size_fits_says_the_way_out():
    x = keras.Input((None, 2), name="x")
    model = keras.Model(x, layers.Dense(3)(layers.Reshape((199 * 2,))(x)))
    with pytest.raises(ValueError, match=r"`samples` must be arrays .* or `shapes` must fix"):
        forward(model).cases()
    task = forward(model)
    task.fix({"x_length": 199})
    assert [case["x"].shape[1] for case in task.cases()] == [199] * 3


@pytest.mark.parametrize(
    ("task", "tokenizer"),
    [("generate", None), ("classify", None), *((name, False) for name in ("generate", "forward", "encode", "step"))],
)
def test_made_up_inputs_fit_learned_positions(task, tokenizer):
    characters = CharacterTokenizer("abcdefgh ")
    made = {"position": LearnedPositionEmbedding(7), "tokenizer": characters, **SIZES}
    if task in ("classify", "encode"):
        head = {"head": "sequence_classification", "num_classes": 2}
        model = EncoderModel(characters.vocabulary_size, **head, **made)
    else:
        model = LanguageModel(characters.vocabulary_size, generation_config=GenerationConfig(4), **made)
    found = registry.load("tasks", task)(model, tokenizer)
    for case in found.cases():
        found.reference(case)
