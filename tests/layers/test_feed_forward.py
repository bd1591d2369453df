"""Feed-forward networks: plain, gated, and mixtures of experts."""

import dataclasses
from functools import partial

import keras
import numpy as np
import oracle
import pytest
import tensorflow as tf
from harness import LayerCase, pairs, run_check
from harness_export import check_export
from samples import DV, D, embedded, lengths, normal, padded

from keras_attn.layers import FeedForward, GatedFeedForward, MixtureOfExperts
from keras_attn.ops import load_balancing_loss, quick_gelu, router_z_loss

E, F = 7, 5


def small(rng, B, T, S):
    """A product of two projections grows with the square of its inputs: 64 times one would leave float16."""
    return {"inputs": normal(rng, B, T, D) / 4}


def small_padded(rng, B, T, S):
    return {**padded(rng, B, T, S), **small(rng, B, T, S)}


def gated_case(activation, inputs=small, **config):
    return LayerCase(
        f"gated_feed_forward_{activation}",
        partial(GatedFeedForward, intermediate_dim=DV, activation=activation, **config),
        inputs,
        lambda weights, inputs: oracle.gated_feed_forward(weights, inputs, activation),
        bad=(({"intermediate_dim": 0}, "`intermediate_dim`"), ({"output_dim": 2.0}, "`output_dim`")),
    )


def unbiased_oracle(weights, inputs):
    gate, up, output = weights
    return oracle.gated_feed_forward([gate, 0, up, 0, output, 0], inputs)


def experts_oracle(
    weights, inputs, inputs_mask=True, top_k=2, gated=True, use_bias=False, activation="silu", gate=None, **kwargs
):
    """`weights` in the layer's order: router, output biases, expansions `(D, E, F)`, `(E, F)`, output `(E, F, D)`."""
    router, output_bias, *expansions, output = weights if use_bias else [weights[0], np.zeros((E, D)), *weights[1:]]
    if not use_bias:
        expansions = [w for kernel in expansions for w in (kernel, np.zeros((E, F)))]
    network = partial(oracle.gated_feed_forward if gated else oracle.feed_forward, activation=activation, **gate or {})
    experts = [partial(network, [*(w[..., e, :] for w in expansions), output[e], output_bias[e]]) for e in range(E)]
    mask = np.broadcast_to(inputs_mask, inputs.shape[:2])
    return oracle.mixture_of_experts(router, experts, inputs, mask, top_k, **kwargs)


def routed_oracle(weights, inputs):
    """The experts of GPT-OSS, with a limit that is reached."""
    router, router_bias, *weights = weights
    options = {"use_bias": True, "activation": "quick_gelu", "gate": {"limit": 0.4, "offset": 1.0}}
    return experts_oracle([router, *weights], inputs, router_bias=router_bias, **options)


def experts_case(name, oracle_kwargs=None, inputs=small_padded, bad=(), **config):
    return LayerCase(
        f"experts_{name}",
        partial(MixtureOfExperts, num_experts=E, intermediate_dim=F, **config),
        inputs,
        partial(experts_oracle, **(oracle_kwargs or {})),
        {"inputs": "inputs_mask"} if inputs is small_padded else {},
        bad,
    )


CASES = [
    LayerCase(
        "feed_forward",
        partial(FeedForward, intermediate_dim=DV),
        embedded,
        lambda weights, inputs: oracle.feed_forward(weights, inputs),
        bad=(
            ({"intermediate_dim": 0}, "`intermediate_dim`"),
            ({"output_dim": -1}, "`output_dim`"),
            ({"inputs": np.ones((2, D), "float32")}, "`inputs`|expected ndim=3"),
        ),
    ),
    LayerCase(
        "feed_forward_gelu",
        partial(FeedForward, intermediate_dim=DV, output_dim=5, activation="gelu"),
        embedded,
        lambda weights, inputs: oracle.feed_forward(weights, inputs, "gelu"),
    ),
    *map(gated_case, ("sigmoid", "relu", "gelu", "silu")),
    LayerCase(
        "gated_feed_forward_unbiased",
        partial(GatedFeedForward, intermediate_dim=DV, output_dim=5, use_bias=False),
        small,
        unbiased_oracle,
    ),
    experts_case(
        "top_2",
        bad=(
            ({"num_experts": 0}, "`num_experts`"),
            ({"top_k": 0}, "`top_k`"),
            ({"top_k": E + 1}, "`top_k` must be at most num_experts=7. Received: top_k=8"),
            ({"load_balancing_loss": -1.0}, "`load_balancing_loss`"),
            ({"router_z_loss": -1.0}, "`router_z_loss`"),
            ({"router_jitter": 1.0}, "`router_jitter`"),
            ({"inputs": np.ones((2, D), "float32"), "inputs_mask": None}, "`inputs` must have rank 3"),
            ({"inputs_mask": np.ones((2, 4), "bool")}, "`inputs_mask` must have"),
        ),
    ),
    experts_case("top_1", {"top_k": 1, "normalize": False}, top_k=1, normalize_weights=False),
    experts_case("all", {"top_k": E}, small, top_k=E),
    experts_case(
        "plain",
        {"top_k": 3, "gated": False, "use_bias": True, "activation": "relu"},
        top_k=3,
        gated=False,
        use_bias=True,
        activation="relu",
    ),
    dataclasses.replace(
        experts_case(
            "gpt_oss",
            inputs=small,
            use_bias=True,
            use_router_bias=True,
            activation=quick_gelu,
            gate_limit=0.4,
            gated_offset=1.0,
            bad=(
                ({"gate_limit": 0.0}, "`gate_limit`"),
                ({"gated_offset": float("nan")}, "`gated_offset`"),
                ({"gated": False}, "`gate_limit` and `gated_offset` must have their defaults"),
            ),
        ),
        oracle=routed_oracle,
    ),
]


@pytest.mark.parametrize(("check", "case"), pairs(CASES))
def test_layer(check, case, tmp_path):
    run_check(check, case, tmp_path)


@pytest.mark.parametrize("format_name", ["saved_model", "tflite", "onnx"])
def test_export(format_name, tmp_path):
    check_export(CASES, format_name, tmp_path)


def experts(**config):
    layer = MixtureOfExperts(E, F, **config)
    inputs = normal(np.random.default_rng(0), 2, 5, D)
    layer(inputs)
    return layer, inputs


def test_losses_are_those_of_the_papers_and_of_real_tokens_only():
    layer, inputs = experts(load_balancing_loss=0.5, router_z_loss=0.25)
    mask = lengths(2, 5)
    layer(inputs, inputs_mask=mask)
    assert layer.losses == []
    layer(inputs, inputs_mask=mask, training=True)
    logits = inputs[mask].astype("float64") @ layer.router.numpy()
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    chosen = np.argsort(-logits, axis=-1)[:, :2]
    shares = np.array([(chosen == e).any(-1).mean() for e in range(E)])
    balance = E * np.sum(shares * probabilities.mean(0))
    z = np.mean(np.log(np.exp(logits).sum(-1)) ** 2)
    np.testing.assert_allclose(layer.losses, [0.5 * balance, 0.25 * z], rtol=1e-5)
    # What stands at padding is nobody's business.
    before = np.array(layer.losses)
    layer(np.where(mask[..., None], inputs, np.float32(1e30)), inputs_mask=mask, training=True)
    np.testing.assert_array_equal(layer.losses, before)


def test_losses_of_nothing_but_padding_are_zero():
    layer, inputs = experts()
    layer(inputs, inputs_mask=np.zeros((2, 5), "bool"), training=True)
    np.testing.assert_array_equal(layer.losses, [0, 0])


def test_equal_shares_cost_top_k_and_small_logits_cost_log_e_squared():
    chosen = np.zeros((1, 4, 4), "float32")
    chosen[0, np.arange(4), np.arange(4)] = chosen[0, np.arange(4), np.arange(4) - 1] = 1
    np.testing.assert_allclose(load_balancing_loss(np.full((1, 4, 4), 0.25, "float32"), chosen), 2, rtol=1e-6)
    np.testing.assert_allclose(router_z_loss(np.zeros((2, 3, 4), "float32")), np.log(4) ** 2, rtol=1e-6)


def test_losses_can_be_left_out():
    layer, inputs = experts(load_balancing_loss=0, router_z_loss=0)
    layer(inputs, training=True)
    assert layer.losses == []


def test_losses_even_out_the_experts():
    layer, _ = experts(load_balancing_loss=1.0, router_z_loss=0)
    # Tokens of one direction: all of them like the same experts.
    inputs = 1 + 0.3 * normal(np.random.default_rng(1), 8, 32, D)
    optimizer = keras.optimizers.Adam(0.01)

    def busiest():
        return np.bincount(np.argmax(inputs @ layer.router.numpy(), -1).ravel(), minlength=E).max() / 256

    before = busiest()
    for _ in range(60):
        with tf.GradientTape() as tape:
            layer(inputs, training=True)
            loss = tf.add_n(layer.losses)
        optimizer.apply_gradients([(tape.gradient(loss, layer.router.value), layer.router)])
    assert before > 0.5
    assert busiest() < 0.3


def test_a_token_does_not_depend_on_the_others():
    layer, inputs = experts()
    np.testing.assert_allclose(layer(inputs)[:, 1:2], layer(inputs[:, 1:2]), atol=1e-6)


def test_jitter_moves_the_router_in_training_only():
    layer, inputs = experts(router_jitter=0.5, seed=3)
    plain, _ = experts()
    plain.set_weights(layer.get_weights()[: len(plain.weights)])
    np.testing.assert_array_equal(layer(inputs), plain(inputs))
    assert np.abs(layer(inputs, training=True) - plain(inputs)).max() > 1e-4


@pytest.mark.parametrize("initializer", ["glorot_uniform", keras.initializers.GlorotUniform(seed=3)])
def test_experts_start_apart_and_as_large_as_one_would_alone(initializer):
    layer = MixtureOfExperts(3, 64, kernel_initializer=initializer)
    layer.build((None, None, 32))
    for kernel, axis in ((layer.gate_dense.kernel, 1), (layer.output_dense.kernel, 0)):
        kernels = np.moveaxis(np.asarray(kernel), axis, 0)
        assert np.abs(kernels[0] - kernels[1]).max() > 0.01
        np.testing.assert_allclose(np.abs(kernels).max(axis=(1, 2)), (6 / (32 + 64)) ** 0.5, rtol=0.02)


def test_a_model_with_experts_learns_with_its_losses():
    inputs = keras.Input((None, D))
    layer = MixtureOfExperts(E, F)
    model = keras.Model(inputs, layer(inputs))
    x = normal(np.random.default_rng(0), 64, 5, D)
    y = np.roll(x, 1, axis=-1)
    model.compile(keras.optimizers.Adam(1e-2), "mse", jit_compile=False)
    history = model.fit(x, y, epochs=20, verbose=0).history["loss"]
    assert history[-1] < 0.7 * history[0]
    without = np.mean((model.predict(x, verbose=0) - y) ** 2)
    assert model.evaluate(x, y, verbose=0) == pytest.approx(without, rel=1e-4)
