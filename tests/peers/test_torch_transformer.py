import numpy as np
import pytest
from peers.torch_weights import copy_decoder_layer, copy_encoder_layer, copy_layer_norm

from keras_attn import Transformer
from keras_attn.ops import sinusoid

torch = pytest.importorskip("torch", reason="needs torch==2.13.0: make peers")
pytestmark = pytest.mark.filterwarnings("ignore:enable_nested_tensor")

B, S, T, V, D, N, F = 3, 7, 5, 23, 14, 2, 19
RNG = np.random.default_rng(3)
SOURCE, TARGET = RNG.integers(1, V, (B, S)), RNG.integers(1, V, (B, T))


@pytest.fixture(autouse=True)
def no_fast_path():
    """The fast path cuts padding off, and returns zeros in its place."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    yield
    torch.backends.mha.set_fastpath_enabled(enabled)


class TorchTransformer(torch.nn.Module):
    """`torch.nn.Transformer` with the paper's embeddings round it."""

    def __init__(self, norm, activation="relu"):
        super().__init__()
        self.embedding = torch.nn.Embedding(V, D)
        self.transformer = torch.nn.Transformer(
            D, N, 2, 2, F, dropout=0.0, activation=activation, batch_first=True, norm_first=norm == "pre"
        )
        if norm == "post":
            self.transformer.encoder.norm = self.transformer.decoder.norm = None
        # At the initial values biases are zero and norms the identity, which would hide a mix-up.
        for parameter in self.parameters():
            parameter.data += 0.3 * torch.randn_like(parameter)

    def forward(self, source, target, **masks):
        vectors = [
            self.embedding(torch.tensor(ids)) * D**0.5 + torch.tensor(np.array(sinusoid(np.arange(ids.shape[1]), D)))
            for ids in (source, target)
        ]
        return self.transformer(*vectors, **masks) @ self.embedding.weight.T


def pair(norm, activation="relu"):
    torch.manual_seed(7)
    module = TorchTransformer(norm, activation).eval()
    model = Transformer(V, 2, D, N, F, norm=norm, norm_epsilon=1e-5, activation=activation)
    model.target_embedding.embeddings.assign(module.embedding.weight.detach().numpy())
    stacks = module.transformer.encoder, module.transformer.decoder
    for layer, block in zip(stacks[0].layers, model.encoder.blocks, strict=True):
        copy_encoder_layer(layer, block)
    for layer, block in zip(stacks[1].layers, model.decoder.blocks, strict=True):
        copy_decoder_layer(layer, block)
    for stack, norm_layer in zip(stacks, (model.encoder.final_norm, model.decoder.final_norm), strict=True):
        if norm_layer is not None:
            copy_layer_norm(stack.norm, norm_layer)
    return module, model


@pytest.fixture(scope="module", params=["pre", "post"])
def models(request):
    return pair(request.param)


def random_mask(rows, columns):
    """True = may attend; each row to its first key at least."""
    mask = np.random.default_rng(rows * columns).random((rows, columns)) < 0.6
    mask[:, 0] = True
    return mask


CAUSAL = np.tri(T, dtype=bool)
SOURCE_PAIRS, TARGET_PAIRS, MEMORY_PAIRS = random_mask(S, S), random_mask(T, T) & CAUSAL, random_mask(T, S)
SOURCE_REAL = np.arange(S) < np.array([[7], [3], [5]])
# Hidden in the middle: behind the end, causality hides padding by itself.
TARGET_REAL = random_mask(B, T)

# Torch's masks, as ours by the same numbers; True = may attend, in both.
CASES = [
    ({}, {}),
    ({"src_mask": SOURCE_PAIRS}, {"source_attention_mask": SOURCE_PAIRS[None]}),
    ({"tgt_mask": TARGET_PAIRS}, {"target_attention_mask": TARGET_PAIRS[None]}),
    ({"memory_mask": MEMORY_PAIRS}, {"memory_attention_mask": MEMORY_PAIRS[None]}),
    ({"src_key_padding_mask": SOURCE_REAL}, {"source_attention_mask": np.repeat(SOURCE_REAL[:, None], S, axis=1)}),
    ({"memory_key_padding_mask": SOURCE_REAL}, {"memory_attention_mask": np.repeat(SOURCE_REAL[:, None], T, axis=1)}),
    ({"src_key_padding_mask": SOURCE_REAL, "memory_key_padding_mask": SOURCE_REAL}, {"source_mask": SOURCE_REAL}),
    ({"tgt_key_padding_mask": TARGET_REAL}, {"target_mask": TARGET_REAL}),
]
CASES.append(tuple({k: v for case in CASES for k, v in case[side].items()} for side in (0, 1)))
CASES[-1][1]["source_attention_mask"] = SOURCE_PAIRS[None]
CASES[-1][1]["memory_attention_mask"] = MEMORY_PAIRS[None]


def torch_logits(module, **masks):
    masks = {"tgt_mask": CAUSAL, **masks}
    with torch.no_grad():
        return module(SOURCE, TARGET, **{name: torch.tensor(~mask) for name, mask in masks.items()}).numpy()


def our_logits(model, source=SOURCE, **masks):
    return np.array(model({"source_ids": source, "target_ids": TARGET, **masks}))


@pytest.mark.parametrize(("theirs", "ours"), CASES, ids=["+".join(theirs) or "none" for theirs, _ in CASES])
@pytest.mark.peer("Transformer", "torch.nn.Transformer")
def test_masks(models, theirs, ours):
    module, model = models
    logits, expected = our_logits(model, **ours), torch_logits(module, **theirs)
    real = TARGET_REAL if "target_mask" in ours else np.ones_like(TARGET_REAL)
    np.testing.assert_allclose(logits[real], expected[real], atol=1e-5, rtol=1e-5)
    if ours:
        assert np.abs(logits - our_logits(model))[TARGET_REAL].max() > 1e-2


@pytest.mark.peer("Transformer", "torch.nn.Transformer")
def test_padding_by_pad_id(models):
    module, model = models
    expected = torch_logits(module, src_key_padding_mask=SOURCE_REAL, memory_key_padding_mask=SOURCE_REAL)
    logits = our_logits(model, np.where(SOURCE_REAL, SOURCE, 0))
    np.testing.assert_allclose(logits, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.peer("Transformer", "torch.nn.Transformer")
def test_gelu(norm):
    # By this name both libraries mean the exact form.
    module, model = pair(norm, "gelu")
    np.testing.assert_allclose(our_logits(model), torch_logits(module), atol=1e-5, rtol=1e-5)
