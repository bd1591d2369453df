"""Residual wrappers, blocks and stacks: the harness, and what it cannot see."""

import itertools
import json
from functools import partial

import keras
import numpy as np
import oracle
import pytest
import tensorflow as tf
from attention_cases import cache_inputs, cached
from harness import LayerCase, pairs, run_check
from harness_export import check_export
from samples import DV, D, H, N, embedded, lengths, normal, padded, square, with_memory

from keras_attn import attention_maps
from keras_attn.layers import (
    Decoder,
    DecoderBlock,
    Encoder,
    EncoderBlock,
    FeedForward,
    GatedFeedForward,
    MixtureOfExperts,
    MultiHeadAttention,
    Parallel,
    RelativePositionBias,
    Residual,
    RotaryPositionEncoding,
)
from keras_attn.layers.transformer.placement import deepnorm
from keras_attn.ops.target import EAGER, tracing_for

ROTARY = keras.saving.serialize_keras_object(RotaryPositionEncoding(rotary_dim=6))
SHORTCUT = {"fully_masked": "the shortcut and the biases of a fully masked query remain"}
SCALED = {"residual_options": {"shortcut_scale": 1.7}}
SIZES = {"num_heads": N, "intermediate_dim": DV, "key_dim": H}


def encoder_oracle(weights, inputs, inputs_mask, segments=None, rules=None, **kwargs):
    mask = square(inputs_mask, **(rules or {}))
    if segments is not None:
        mask = mask & (segments[:, None, :, None] == segments[:, None, None, :])
    return oracle.encoder_block(weights, inputs, mask, **kwargs)


def decoder_oracle(weights, inputs, inputs_mask, memory, memory_mask, **kwargs):
    pairs = [inputs_mask[:, None, :, None] & m[:, None, None, :] for m in keras.tree.flatten(memory_mask)]
    memory_mask = tuple(pairs) if isinstance(memory, tuple) else pairs[0]
    return oracle.decoder_block(weights, inputs, memory, square(inputs_mask, causal=True), memory_mask, **kwargs)


NORMS = {"self_attention": "post", "cross_attention": None, "feed_forward": "sandwich"}


def norms_oracle(weights, inputs, inputs_mask, memory, memory_mask):
    """A decoder block of `NORMS`."""
    own = square(inputs_mask, causal=True)
    other = inputs_mask[:, None, :, None] & memory_mask[:, None, None, :]
    attention = oracle.multi_head_attention
    x = oracle.residual(inputs, lambda y: attention(weights[:8], y, y, mask=own)[0], "post", weights[8:10])
    x = oracle.residual(x, lambda y: attention(weights[10:18], y, memory, mask=other)[0], None, [])
    return oracle.residual(x, lambda y: oracle.feed_forward(weights[18:22], y), "sandwich", weights[22:])


def encoder_stack_oracle(weights, inputs, inputs_mask, layers, share_weights=False, final_norm=True, rms=False):
    """`layers`: the settings of each layer's `encoder_oracle`."""

    def block(weights, x, i):
        return encoder_oracle(weights, x, inputs_mask, rms=rms, **layers[i])

    return oracle.stack(block, weights, inputs, len(layers), share_weights, final_norm, rms)


def convolution_oracle(weights, inputs, inputs_mask):
    """Two blocks of 16 weights, a final norm, and a convolution beside the first block with its norm."""
    (first, second), rest = (weights[:16], weights[16:32]), weights[32:]
    final_norm, (kernel, bias), norm = rest[:2], rest[2:4], rest[4:]
    real = np.pad(np.where(inputs_mask[..., None], inputs, 0), ((0, 0), (1, 1), (0, 0)))
    windows = np.stack([real[:, i : i + inputs.shape[1]] for i in range(3)], axis=2)
    branch = np.tanh(np.einsum("btki,kio->bto", windows, kernel) + bias)
    x = encoder_oracle(first, inputs, inputs_mask) + branch
    x = encoder_oracle(second, oracle.layer_norm(x, *norm), inputs_mask)
    return oracle.layer_norm(x, *final_norm)


def decoder_stack_oracle(
    weights, inputs, num_layers, norm="pre", final_norm=True, shortcut_scale=1.0, **inputs_of_block
):
    def block(weights, x, i):
        return decoder_oracle(weights, x, norm=norm, shortcut_scale=shortcut_scale, **inputs_of_block)

    return oracle.stack(block, weights, inputs, num_layers, final_norm=final_norm)


def rotate_six(x):
    return oracle.rotary(x, np.arange(x.shape[2])[None], rotary_dim=6)


def residual_case(norm, oracle_kwargs=None, suffix="", **settings):
    def make(dtype=None, norm=norm, **config):
        return Residual(**{"layer": FeedForward(DV, dtype=dtype), "norm": norm, "dtype": dtype, **settings, **config})

    def truth(weights, inputs):
        scaled = norm in ("rezero", "layerscale")
        gain, own = (weights[0], weights[1:]) if scaled else (1.0, weights)
        return oracle.residual(
            inputs, lambda x: oracle.feed_forward(own[:4], x), norm, own[4:], gain, **(oracle_kwargs or {})
        )

    bad = (
        ({"norm": "middle"}, "`norm` must be 'pre', .* or None.*'middle'"),
        ({"norm_layer": "batch", "norm": "pre", "gain": None}, "`norm_layer` must be one of 'layer', 'rms'.*'batch'"),
        ({"stochastic_depth": 1.0}, r"`stochastic_depth` must be in \[0, 1\)"),
        ({"norm": "deepnorm", "shortcut_scale": None, "gain": None}, "`shortcut_scale` must be given"),
        ({"norm": "pre", "gain": 0.1}, "`gain` must be None with norm='pre'"),
    )
    return LayerCase(f"residual_{norm}{suffix}".lower(), make, embedded, truth, bad=bad)


def block_cache_inputs(rng, B, T, S):
    own = cache_inputs(rng, B, T, S)
    memory_cache = (normal(rng, B, N, S, H), normal(rng, B, N, S, H))
    memory = {"memory_cache": memory_cache, "memory_mask": lengths(B, S)}
    return {"inputs": own["query"], "positions": own["positions"], "cache": own["cache"], **memory}


def block_cache_oracle(weights, inputs, positions, cache, memory_cache, memory_mask):
    def self_attention(x):
        nonlocal cache
        context, cache = cached(weights, x, positions, cache)
        return np.einsum("bnth,nhd->btd", context, weights[6]) + weights[7]

    def cross_attention(x):
        q = np.einsum("btd,dnh->bnth", x, weights[10]) + weights[11][:, None]
        context, _ = oracle.attention(q, *memory_cache, memory_mask[:, None, None])
        return np.einsum("bnth,nhd->btd", context, weights[16]) + weights[17]

    x = oracle.residual(inputs, self_attention, "pre", weights[8:10])
    x = oracle.residual(x, cross_attention, "pre", weights[18:20])
    return oracle.residual(x, lambda y: oracle.feed_forward(weights[20:24], y), "pre", weights[24:]), cache


def parallel_cache_inputs(rng, B, T, S):
    own = cache_inputs(rng, B, T, S)
    return {"inputs": own["query"], "positions": own["positions"], "cache": own["cache"]}


def parallel_cache_oracle(weights, inputs, positions, cache):
    def both(x):
        nonlocal cache
        context, cache = cached(weights, x, positions, cache)
        attended = np.einsum("bnth,nhd->btd", context, weights[6]) + weights[7]
        return attended + oracle.feed_forward(weights[8:12], x)

    return oracle.residual(inputs, both, "pre", weights[12:]), cache


def packed(rng, B, T, S):
    return {**padded(rng, B, T, S), "segments": np.tile(np.arange(T, dtype="int32") // 2, (B, 1))}


def two_memories(rng, B, T, S):
    """The second memory is longer and wider, and padded elsewhere."""
    first = with_memory(rng, B, T, S)
    masks = first["memory_mask"], lengths(B, S + 2)[::-1]
    return {**first, "memory": (first["memory"], normal(rng, B, S + 2, 19)), "memory_mask": masks}


def encoder_case(name, oracle_kwargs=None, bad=(), inputs=padded, **config):
    make = partial(EncoderBlock, **{**SIZES, **config})
    truth = partial(encoder_oracle, **(oracle_kwargs or {}))
    return LayerCase(f"encoder_{name}", make, inputs, truth, {"inputs": "inputs_mask"}, bad, SHORTCUT)


def decoder_case(norm, oracle_kwargs=None, **config):
    return LayerCase(
        f"decoder_{norm}",
        partial(DecoderBlock, norm=norm, **SIZES, **config),
        with_memory,
        partial(decoder_oracle, norm=norm, **(oracle_kwargs or {})),
        {"inputs": "inputs_mask", "memory": "memory_mask"},
        (
            ({"memory": None}, "`memory`"),
            ({"cross_attention": False}, "`memory`"),
            (
                {"parallel": True, "norm": "pre", "residual_options": None},
                "`parallel` must be False with `cross_attention`",
            ),
            ({"memory_mask": np.ones((2, 4), "bool")}, "mask`"),
            ({"inputs": np.ones((2, D), "float32")}, "`inputs`|`query`"),
        ),
        SHORTCUT,
    )


def stack_case(name, layers, bad=(), share_weights=False, final_norm=True, rms=False, **config):
    make = partial(Encoder, num_layers=len(layers), share_weights=share_weights, **SIZES, **config)
    truth = partial(encoder_stack_oracle, layers=layers, share_weights=share_weights, final_norm=final_norm, rms=rms)
    return LayerCase(f"encoder_stack_{name}", make, padded, truth, {"inputs": "inputs_mask"}, bad, SHORTCUT)


def decoder_stack_case(name, oracle_kwargs=None, **config):
    return LayerCase(
        f"decoder_stack_{name}",
        partial(Decoder, num_layers=2, **SIZES, **config),
        with_memory,
        partial(decoder_stack_oracle, num_layers=2, **(oracle_kwargs or {})),
        {"inputs": "inputs_mask", "memory": "memory_mask"},
        (({"memory": None}, "`memory`"), ({"caches": ()}, "`caches` must hold 2 pairs, one per layer")),
        SHORTCUT,
    )


RESIDUALS = [
    *map(residual_case, ("pre", "post", "sandwich", "res_post", None, "rezero")),
    residual_case("deepnorm", {"shortcut_scale": 1.7}, shortcut_scale=1.7),
    residual_case("layerscale", gain=0.1),
    residual_case("pre", {"rms": True}, "_rms", norm_layer="rms"),
    residual_case("sandwich", {"rms": True, "shortcut_scale": 0.3}, "_rms", norm_layer="rms", shortcut_scale=0.3),
    residual_case("post", {"shortcut_scale": 0}, "_branch_only", shortcut_scale=0),
]

BLOCKS = [
    LayerCase(
        "parallel",
        lambda dtype=None, **config: Parallel(FeedForward(DV, dtype=dtype), FeedForward(7, dtype=dtype), dtype=dtype),
        embedded,
        lambda weights, inputs: oracle.feed_forward(weights[:4], inputs) + oracle.feed_forward(weights[4:], inputs),
    ),
    encoder_case(
        "pre",
        bad=(
            ({"key_dim": None}, "`num_heads` must divide"),
            ({"norm": "middle"}, "`norm`"),
            ({"norm": "deepnorm"}, "`shortcut_scale`"),
            ({"intermediate_dim": None}, "`intermediate_dim` must be a positive integer"),
            ({"feed_forward": FeedForward(DV)}, "`feed_forward` must be a Keras layer"),
            ({"feed_forward": "gated", "intermediate_dim": None}, "`feed_forward` must be a Keras layer"),
            ({"parallel": "three"}, "`parallel` must be False, True or 'two_norms'"),
            ({"parallel": "two_norms", "norm": "post"}, "`parallel='two_norms'` goes with"),
            ({"inputs": np.ones((2, D), "float32")}, "`inputs`|`query`"),
            ({"inputs_mask": np.ones((2, 4), "bool")}, "mask`"),
        ),
    ),
    encoder_case("post", {"norm": "post", "activation": "gelu"}, norm="post", activation="gelu"),
    encoder_case("sandwich", {"norm": "sandwich"}, norm="sandwich"),
    encoder_case("unnormed_window", {"norm": None, "rules": {"window": 2}}, norm=None, window=2),
    encoder_case("rotary", {"rotate": rotate_six}, position=ROTARY),
    encoder_case(
        "rms_deepnorm",
        {"norm": "deepnorm", "rms": True, "shortcut_scale": 1.7},
        norm="deepnorm",
        norm_layer="rms",
        init_gain=0.5,
        **SCALED,
    ),
    encoder_case("rezero", {"norm": "rezero"}, norm="rezero"),
    encoder_case("layerscale", {"norm": "layerscale"}, norm="layerscale"),
    encoder_case("parallel", {"parallel": True}, parallel=True),
    encoder_case(
        "parallel_layerscale_rms",
        {"parallel": True, "norm": "layerscale", "rms": True, "activation": "gelu"},
        parallel=True,
        norm="layerscale",
        norm_layer="rms",
        activation="gelu",
    ),
    encoder_case("two_norms", {"parallel": "two_norms"}, parallel="two_norms"),
    encoder_case(
        "template",
        {"activation": "gelu"},
        intermediate_dim=None,
        feed_forward=keras.saving.serialize_keras_object(FeedForward(DV, activation="gelu")),
    ),
    encoder_case(
        "attention_template",
        {"rotate": rotate_six},
        num_heads=None,
        key_dim=None,
        attention=keras.saving.serialize_keras_object(MultiHeadAttention(N, H)),
        position=ROTARY,
    ),
    encoder_case("packed", inputs=packed, remat=True),
    *map(decoder_case, ("pre", "post", "sandwich", "layerscale")),
    decoder_case("deepnorm", {"shortcut_scale": 1.7}, **SCALED),
    LayerCase(
        "decoder_only",
        partial(DecoderBlock, cross_attention=False, position=ROTARY, **SIZES),
        padded,
        partial(encoder_oracle, rules={"causal": True}, rotate=rotate_six),
        {"inputs": "inputs_mask"},
        (({"memory": np.ones((2, 7, DV), "float32")}, "`memory`"),),
        SHORTCUT,
    ),
    LayerCase(
        "decoder_memories",
        partial(DecoderBlock, **SIZES),
        two_memories,
        decoder_oracle,
        {"inputs": "inputs_mask", "memory_0": "memory_mask_0", "memory_1": "memory_mask_1"},
        exempt=SHORTCUT,
    ),
    LayerCase(
        "decoder_norms",
        partial(DecoderBlock, norm=NORMS, **SIZES),
        with_memory,
        norms_oracle,
        {"inputs": "inputs_mask", "memory": "memory_mask"},
        (
            ({"norm": {"self_attention": "pre", "feed_forward": "pre"}}, "`norm` must be one for all sub-layers, or"),
            ({"cross_attention": False}, "`norm` must be one for all .* from 'self_attention', 'feed_forward'"),
            ({"norm": {**NORMS, "pooling": "pre"}}, "`norm` must be one for all"),
            ({"norm": {**NORMS, "self_attention": "deepnorm"}}, "`norm` must be 'deepnorm' for all sub-layers or for"),
            ({"norm": {**NORMS, "self_attention": "middle"}}, "`norm` must be 'pre', .*'middle'"),
            ({"parallel": True}, "`norm` must be the same for both sub-layers with `parallel`"),
        ),
        SHORTCUT,
    ),
    LayerCase("decoder_cache", partial(DecoderBlock, **SIZES), block_cache_inputs, block_cache_oracle),
    LayerCase(
        "decoder_parallel_cache",
        partial(DecoderBlock, cross_attention=False, parallel=True, **SIZES),
        parallel_cache_inputs,
        parallel_cache_oracle,
    ),
]

PLAIN = {}
CONVOLUTION = keras.saving.serialize_keras_object(keras.layers.Conv1D(D, 3, padding="same", activation="tanh"))
STACKS = [
    stack_case(
        "pre",
        [{"rules": {"window": 2}}, PLAIN, {"rules": {"window": 2}}],
        layer_options=[{"window": 2}, {}],
        bad=(
            ({"num_layers": 0}, "`num_layers` must be a positive integer"),
            ({"norm": "middle"}, "`norm`"),
            ({"share_weights": True}, "`layer_options` must be None with `share_weights`"),
            ({"share_weights": [0, 1]}, "`share_weights` must be a bool, or a list .* of 3 layers"),
            ({"share_weights": [0, 2, 2]}, "`share_weights` must be a bool, or a list"),
            ({"share_weights": 1}, "`share_weights` must be a bool, or a list"),
            ({"layer_options": [{}] * 4}, "`layer_options` must have at most an entry for each of 3 layers"),
            ({"depth": 3}, "Unrecognized keyword arguments .*depth"),
        ),
    ),
    stack_case("shared", [{"norm": "post"}] * 3, share_weights=True, norm="post", final_norm=False),
    stack_case("shared_groups", [PLAIN] * 4, share_weights=[0, 1, 0, 1]),
    stack_case("shared_rms", [PLAIN] * 2, share_weights=True, rms=True, norm_layer="rms"),
    LayerCase(
        "encoder_stack_convolution",
        partial(
            Encoder, num_layers=2, convolution=keras.layers.Conv1D(D, 3, padding="same", activation="tanh"), **SIZES
        ),
        padded,
        convolution_oracle,
        {"inputs": "inputs_mask"},
        exempt={**SHORTCUT, "int8": "Keras quantises no convolution"},
    ),
    stack_case("deepnorm", [{"norm": "deepnorm", "shortcut_scale": 2**0.5}] * 2, norm="deepnorm", final_norm=False),
    decoder_stack_case("pre"),
    decoder_stack_case(
        "deepnorm", {"norm": "deepnorm", "final_norm": False, "shortcut_scale": 6**0.25}, norm="deepnorm"
    ),
]

CASES = [*RESIDUALS, *BLOCKS, *STACKS]


@pytest.mark.parametrize(("check", "case"), pairs(CASES))
def test_layer(check, case, tmp_path):
    run_check(check, case, tmp_path)


@pytest.mark.parametrize("format_name", ["saved_model", "tflite", "onnx"])
def test_export(format_name, tmp_path):
    check_export(CASES, format_name, tmp_path)


def example(T=5, B=2):
    return np.random.default_rng(0).normal(size=(B, T, 12)).astype("float32")


def made(cls, *args, x=None, **kwargs):
    """A layer, built, with random weights."""
    layer = cls(*args, **kwargs)
    layer(example() if x is None else x)
    rng = np.random.default_rng(0)
    layer.set_weights([rng.normal(scale=0.3, size=w.shape) for w in layer.get_weights()])
    return layer


def test_rezero_and_layerscale_begin_as_the_identity_or_close_to_it():
    x = example()
    np.testing.assert_array_equal(Residual(FeedForward(7), "rezero")(x), x)
    scaled = Residual(FeedForward(7), "layerscale")
    assert 0 < np.abs(scaled(x) - x).max() < 1e-4
    np.testing.assert_array_equal(scaled.gain, np.full(12, 1e-5, "float32"))
    np.testing.assert_array_equal(Residual(FeedForward(7), "layerscale", gain=0.5)(x) - x != 0, True)


def test_a_rezero_branch_learns_its_scale_from_the_first_step():
    residual = made(Residual, FeedForward(7), "rezero", gain=0.0)
    residual.gain.assign(0.0)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(residual(example()) ** 2)
    assert tape.gradient(loss, residual.gain.value) != 0


@pytest.mark.parametrize("norm", ["pre", "sandwich", "layerscale"])
def test_stochastic_depth_drops_whole_samples_and_scales_the_others(norm):
    x = example(B=400)
    residual = made(Residual, FeedForward(7), norm, stochastic_depth=0.25, seed=3, x=x)
    branch = np.asarray(residual(x)) - x
    trained = np.asarray(residual(x, training=True)) - x
    dropped = np.abs(trained).max((1, 2)) == 0
    assert 0.18 < dropped.mean() < 0.32
    np.testing.assert_allclose(trained[~dropped], branch[~dropped] / 0.75, rtol=1e-3, atol=1e-5)
    again = np.abs(np.asarray(residual(x, training=True)) - x).max((1, 2)) == 0
    assert (dropped != again).any()


def test_stochastic_depth_grows_linearly_with_depth():
    encoder = Encoder(4, 3, 7, stochastic_depth=0.2)
    np.testing.assert_allclose([block.stochastic_depth for block in encoder.blocks], [0.05, 0.1, 0.15, 0.2])
    assert Encoder(4, 3, 7, stochastic_depth=0.2, share_weights=True).blocks[0].stochastic_depth == 0.2
    assert Encoder(2, 3, 7, layer_options=[{"stochastic_depth": 0.3}]).blocks[0].stochastic_depth == 0.3


@pytest.mark.parametrize(
    ("last", "has_final_norm"), [("pre", True), ("sandwich", True), ("post", False), (None, False)]
)
def test_the_last_norm_of_a_stack_follows_that_of_the_networks(last, has_final_norm, tmp_path):
    norm = {"self_attention": "rezero", "feed_forward": last}
    encoder = made(Encoder, 2, 3, 7, norm=norm)
    assert (encoder.final_norm is not None) == has_final_norm
    assert {block.self_attention.norm for block in encoder.blocks} == {"rezero"}
    stack = Encoder(2, 3, 7, norm=norm, final_norm=not has_final_norm)
    assert (stack.final_norm is None) == has_final_norm
    inputs = keras.Input((None, 12))
    model = keras.Model(inputs, encoder(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(example()), model(example()))


def test_sublayers_and_layers_drop_different_numbers():
    encoder = made(
        Encoder, 2, 3, 12, dropout=0.5, attention_dropout=0.5, activation_dropout=0.5, stochastic_depth=0.5, seed=7
    )
    seeds = [
        layer.seed_generator._initial_seed
        for layer in encoder._flatten_layers()
        if getattr(layer, "seed_generator", None) is not None
    ]
    assert len(seeds) == 2 * (2 * 2 + 2) == len(set(seeds))


def test_deepnorm_has_the_constants_of_the_paper():
    encoder = Encoder(18, 3, 7, norm="deepnorm")
    assert encoder.blocks[3].residual_options == {"shortcut_scale": (2 * 18) ** 0.25}
    assert encoder.blocks[3].init_gain == (8 * 18) ** -0.25
    decoder = Decoder(6, 3, 7, norm="deepnorm")
    assert decoder.blocks[0].residual_options == {"shortcut_scale": (3 * 6) ** 0.25}
    assert decoder.blocks[0].init_gain == (12 * 6) ** -0.25
    alone = Decoder(6, 3, 7, norm="deepnorm", cross_attention=False)
    assert alone.blocks[0].init_gain == (8 * 6) ** -0.25
    behind, _ = deepnorm(18, 6)
    np.testing.assert_allclose(behind["residual_options"]["shortcut_scale"], 0.81 * (18**4 * 6) ** (1 / 16))
    np.testing.assert_allclose(behind["init_gain"], 0.87 * (18**4 * 6) ** (-1 / 16))


@pytest.mark.parametrize("feed_forward", [None, GatedFeedForward(300, use_bias=False)])
def test_init_gain_is_on_values_outputs_and_the_network_alone(feed_forward):
    x = np.ones((1, 2, 256), "float32")
    ratios = {}
    for gain in (1.0, 0.25):
        width = 300 if feed_forward is None else None
        block = DecoderBlock(4, width, feed_forward=feed_forward, init_gain=gain)
        block(x, x)
        for weight in block.weights:
            if weight.path.endswith("kernel"):
                name = weight.path.partition("/")[2]
                ratios[name] = np.std(weight) / ratios.get(name, 1.0)
    assert len(ratios) >= 10
    for name, ratio in ratios.items():
        kept = "attention/query" in name or "attention/key" in name
        np.testing.assert_allclose(ratio, 1.0 if kept else 0.25, rtol=0.05, err_msg=name)


def test_blocks_clone_a_template_and_never_touch_it():
    template = GatedFeedForward(7, use_bias=False, name="mine")
    encoder = made(Encoder, 2, 3, feed_forward=template, dtype="mixed_bfloat16")
    assert not template.built
    networks = [block.feed_forward.layer for block in encoder.blocks]
    assert [type(network) for network in networks] == [GatedFeedForward] * 2
    assert networks[0] is not networks[1]
    assert all(n.compute_dtype == "bfloat16" and n.intermediate_dim == 7 and not n.use_bias for n in networks)
    assert template not in encoder._flatten_layers()


@pytest.mark.parametrize("remat", [False, True])
@pytest.mark.parametrize("parallel", [False, True])
def test_a_mixture_of_experts_sees_the_mask_and_its_losses_arrive(parallel, remat):
    x = example()
    block = made(EncoderBlock, 3, feed_forward=MixtureOfExperts(4, 7), parallel=parallel, remat=remat)
    mask = np.array([[True] * 3 + [False] * 2, [True] * 5])
    garbage = np.where(mask[..., None], x, 5.0).astype("float32")
    losses = []
    for inputs in (x, garbage):
        block(inputs, inputs_mask=mask, training=True)
        losses.append([float(loss) for loss in block.losses])
    assert len(losses[0]) == 2
    np.testing.assert_allclose(*losses, rtol=1e-6)


def test_a_decoder_of_several_memories_goes_on_from_caches():
    decoder = Decoder(2, num_heads=2, intermediate_dim=7, remat=True)
    arguments = two_memories(np.random.default_rng(0), 2, 5, 7)
    x = arguments.pop("inputs")[..., :12]
    arguments["inputs_mask"] = None
    expected = decoder(x, **arguments)
    np.testing.assert_allclose(decoder(x, **arguments, training=True), expected, atol=1e-6)
    options = {"memory_caches": decoder.project_memory(arguments["memory"]), "memory_mask": arguments["memory_mask"]}
    caches, pieces = decoder.empty_caches(batch=2, length=5), []
    for t in range(5):
        piece, caches = decoder(x[:, t : t + 1], positions=np.array([[t]]), caches=caches, **options)
        pieces.append(piece)
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), expected, atol=1e-5)
    with pytest.raises(ValueError, match="`memory` must be a tuple of 2, one per memory"):
        decoder(x, arguments["memory"][:1])


def test_options_reach_the_attention_they_are_for():
    block = DecoderBlock(
        4, 7, num_kv_heads=2, attention_options={"qk_norm": True}, cross_attention_options={"logit_soft_cap": 5.0}
    )
    block(np.ones((1, 2, 12), "float32"), np.ones((1, 3, 12), "float32"))
    own, other = block.self_attention.layer, block.cross_attention.layer
    assert (own.qk_norm, own.logit_soft_cap, own.causal, own.num_kv_heads) == (True, None, True, 2)
    assert (other.qk_norm, other.logit_soft_cap, other.causal, other.num_kv_heads) == (False, 5.0, False, 2)
    with pytest.raises(ValueError, match=r"MultiHeadAttention.*magic"):
        EncoderBlock(3, 7, attention_options={"magic": 1})(example())


@pytest.mark.parametrize(
    "config",
    [
        {
            "norm_layer": "rms",
            "norm": "sandwich",
            "layer_options": [{"window": 2}, {"position": RotaryPositionEncoding()}],
        },
        {
            "position": RelativePositionBias(3),
            "attention_options": {"kernel_initializer": "he_normal", "qk_norm": True},
        },
        {
            "feed_forward": GatedFeedForward(7),
            "intermediate_dim": None,
            "share_weights": True,
            "dtype": "mixed_float16",
        },
        {"norm": "deepnorm", "remat": True, "activation": "gelu", "trainable": False, "name": "mine"},
    ],
)
@pytest.mark.parametrize("cls", [Encoder, Decoder])
def test_a_stack_in_a_file_is_the_stack(cls, config, tmp_path):
    config = {"intermediate_dim": 7, **config, **({"cross_attention": False} if cls is Decoder else {})}
    layer = made(cls, 2, 3, **config)
    clone = cls.from_config(json.loads(json.dumps(layer.get_config())))
    assert json.dumps(clone.get_config()) == json.dumps(layer.get_config())
    inputs = keras.Input((None, 12))
    model = keras.Model(inputs, layer(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(example()), model(example()))
    assert json.dumps(loaded.layers[1].get_config()) == json.dumps(layer.get_config())


def test_a_position_of_a_stack_has_one_table_for_all_layers():
    encoder = made(Encoder, 3, 3, 7, position=RelativePositionBias(3))
    tables = [w for w in encoder.weights if w.name == "relative_embeddings"]
    assert len(tables) == 1
    assert len({id(block.self_attention.layer.position) for block in encoder.blocks}) == 1
    clone = Encoder.from_config(encoder.get_config())
    clone(example())
    assert len(clone.weights) == len(encoder.weights)


def test_shared_weights_are_those_of_one_layer():
    one, shared = made(Encoder, 1, 3, 7), made(Encoder, 4, 3, 7, share_weights=True)
    assert one.count_params() == shared.count_params()
    inputs = keras.Input((5, 12))
    maps = attention_maps(keras.Model(inputs, shared(inputs)), example())
    assert len(maps) == 4
    assert len({scores.tobytes() for scores in maps.values()}) == 4


@pytest.mark.parametrize("share_weights", [False, True])
@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("policy", ["select", "slice", "in_place", "concat"])
def test_cached_is_uncached(share_weights, parallel, policy):
    x = example(T=7)
    memory, memory_mask = example(T=3) * 2, np.array([[True, True, False], [True] * 3])
    settings = {"num_kv_heads": 1, "norm": "pre", "norm_layer": "rms", "position": RotaryPositionEncoding()}
    decoder = Decoder(3, 3, 7, share_weights=share_weights, parallel=parallel, cross_attention=not parallel, **settings)
    given = {} if parallel else {"memory": memory, "memory_mask": memory_mask}
    decoder(x, **given)
    rng = np.random.default_rng(4)
    decoder.set_weights([rng.normal(scale=0.3, size=w.shape) for w in decoder.get_weights()])
    whole = decoder(x, **given)
    if not parallel:
        given = {"memory_caches": decoder.project_memory(memory), "memory_mask": memory_mask}
    caches, pieces = decoder.empty_caches(2, 0 if policy == "concat" else 7), []
    with tracing_for(EAGER, cache_writes=policy):
        for start, stop in ((0, 4), (4, 5), (5, 7)):
            positions = np.arange(start, stop, dtype="int32")[None]
            piece, caches = decoder(x[:, start:stop], positions=positions, caches=caches, **given)
            pieces.append(piece)
    assert len(caches) == 3
    assert caches[0][0].shape == (2, 1, 7, 4)
    np.testing.assert_allclose(np.concatenate(pieces, 1), whole, atol=1e-5)


def test_a_packed_row_is_its_sequences_apart():
    decoder = Decoder(2, 3, 7, position=RotaryPositionEncoding())
    x, memory = example(T=5, B=1), example(T=4, B=1) + 1
    decoder(x, memory)
    apart = [decoder(x[:, a:b], memory[:, c:d]) for a, b, c, d in ((0, 2, 0, 3), (2, 5, 3, 4))]
    together = decoder(
        x,
        memory,
        positions=np.array([[0, 1, 0, 1, 2]]),
        segments=np.array([[0, 0, 1, 1, 1]]),
        memory_segments=np.array([[0, 0, 0, 1]]),
    )
    np.testing.assert_allclose(together, np.concatenate(apart, 1), atol=1e-5)


@pytest.mark.parametrize("cls", [Encoder, Decoder])
def test_symbolic_stacks(cls):
    x = keras.KerasTensor((None, None, 12))
    own = {"cross_attention": False} if cls is Decoder else {}
    stack = cls(2, 3, 7, **own)
    assert stack(x).shape == (None, None, 12)
    if cls is Decoder:
        caches = tuple((keras.KerasTensor((None, 3, 9, 4)),) * 2 for _ in range(2))
        output, new = stack(x, positions=keras.KerasTensor((None, None), "int32"), caches=caches)
        assert output.shape == (None, None, 12)
        assert [[cache.shape for cache in pair] for pair in new] == [[(None, 3, 9, 4)] * 2] * 2


DROPPING = {"dropout": 0.5, "attention_dropout": 0.3, "activation_dropout": 0.2, "stochastic_depth": 0.5, "seed": 3}


CONFIGS = {"plain": {}, "dropping": DROPPING, "biased": {"position": True}, "parallel": {"parallel": True, **DROPPING}}


@pytest.mark.parametrize(
    ("name", "mode"),
    [*itertools.product(CONFIGS, ["eager", "graph"]), ("dropping", "xla"), ("biased", "xla")],
)
def test_remat_changes_no_gradient(name, mode):
    config = CONFIGS[name]
    x, memory = tf.constant(example()), tf.constant(example(T=3) + 1)
    mask, cross = np.array([[True] * 3 + [False] * 2, [True] * 5]), not config.get("parallel")
    bias = tf.constant(np.random.default_rng(1).normal(size=(2, 3, 5, 5)).astype("float32"))
    results = []
    for remat in (False, True):
        position = {"position": RelativePositionBias(3)} if "position" in config else {}
        decoder = Decoder(2, 3, 7, cross_attention=cross, remat=remat, **{**config, **position})
        decoder(x, *([memory] if cross else []))
        rng = np.random.default_rng(2)
        for weight in decoder.trainable_weights:
            weight.assign(rng.normal(scale=0.3, size=weight.shape))

        def step(decoder=decoder):
            with tf.GradientTape() as tape:
                tape.watch([x, memory, bias])
                extra = {"memory": memory} if cross else {}
                y = decoder(x, inputs_mask=mask, bias=bias, training=True, **extra)
                loss = tf.reduce_sum(tf.math.sin(y))
            sources = [x, bias, *([memory] if cross else []), *(w.value for w in decoder.trainable_weights)]
            return [loss, *map(tf.convert_to_tensor, tape.gradient(loss, sources))]

        run = step if mode == "eager" else tf.function(step, jit_compile=mode == "xla", autograph=False)
        # The second call must draw other numbers than the first, and the same with and without `remat`.
        results.append([run(), run()])
    for plain, again in zip(*results, strict=True):
        for a, b in zip(plain, again, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    losses = [float(call[0]) for call in results[1]]
    assert (losses[0] != losses[1]) == ("dropout" in config)


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16"])
def test_remat_in_fit_is_fit(dtype):
    x = example(B=8)
    weights = []
    for remat in (False, True):
        keras.utils.set_random_seed(5)
        inputs = keras.Input((None, 12))
        hidden = Encoder(2, 3, 7, remat=remat, dtype=dtype, **DROPPING)(keras.layers.Masking()(inputs))
        model = keras.Model(inputs, keras.layers.Dense(1, dtype="float32")(hidden))
        model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
        model.fit(x, x[..., :1], epochs=2, batch_size=4, verbose=0, shuffle=False)
        weights.append(model.get_weights())
    tolerance = 1e-5 if dtype == "float32" else 2e-3
    for a, b in zip(*weights, strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance)


def test_remat_keeps_less_for_the_gradient():
    """Counts the numbers that the forward half of a graph hands to the backward half."""
    kept, x = {}, tf.constant(example(T=64))
    for remat in (False, True):
        encoder = Encoder(2, 3, 48, remat=remat)
        encoder(x)
        function = tf.function(lambda x, e=encoder: e(x, training=True), autograph=False).get_concrete_function(x)
        forward, _ = function._delayed_rewrite_functions.forward_backward(1)
        kept[remat] = sum(np.prod(tensor.shape) for tensor in forward.graph.outputs)
    assert kept[True] < kept[False] / 5
