"""Side by side with the feed-forward networks of Hugging Face's transformers, weights copied over."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from peers.torch_weights import copy_linear
from safetensors.numpy import save_file
from samples import lengths, normal

from keras_attn import from_pretrained
from keras_attn.layers import GatedFeedForward, MixtureOfExperts
from keras_attn.ops import quick_gelu
from keras_attn.pretrained.stored_experts import Mxfp4Experts

torch = pytest.importorskip("torch", reason="needs torch==2.13.0: make peers")
pytest.importorskip("transformers", reason="needs transformers: make peers")

from transformers.integrations.mxfp4 import convert_moe_packed_tensors  # noqa: E402
from transformers.models.gpt_oss.modeling_gpt_oss import GptOssConfig, GptOssMLP  # noqa: E402
from transformers.models.llama.modeling_llama import LlamaConfig, LlamaMLP  # noqa: E402
from transformers.models.mixtral.modeling_mixtral import (  # noqa: E402
    MixtralConfig,
    MixtralForCausalLM,
    MixtralSparseMoeBlock,
    load_balancing_loss_func,
)

B, T, D, F, E = 3, 11, 12, 17, 7


def randomise(module):
    with torch.no_grad():
        for i, parameter in enumerate(module.parameters()):
            parameter.copy_(torch.from_numpy(normal(np.random.default_rng(i), *parameter.shape) * 0.3))
    return module.eval()


def inputs():
    return normal(np.random.default_rng(9), B, T, D)


@pytest.mark.peer("GatedFeedForward", "transformers.models.llama.modeling_llama.LlamaMLP")
@pytest.mark.parametrize("activation", ["silu", "gelu", "relu", "sigmoid"])
def test_gated_feed_forward(activation):
    theirs = randomise(
        LlamaMLP(LlamaConfig(hidden_size=D, num_attention_heads=3, intermediate_size=F, hidden_act=activation))
    )
    ours = GatedFeedForward(F, activation=activation, use_bias=False)
    x = inputs()
    ours(x)
    copy_linear(theirs.gate_proj, ours.gate_dense)
    copy_linear(theirs.up_proj, ours.intermediate_dense)
    copy_linear(theirs.down_proj, ours.output_dense)
    np.testing.assert_allclose(ours(x), theirs(torch.from_numpy(x)).detach().numpy(), atol=1e-5)


def mixtral(top_k):
    config = MixtralConfig(hidden_size=D, intermediate_size=F, num_local_experts=E, num_experts_per_tok=top_k)
    theirs = randomise(MixtralSparseMoeBlock(config))
    ours = MixtureOfExperts(E, F, top_k=top_k, load_balancing_loss=1.0, router_z_loss=0.0)
    ours(inputs())
    gate, up = np.split(theirs.experts.gate_up_proj.detach().numpy(), 2, axis=1)
    ours.router.assign(theirs.gate.weight.detach().numpy().T)
    ours.gate_dense.kernel.assign(gate.transpose(2, 0, 1))
    ours.intermediate_dense.kernel.assign(up.transpose(2, 0, 1))
    ours.output_dense.kernel.assign(theirs.experts.down_proj.detach().numpy().transpose(0, 2, 1))
    return theirs, ours


@pytest.mark.peer("MixtureOfExperts", "transformers.models.mixtral.modeling_mixtral.MixtralSparseMoeBlock")
@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_experts_and_their_gradients(top_k):
    theirs, ours = mixtral(top_k)
    x, cotangent = inputs(), normal(np.random.default_rng(10), B, T, D)
    source = torch.from_numpy(x).requires_grad_()
    expected = theirs(source)
    (expected * torch.from_numpy(cotangent)).sum().backward()
    point = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(point)
        output = ours(point)
        loss = keras.ops.sum(output * cotangent)
    gradients = tape.gradient(loss, [point, ours.output_dense.kernel.value])
    np.testing.assert_allclose(output, expected.detach().numpy(), atol=1e-5)
    np.testing.assert_allclose(gradients[0], source.grad.numpy(), atol=2e-5)
    np.testing.assert_allclose(gradients[1], theirs.experts.down_proj.grad.numpy().transpose(0, 2, 1), atol=2e-5)


@pytest.mark.peer("MixtureOfExperts", "transformers.models.gpt_oss.modeling_gpt_oss.GptOssMLP")
def test_experts_of_gpt_oss():
    """Gate and linear part alternate in their kernels, and some of both exceed the limit."""
    config = GptOssConfig(hidden_size=D, intermediate_size=F, num_local_experts=E, num_experts_per_tok=2)
    config._experts_implementation = "eager"
    theirs = randomise(GptOssMLP(config))
    settings = {"activation": quick_gelu, "use_bias": True, "use_router_bias": True}
    ours = MixtureOfExperts(E, F, top_k=2, gate_limit=7.0, gated_offset=1.0, **settings)
    x = 20 * inputs()
    ours(x)
    experts = theirs.experts
    for variable, tensor in (
        (ours.router, theirs.router.weight.T),
        (ours.router_bias, theirs.router.bias),
        (ours.gate_dense.kernel, experts.gate_up_proj[..., ::2].transpose(0, 1)),
        (ours.gate_dense.bias, experts.gate_up_proj_bias[:, ::2]),
        (ours.intermediate_dense.kernel, experts.gate_up_proj[..., 1::2].transpose(0, 1)),
        (ours.intermediate_dense.bias, experts.gate_up_proj_bias[:, 1::2]),
        (ours.output_dense.kernel, experts.down_proj),
        (ours.output_bias, experts.down_proj_bias),
    ):
        variable.assign(tensor.detach().numpy())
    expected = theirs(torch.from_numpy(x))
    expected = expected[0] if isinstance(expected, tuple) else expected
    np.testing.assert_allclose(ours(x), expected.detach().numpy(), atol=1e-4, rtol=1e-5)


@pytest.mark.peer("MixtureOfExperts", "transformers.models.mixtral.modeling_mixtral.load_balancing_loss_func")
@pytest.mark.parametrize("masked", [False, True])
def test_load_balancing_loss(masked):
    theirs, ours = mixtral(2)
    x = inputs()
    mask = lengths(B, T) if masked else None
    logits, _, _ = theirs.gate(torch.from_numpy(x))
    expected = load_balancing_loss_func((logits,), E, 2, None if mask is None else torch.from_numpy(mask))
    ours(x, inputs_mask=mask, training=True)
    np.testing.assert_allclose(ours.losses, [expected.item()], rtol=1e-5)


@pytest.mark.parametrize("shape", [(3, 8, 2, 16), (1, 5, 1, 16)])
def test_mxfp4(shape, tmp_path):
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, shape).astype("uint8")
    scales = rng.integers(100, 140, shape[:3]).astype("uint8")
    save_file({"x_blocks": blocks, "x_scales": scales}, tmp_path / "model.safetensors")
    expected = convert_moe_packed_tensors(torch.tensor(blocks), torch.tensor(scales), dtype=torch.float32)
    found = Mxfp4Experts(tmp_path)
    assert found.shapes() == {"x": tuple(expected.shape)}
    np.testing.assert_array_equal(found.read("x"), expected)


def test_fused_experts(tmp_path):
    config = MixtralConfig(
        vocab_size=53,
        hidden_size=D,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=3,
        num_key_value_heads=3,
        num_local_experts=E,
    )
    theirs = randomise(MixtralForCausalLM(config))
    theirs.save_pretrained(tmp_path, save_original_format=False)
    ids = np.arange(5, 15)[None]
    with torch.no_grad():
        expected = theirs(torch.tensor(ids)).logits
    np.testing.assert_allclose(from_pretrained(tmp_path)(ids), expected, atol=1e-5)
