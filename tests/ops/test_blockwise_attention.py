import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attn.ops import AttentionMask, blockwise_attention, blockwise_loop, dense_attention
from keras_attn.ops.target import EAGER, tracing_for

B, N, T, S, H, HV = 2, 6, 23, 29, 7, 5


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    """Blocks of at most 8 queries and 5 keys, three heads a step: many of each, and padding in the last."""
    monkeypatch.setattr(sys.modules[blockwise_attention.__module__], "_QUERIES", 8)
    monkeypatch.setattr(blockwise_loop, "QUERIES", 8)
    monkeypatch.setattr(blockwise_loop, "KEYS", 5)
    monkeypatch.setattr(blockwise_loop, "LOGITS", 3 * 8 * 30)


def normal(*shape, seed=0, dtype="float32"):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def bools(*shape, seed=3):
    return np.random.default_rng(seed).random(shape) < 0.5


def lengths(*counts, size):
    return np.arange(size) < np.array(counts)[:, None]


POSITIONS = {"query_positions": np.arange(T)[None], "key_positions": np.arange(S)[None]}
DECODING = {"query_positions": np.array([[4], [20]]) + np.arange(T), "key_positions": np.arange(S)[None]}
SEGMENTS = {"query_segments": np.arange(B * T).reshape(B, T) // 9, "key_segments": np.arange(B * S).reshape(B, S) // 11}
MASKS = {
    "free": None,
    "causal": {**POSITIONS, "causal": True},
    "later": {**DECODING, "causal": True},
    "window": {**POSITIONS, "window": 4},
    "causal_window": {**POSITIONS, "causal": True, "window": 3},
    "sink_tokens": {**POSITIONS, "causal": True, "window": 3, "sink_tokens": 2},
    "padding": {"key_mask": lengths(0, 17, size=S), "query_mask": lengths(23, 19, size=T)},
    "queries": {"query_mask": lengths(0, 19, size=T)},
    "causal_padding": {**POSITIONS, "causal": True, "key_mask": ~lengths(3, 17, size=S)},
    "segments": SEGMENTS,
    "explicit": {"explicit": bools(B, 1, T, S) & (np.arange(T) != 1)[:, None]},
    "explicit_heads": {**POSITIONS, "causal": True, "explicit": bools(1, N, T, S)},
    "explicit_keys": {**SEGMENTS, "explicit": bools(1, 1, 1, S)},
    "explicit_queries": {**POSITIONS, "window": 9, "explicit": bools(B, 1, T, 1)},
}
OPTIONS = {
    "plain": {},
    "scale": {"scale": 0.7},
    "soft_cap": {"logit_soft_cap": 1.5},
    "bias": {"bias": normal(B, N, T, S, seed=1)},
    "bias_pairs": {"bias": normal(T, S, seed=1), "logit_soft_cap": 1.5},
    "bias_keys": {"bias": normal(B, 1, 1, S, seed=1)},
    "bias_queries": {"bias": normal(1, N, T, 1, seed=1)},
    "bias_heads": {"bias": normal(1, N, 1, 1, seed=1)},
    "sinks": {"sinks": normal(N, seed=2), "bias": normal(1, N, T, S, seed=1)},
}


def heads(num_kv_heads=N, dtype="float32"):
    shapes = ((B, N, T, H), (B, num_kv_heads, S, H), (B, num_kv_heads, S, HV))
    return [normal(*shape, seed=i, dtype=dtype) for i, shape in enumerate(shapes)]


def spec(name):
    return None if MASKS[name] is None else AttentionMask(**MASKS[name])


def results(kernel, arrays, options, graph=None, **settings):
    """Output and gradients with respect to heads, bias and sinks; as a `tf.function` with the arguments `graph`."""
    floats = {name: tf.constant(options[name]) for name in ("bias", "sinks") if name in options}
    others = {name: value for name, value in options.items() if name not in floats}
    arrays = [tf.convert_to_tensor(x) for x in arrays]

    def call(arrays, floats):
        return kernel(*arrays, **floats, **others, **settings)

    call = call if graph is None else tf.function(call, autograph=False, **graph)
    with tf.GradientTape() as tape:
        tape.watch([arrays, floats])
        output = call(arrays, floats)
    cotangent = normal(*output.shape, seed=9).astype(output.dtype.as_numpy_dtype)
    return [output, *tape.gradient(output, [*arrays, *floats.values()], cotangent)]


def assert_close(actual, expected, tolerance=1e-5):
    for a, e in zip(actual, expected, strict=True):
        a, e = (np.asarray(tf.cast(x, "float64")) for x in (a, e))
        assert a.shape == e.shape
        np.testing.assert_allclose(a, e, rtol=tolerance, atol=tolerance)


# Every mask and every option, each with some of the others.
GRID = [
    *((mask, "plain", N) for mask in MASKS),
    *((mask, "bias", 2) for mask in MASKS if mask != "explicit_queries"),
    *((mask, option, 1) for mask in ("free", "causal_padding") for option in OPTIONS),
    *(("explicit_heads", option, 2) for option in OPTIONS),
    *(("sink_tokens", option, 3) for option in ("soft_cap", "sinks")),
]


@pytest.mark.parametrize(("mask", "option", "num_kv_heads"), GRID)
def test_equals_dense(mask, option, num_kv_heads):
    arrays, options = heads(num_kv_heads), OPTIONS[option]
    expected = results(dense_attention, arrays, options, mask=spec(mask))
    actual = results(blockwise_attention, arrays, options, graph={}, mask=spec(mask))
    assert_close(actual, expected)


@pytest.mark.parametrize("kernel", [blockwise_attention, dense_attention])
@pytest.mark.parametrize("option", ["plain", "sinks", "bias_pairs"])
@pytest.mark.parametrize("length", [T, 24, 5])
def test_triangles(length, option, kernel, monkeypatch):
    """Positions that are known when a graph is made are treated apart."""
    monkeypatch.setattr(blockwise_loop, "KEYS", 8)
    monkeypatch.setattr(sys.modules[dense_attention.__module__], "_LONG", 8)
    q, k, v = heads(2)
    arrays = [q[:, :, :length], k[:, :, :length], v[:, :, :length]]
    arrays[0] = np.concatenate([arrays[0], normal(B, N, length - arrays[0].shape[2], H)], axis=2)
    options = {name: x[..., :length] if name == "bias" else x for name, x in OPTIONS[option].items()}
    options = {name: np.resize(x, (1, N, length, length)) if name == "bias" else x for name, x in options.items()}
    positions = np.arange(length)[None]
    mask = AttentionMask(query_positions=positions, key_positions=positions, causal=True)
    assert mask.is_triangular
    general = AttentionMask(query_positions=positions, key_positions=tf.constant(positions), causal=True)
    assert not general.is_triangular
    expected = results(dense_attention, arrays, options, mask=general)
    assert_close(results(kernel, arrays, options, graph={}, mask=mask), expected)


@pytest.mark.parametrize("mask", ["free", "causal", "explicit_heads"])
def test_eager_equals_graph(mask):
    options = OPTIONS["sinks"]
    expected = results(blockwise_attention, heads(), options, graph={}, mask=spec(mask))
    assert_close(results(blockwise_attention, heads(), options, mask=spec(mask)), expected, 1e-6)


@pytest.mark.parametrize(
    ("mask", "options"),
    [("free", "plain"), ("causal_padding", "bias"), ("segments", "bias_keys"), ("explicit_heads", "sinks")],
)
def test_lengths_that_are_not_known(mask, options):
    arrays, options = heads(2), OPTIONS[options]
    fields = MASKS[mask] or {}
    tensors = {"q": arrays[0], "k": arrays[1], "v": arrays[2], **options}
    tensors |= {name: np.asarray(x) for name, x in fields.items() if not isinstance(x, bool | int)}
    rest = {name: x for name, x in fields.items() if name not in tensors}
    names = list(tensors)
    shapes = [[size if size in (N, 2, H, HV, 1) else None for size in np.shape(x)] for x in tensors.values()]
    for name in ("q", "k", "v", "bias"):
        if name in names:
            shapes[names.index(name)][0] = None if len(tensors[name]) == B else 1
    signature = [tf.TensorSpec(shape, tf.constant(x).dtype) for shape, x in zip(shapes, tensors.values(), strict=True)]

    @tf.function(autograph=False, input_signature=signature)
    def run(*args):
        given = dict(zip(names, args, strict=True))
        mask = AttentionMask(**rest, **{name: given[name] for name in fields if name in given})
        floats = {name: given[name] for name in ("bias", "sinks") if name in given}
        with tf.GradientTape() as tape:
            sources = [given[name] for name in ("q", "k", "v", *floats)]
            tape.watch(sources)
            output = blockwise_attention(given["q"], given["k"], given["v"], mask=mask, **floats)
        return [output, *tape.gradient(output, sources, normal(B, N, T, HV, seed=9))]

    actual = run(*(tf.constant(x) for x in tensors.values()))
    assert_close(actual, results(dense_attention, arrays, options, mask=spec(mask)))


@pytest.mark.parametrize(
    ("mask", "options"), [("causal", "plain"), ("segments", "bias_pairs"), ("explicit_heads", "sinks")]
)
def test_xla(mask, options):
    arrays, options = heads(2), OPTIONS[options]
    expected = results(dense_attention, arrays, options, mask=spec(mask))
    assert_close(results(blockwise_attention, arrays, options, graph={"jit_compile": True}, mask=spec(mask)), expected)


def test_without_loops():
    with tracing_for(EAGER, has_unequal_loops=False):
        graph = tf.function(blockwise_attention, autograph=False).get_concrete_function(*map(tf.constant, heads()))
    assert not {"While", "StatelessWhile"} & {op.type for op in graph.graph.get_operations()}
    assert_close([graph(*map(tf.constant, heads()))], [dense_attention(*heads())])


@pytest.mark.parametrize("jit_compile", [False, True])
def test_dropout(jit_compile):
    """Every gradient is that of the weights that were dropped: differences tell, since the seed can be drawn again."""
    arrays = heads(2, "float64")
    settings = {"dropout": 0.4, "seed": 5, "training": True}

    @tf.function(autograph=False, jit_compile=jit_compile)
    def run(*arrays):
        return results(blockwise_attention, arrays, {}, mask=spec("causal"), **settings)

    arrays = [tf.constant(x) for x in arrays]
    output, *gradients = run(*arrays)
    assert_close([run(*arrays)[0]], [output], 1e-12)
    exact = dense_attention(*arrays, mask=spec("causal"))
    assert np.abs(output - exact).max() > 0.1
    cotangent, step = normal(*output.shape, seed=9).astype("float64"), 1e-6
    for i, gradient in enumerate(gradients):
        direction = normal(*gradient.shape, seed=7, dtype="float64")
        moves = (step * direction, -step * direction)
        above, below = (run(*arrays[:i], arrays[i] + move, *arrays[i + 1 :])[0] for move in moves)
        numeric = np.sum((above - below) * cotangent) / (2 * step)
        np.testing.assert_allclose(np.sum(gradient * direction), numeric, rtol=1e-6)


def test_dropout_keeps_the_mean_and_differs_between_calls_and_blocks():
    ones = np.ones((200, 1, 16, 20), "float32")
    seed = keras.random.SeedGenerator(1)
    settings = {"dropout": 0.5, "seed": seed, "training": True}
    first, second = (np.asarray(blockwise_attention(ones, ones, ones, **settings)) for _ in range(2))
    assert abs(first.mean() - 1) < 0.02
    assert np.abs(first - second).max() > 0.1
    assert np.abs(first[:, :, :8] - first[:, :, 8:]).max() > 0.1
    np.testing.assert_allclose(blockwise_attention(ones, ones, ones, dropout=0.5, seed=seed), ones, atol=1e-6)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 4e-3), ("bfloat16", 3e-2)])
def test_half_precision(dtype, tolerance):
    arrays = [tf.cast(x, dtype) for x in heads(2)]
    mask = spec("causal_padding")
    expected = results(dense_attention, [tf.cast(x, "float32") for x in arrays], {}, mask=mask)
    actual = results(blockwise_attention, arrays, {}, mask=mask)
    assert {x.dtype.name for x in actual} == {dtype}
    assert_close(actual, expected, tolerance)
    large = results(blockwise_attention, [arrays[0] * 300, arrays[1] * 30, arrays[2]], {}, mask=mask)
    assert all(np.all(np.isfinite(tf.cast(x, "float32"))) for x in large)


@pytest.mark.parametrize("mask", ["padding", "causal_window", "explicit"])
def test_what_is_masked_never_matters(mask):
    q, k, v = heads()
    allowed = np.broadcast_to(spec(mask).materialize(), (B, 1, T, S))[:, 0]
    seen = np.expand_dims(allowed.any(axis=1), (1, 3))
    live = np.expand_dims(allowed.any(axis=2), (1, 3))
    assert not live.all() or not seen.all()
    expected = results(blockwise_attention, (q, k, v), {}, mask=spec(mask))
    k, v = (np.where(seen, x, np.float32(1e30)) for x in (k, v))
    output, dq, dk, dv = actual = results(blockwise_attention, (q, k, v), {}, mask=spec(mask))
    assert_close(actual, expected, 1e-6)
    live, seen = (np.broadcast_to(x, (B, N, *x.shape[2:]))[..., 0] for x in (live, seen))
    assert not np.any(np.asarray(output)[~live])
    assert not np.any(np.asarray(dq)[~live])
    assert not np.any(np.asarray(dk)[~seen])
    assert not np.any(np.asarray(dv)[~seen])


def test_skips_what_a_causal_mask_hides():
    """Keys that every query of the first blocks is before are not even read: they may be anything."""
    q, k, v = heads()
    k = np.where(np.arange(S)[:, None] < 25, k, np.float32(np.nan))
    output = blockwise_attention(q, k, v, mask=spec("causal"))
    assert np.all(np.isfinite(output))


def test_scores_are_refused():
    with pytest.raises(ValueError, match="`return_scores` must be False"):
        blockwise_attention(*heads(), return_scores=True)


@pytest.mark.parametrize("shape", [(2, 1, 1, 9), (1, 1, 9, 1), (1, 2, 1, 1)])
def test_a_mask_that_broadcasts_in_a_graph_that_does_not_know(shape):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 2, 9, 4)).astype("float32")
    explicit = rng.random(shape) < 0.5

    @tf.function(
        autograph=False, input_signature=[tf.TensorSpec([None, 2, None, 4]), tf.TensorSpec([None] * 4, "bool")]
    )
    def attend(x, explicit):
        return blockwise_attention(x, x, x, mask=AttentionMask(explicit=explicit))

    expected = dense_attention(x, x, x, mask=AttentionMask(explicit=explicit))
    np.testing.assert_allclose(attend(x, explicit), expected, rtol=1e-5, atol=1e-6)
