"""Side by side with the front ends of Hugging Face's transformers and torch's attention, weights copied over."""

import numpy as np
import pytest
from peers.torch_weights import copy_layer_norm, copy_linear, copy_multi_head_attention
from samples import lengths, normal

from keras_attn.layers import (
    AttentionPooling,
    AudioFrontEnd,
    ConvolutionalPositionEncoding,
    LogMelSpectrogram,
    PatchEmbedding,
)
from keras_attn.ops import gelu_tanh

torch = pytest.importorskip("torch", reason="needs torch==2.13.0: make peers")
pytest.importorskip("transformers", reason="needs transformers: make peers")

from transformers import (  # noqa: E402
    ASTConfig,
    ASTFeatureExtractor,
    SiglipVisionConfig,
    ViTConfig,
    Wav2Vec2Config,
    WhisperConfig,
    WhisperFeatureExtractor,
)
from transformers.models.audio_spectrogram_transformer.modeling_audio_spectrogram_transformer import (  # noqa: E402
    ASTEmbeddings,
)
from transformers.models.siglip.modeling_siglip import SiglipMultiheadAttentionPoolingHead  # noqa: E402
from transformers.models.vit.modeling_vit import ViTPatchEmbeddings  # noqa: E402
from transformers.models.wav2vec2 import modeling_wav2vec2 as wav2vec2  # noqa: E402
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
    if theirs.bias is not None:
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


@pytest.mark.peer("PatchEmbedding", "transformers.ASTModel")
def test_overlapping_patches():
    sizes = {"num_mel_bins": 10, "max_length": 14, "frequency_stride": 3, "time_stride": 2}
    theirs = randomise(ASTEmbeddings(ASTConfig(hidden_size=D, patch_size=4, **sizes)))
    ours = PatchEmbedding(4, D, class_token=True, distillation_token=True, strides=(3, 2))
    frames = normal(np.random.default_rng(9), B, 14, 10)
    images = frames.transpose(0, 2, 1)[..., None]
    ours(images)
    assign_convolution(theirs.patch_embeddings.projection, ours.projection)
    ours.token.assign(theirs.cls_token.detach().numpy())
    ours.second_token.assign(theirs.distillation_token.detach().numpy())
    expected = theirs(torch.from_numpy(frames)) - theirs.position_embeddings
    np.testing.assert_allclose(ours(images), expected.detach().numpy(), atol=1e-5)


@pytest.mark.peer("LogMelSpectrogram", "transformers.WhisperFeatureExtractor")
@pytest.mark.parametrize("seconds", [2, 31])
def test_log_mel_of_whisper(seconds):
    samples = normal(np.random.default_rng(0), seconds * 16000) * np.linspace(0.01, 0.3, seconds * 16000)
    expected = WhisperFeatureExtractor()(samples, sampling_rate=16000, return_tensors="np")["input_features"]
    # Whisper hears 30 seconds, of silence where there is nothing else.
    samples = np.pad(samples, (0, max(0, 480000 - len(samples))))[None, :480000].astype("float32")
    np.testing.assert_allclose(LogMelSpectrogram()(samples), expected.transpose(0, 2, 1), atol=1e-4)


@pytest.mark.peer("LogMelSpectrogram", "transformers.ASTFeatureExtractor")
def test_log_mel_of_ast():
    samples = normal(np.random.default_rng(0), 16000) * np.linspace(0.01, 0.3, 16000).astype("float32")
    expected = ASTFeatureExtractor()(samples, sampling_rate=16000, return_tensors="np")["input_values"]
    layer = LogMelSpectrogram(
        num_mels=128,
        fft_length=512,
        min_frequency=20,
        framing="kaldi",
        mel_scale="htk",
        natural_log=True,
        floor=2**-23,
        dynamic_range=None,
        mean=-4.2677393,
        scale=2 * 4.5689974,
    )
    found = layer(samples[None])
    np.testing.assert_allclose(found, expected[:, : found.shape[1]], atol=1e-4)


@pytest.mark.peer("AudioFrontEnd", "transformers.Wav2Vec2Model")
@pytest.mark.peer("ConvolutionalPositionEncoding", "transformers.Wav2Vec2Model")
@pytest.mark.parametrize("norm", ["layer", "group"])
def test_samples(norm):
    sizes = {"conv_dim": (6, 7), "conv_kernel": (5, 2), "conv_stride": (3, 2), "num_feat_extract_layers": 2}
    sizes |= {"num_conv_pos_embeddings": 6, "num_conv_pos_embedding_groups": 3, "add_adapter": False}
    config = Wav2Vec2Config(hidden_size=D, feat_extract_norm=norm, conv_bias=True, **sizes)
    encoder = randomise(wav2vec2.Wav2Vec2FeatureEncoder(config))
    projection = randomise(wav2vec2.Wav2Vec2FeatureProjection(config))
    positions = randomise(wav2vec2.Wav2Vec2PositionalConvEmbedding(config))
    kinds = {"padding": "valid", "norm": norm, "output_dim": D}
    ours, position = AudioFrontEnd((6, 7), (5, 2), (3, 2), **kinds), ConvolutionalPositionEncoding(6, 3)
    x, mask = normal(np.random.default_rng(9), B, 41), np.arange(41) < np.array([[41], [20], [33]])
    position(ours(x[..., None]))
    for layer, convolution in zip(encoder.conv_layers, ours.convolutions, strict=True):
        assign_convolution(layer.conv, convolution)
    for layer, own in zip(encoder.conv_layers, ours.norms, strict=norm == "layer"):
        copy_layer_norm(layer.layer_norm, own)
    copy_layer_norm(projection.layer_norm, ours.output_norm)
    copy_linear(projection.projection, ours.output_dense)
    position.filters.assign(positions.conv.weight.detach().numpy().transpose(2, 1, 0))
    position.bias.assign(positions.conv.bias.detach().numpy())

    found = np.asarray(position(ours(x[..., None], inputs_mask=mask)))
    counts = np.asarray(ours.compute_mask(x[..., None], mask)).sum(axis=1)
    for row, length, count in zip(x, mask.sum(axis=1), counts, strict=True):
        features = encoder(torch.from_numpy(row[None, :length]))
        expected = projection(features.transpose(1, 2))[0]
        expected = (expected + positions(expected))[0].detach().numpy()
        assert len(expected) == count
        np.testing.assert_allclose(found[0, :count], expected, atol=1e-5)
        found = found[1:]


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


@pytest.mark.peer("AttentionPooling", "transformers.SiglipVisionModel")
def test_attention_pooling_of_siglip():
    config = SiglipVisionConfig(hidden_size=D, num_attention_heads=3, intermediate_size=17)
    theirs = randomise(SiglipMultiheadAttentionPoolingHead(config))
    ours = AttentionPooling(num_heads=3, intermediate_dim=17, activation=gelu_tanh)
    x = normal(np.random.default_rng(9), B, T, D)
    ours(x)
    ours.query.assign(theirs.probe.detach().numpy())
    copy_multi_head_attention(theirs.attention, ours.attention)
    copy_layer_norm(theirs.layernorm, ours.norm)
    copy_linear(theirs.mlp.fc1, ours.intermediate_dense)
    copy_linear(theirs.mlp.fc2, ours.output_dense)
    np.testing.assert_allclose(ours(x), theirs(torch.from_numpy(x)).detach().numpy(), atol=1e-5)
