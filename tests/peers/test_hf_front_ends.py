"""Side by side with the front ends of Hugging Face's transformers and torch's attention, weights copied over."""

import numpy as np
import pytest
from peers.torch_weights import copy_multi_head_attention
from samples import lengths, normal

from keras_attn.layers import AttentionPooling, AudioFrontEnd, PatchEmbedding

torch = pytest.importorskip("torch", reason="needs torch==2.13.0: make peers")
pytest.importorskip("transformers", reason="needs transformers: make peers")

from transformers import ViTConfig, WhisperConfig  # noqa: E402
from transformers.models.vit.modeling_vit import ViTPatchEmbeddings  # noqa: E402
from transformers.models.whisper.modeling_whisper import WhisperEncoder  # noqa: E402

B, T, D, C = 3, 11, 12, 5


def randomise(module):
    with torch.no_grad():
        for i, parameter in enumerate(module.parameters()):
            parameter.copy_(torch.from_numpy(normal(np.random.default_rng(i), *parameter.shape) * 0.3))
    return module.eval()


def assign_convolution(theirs, projection):
    """`(out, in, ...)` into `(... x in, out)`."""
    kernel = np.moveaxis(theirs.weight.detach().numpy(), (0, 1), (-1, -2))
    projection.kernel.assign(kernel.reshape(projection.kernel.shape))
    projection.bias.assign(theirs.bias.detach().numpy())


@pytest.mark.peer("PatchEmbedding", "transformers.models.vit.modeling_vit.ViTPatchEmbeddings")
def test_patches():
    theirs = randomise(ViTPatchEmbeddings(ViTConfig(hidden_size=D, image_size=(8, 12), patch_size=4, num_channels=C)))
    ours = PatchEmbedding(4, D)
    images = normal(np.random.default_rng(9), B, 8, 12, C)
    ours(images)
    assign_convolution(theirs.projection, ours.projection)
    expected = theirs(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
    np.testing.assert_allclose(ours(images), expected.detach().numpy(), atol=2e-5)


@pytest.mark.peer("AudioFrontEnd", "transformers.models.whisper.modeling_whisper.WhisperEncoder")
def test_audio():
    theirs = randomise(
        WhisperEncoder(WhisperConfig(d_model=D, num_mel_bins=C, encoder_layers=0, max_source_positions=6))
    )
    ours = AudioFrontEnd(D)
    x = normal(np.random.default_rng(9), B, 12, C)
    ours(x)
    for convolution, projection in zip((theirs.conv1, theirs.conv2), ours.convolutions, strict=True):
        assign_convolution(convolution, projection)
    # Positions and the last norm are all that a Whisper encoder without layers adds.
    expected = theirs(torch.from_numpy(x.transpose(0, 2, 1).copy())).last_hidden_state
    actual = theirs.layer_norm(torch.from_numpy(np.array(ours(x))) + theirs.embed_positions.weight)
    np.testing.assert_allclose(actual.detach().numpy(), expected.detach().numpy(), atol=1e-5)


@pytest.mark.peer("AudioFrontEnd", "torch.nn.Conv1d")
@pytest.mark.parametrize("length", [11, 12])
@pytest.mark.parametrize(("stride", "kernel_size"), [(1, 3), (2, 3), (3, 5)])
def test_convolution(stride, kernel_size, length):
    theirs = randomise(torch.nn.Conv1d(C, D, kernel_size, stride, padding=kernel_size // 2))
    ours = AudioFrontEnd(D, kernel_size, stride, activation=None)
    x = normal(np.random.default_rng(9), B, length, C)
    ours(x)
    assign_convolution(theirs, ours.convolutions[0])
    expected = theirs(torch.from_numpy(x.transpose(0, 2, 1).copy())).detach().numpy().transpose(0, 2, 1)
    np.testing.assert_allclose(ours(x), expected, atol=1e-5)


@pytest.mark.peer("AttentionPooling", "torch.nn.MultiheadAttention")
def test_attention_pooling():
    theirs = randomise(torch.nn.MultiheadAttention(D, 3, batch_first=True))
    ours = AttentionPooling(num_heads=3)
    x, mask = normal(np.random.default_rng(9), B, T, D), lengths(B, T)
    ours(x)
    copy_multi_head_attention(theirs, ours.attention)
    probe = torch.from_numpy(np.repeat(np.asarray(ours.query), B, axis=0))
    memory = torch.from_numpy(x)
    expected = theirs(probe, memory, memory, key_padding_mask=torch.from_numpy(~mask))[0][:, 0]
    np.testing.assert_allclose(ours(x, inputs_mask=mask), expected.detach().numpy(), atol=1e-5)
