"""Whole models side by side with Hugging Face's, random weights copied over."""

import numpy as np
import pytest

from keras_attn import EncoderModel, GenerationConfig, LanguageModel, Transformer
from keras_attn.layers import (
    FeedForward,
    GatedFeedForward,
    LearnedPositionEmbedding,
    MixtureOfExperts,
    RelativePositionBias,
    RotaryPositionEncoding,
)
from keras_attn.ops import gelu_tanh

torch = pytest.importorskip("torch", reason="needs torch==2.13.0: make peers")
transformers = pytest.importorskip("transformers", reason="needs transformers==5.24.0: make peers")

from peers import hf_weights  # noqa: E402

B, S, T, V, L, D, N, H, F, MAX = 3, 11, 7, 53, 2, 24, 3, 8, 37, 19
LENGTHS = np.array([[11], [3], [7]])
IDS = np.random.default_rng(3).integers(1, V, (B, S))
REAL = np.arange(S) < LENGTHS
PADDED = np.where(REAL, IDS, 0)


def randomised(model):
    """At their initial values biases are zero and norms the identity, which would hide a mix-up."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def their(name, config, **sizes):
    # Whatever was drawn before, in this process or in another, the model is the same one.
    torch.manual_seed(7)
    return randomised(getattr(transformers, name)(getattr(transformers, config)(**sizes, attn_implementation="eager")))


def outputs(model, **inputs):
    with torch.no_grad():
        return model(**{name: torch.tensor(value) for name, value in inputs.items()})[0].numpy()


def close(ours, theirs, where=None):
    ours = np.asarray(ours)
    assert ours.shape == theirs.shape
    where = slice(None) if where is None else where
    np.testing.assert_allclose(ours[where], theirs[where], atol=1e-5, rtol=1e-5)


BERT = {"vocab_size": V, "hidden_size": D, "num_hidden_layers": L, "num_attention_heads": N, "intermediate_size": F}
BERT |= {"max_position_embeddings": MAX, "type_vocab_size": 5, "num_labels": 13}


def bert(name, **head):
    theirs = their(name, "BertConfig", **BERT)
    ours = EncoderModel(V, L, D, N, F, num_token_types=5, position=LearnedPositionEmbedding(MAX), **head)
    hf_weights.copy_bert(theirs, ours)
    return theirs, ours


@pytest.mark.peer("EncoderModel", "transformers.BertModel")
@pytest.mark.peer("EncoderModel", "transformers.BertForSequenceClassification")
@pytest.mark.peer("EncoderModel", "transformers.BertForTokenClassification")
@pytest.mark.peer("EncoderModel", "transformers.BertForMaskedLM")
@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("BertModel", {}),
        ("BertForSequenceClassification", {"head": "sequence_classification", "num_classes": 13}),
        ("BertForTokenClassification", {"head": "token_classification", "num_classes": 13}),
        ("BertForMaskedLM", {"head": "masked_lm"}),
    ],
)
def test_bert(name, head):
    theirs, ours = bert(name, **head)
    types = np.random.default_rng(5).integers(0, 5, (B, S))
    expected = outputs(theirs, input_ids=PADDED, attention_mask=REAL.astype("int64"), token_type_ids=types)
    where = None if expected.ndim == 2 else REAL
    close(ours({"token_ids": PADDED, "token_type_ids": types}), expected, where)
    close(ours({"token_ids": IDS, "padding_mask": REAL, "token_type_ids": types}), expected, where)
    expected = outputs(theirs, input_ids=IDS)
    close(ours({"token_ids": IDS}), expected)


@pytest.mark.peer("EncoderModel", "transformers.AlbertForMaskedLM")
def test_albert():
    config = {**BERT, "num_hidden_layers": 3, "embedding_size": 10, "hidden_act": "gelu_new"}
    theirs = their("AlbertForMaskedLM", "AlbertConfig", **config)
    settings = {"embedding_dim": 10, "share_weights": True, "activation": gelu_tanh, "head": "masked_lm"}
    ours = EncoderModel(V, 3, D, N, F, num_token_types=5, position=LearnedPositionEmbedding(MAX), **settings)
    hf_weights.copy_albert(theirs, ours)
    types = np.random.default_rng(5).integers(0, 5, (B, S))
    expected = outputs(theirs, input_ids=PADDED, attention_mask=REAL.astype("int64"), token_type_ids=types)
    close(ours({"token_ids": PADDED, "token_type_ids": types}), expected, REAL)


T5 = {"vocab_size": V, "d_model": D, "d_kv": 10, "d_ff": F, "num_layers": L, "num_heads": N}
T5 |= {"relative_attention_num_buckets": 8, "relative_attention_max_distance": 11}


def t5(version):
    if version == "1.0":
        theirs = their("T5ForConditionalGeneration", "T5Config", **T5)
        network = FeedForward(F, activation="relu", use_bias=False)
    else:
        form = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
        theirs = their("T5ForConditionalGeneration", "T5Config", **T5, **form)
        theirs.lm_head = torch.nn.Linear(D, V, bias=False)
        network = GatedFeedForward(F, activation=gelu_tanh, use_bias=False)
    assert theirs.config.scale_decoder_outputs == (version == "1.0")
    ours = Transformer(
        V,
        L,
        D,
        N,
        key_dim=10,
        norm="pre",
        norm_layer="rms",
        use_attention_bias=False,
        scale_embeddings=False,
        tie_output=version == "1.0",
        feed_forward=network,
        attention_options={"scale": 1.0},
        decoder_options={"cross_attention_options": {"scale": 1.0}},
        position=RelativePositionBias(N, 8, 11),
        decoder_position=RelativePositionBias(N, 8, 11, bidirectional=False),
    )
    hf_weights.copy_t5(theirs, ours)
    return theirs, ours


@pytest.mark.peer("Transformer", "transformers.T5ForConditionalGeneration")
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_t5(version):
    theirs, ours = t5(version)
    target = np.random.default_rng(5).integers(1, V, (B, T))
    expected = outputs(theirs, input_ids=PADDED, attention_mask=REAL.astype("int64"), decoder_input_ids=target)
    close(ours({"source_ids": PADDED, "target_ids": target}), expected)
    close(ours({"source_ids": IDS, "target_ids": target, "source_mask": REAL}), expected)


def gpt2():
    sizes = {"n_embd": D, "n_layer": L, "n_head": N, "n_inner": F, "n_positions": MAX, "bos_token_id": 1}
    theirs = their("GPT2LMHeadModel", "GPT2Config", vocab_size=V, **sizes, eos_token_id=2)
    # With one table at both ends a random model repeats its last token, unless positions say more.
    theirs.transformer.wpe.weight.data *= 9
    ours = LanguageModel.gpt2(V, MAX, num_layers=L, hidden_dim=D, num_heads=N, intermediate_dim=F)
    hf_weights.copy_gpt2(theirs, ours)
    return theirs, ours


LLAMA = {"vocab_size": V, "hidden_size": D, "num_hidden_layers": L, "num_attention_heads": 6, "head_dim": 10}
LLAMA |= {"num_key_value_heads": 2, "intermediate_size": F, "max_position_embeddings": MAX}
ROPE = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
ROPE |= {"original_max_position_embeddings": 16}


def llama():
    config = {**LLAMA, "rope_parameters": {**ROPE, "rope_theta": 500.0}, "rms_norm_eps": 1e-5}
    theirs = their("LlamaForCausalLM", "LlamaConfig", **config, bos_token_id=1, eos_token_id=2)
    ours = LanguageModel.llama(V, L, D, 6, F, num_kv_heads=2, key_dim=10, rope_base=500.0, rope_scaling=ROPE)
    hf_weights.copy_llama(theirs, ours)
    return theirs, ours


def gemma2():
    config = {**LLAMA, "query_pre_attn_scalar": 13, "sliding_window": 4, "attn_logit_softcapping": 3.0}
    theirs = their("Gemma2ForCausalLM", "Gemma2Config", **config, final_logit_softcapping=5.0)
    ours = LanguageModel(
        V,
        L,
        D,
        6,
        num_kv_heads=2,
        key_dim=10,
        norm="sandwich",
        norm_layer="rms",
        use_attention_bias=False,
        scale_embeddings=True,
        logit_soft_cap=5.0,
        attention_options={"logit_soft_cap": 3.0, "scale": 13**-0.5},
        layer_options=[{"window": 4}, {}],
        feed_forward=GatedFeedForward(F, activation=gelu_tanh, use_bias=False),
    )
    hf_weights.copy_gemma2(theirs, ours)
    return theirs, ours


def mixtral():
    config = {**LLAMA, "num_local_experts": 5, "num_experts_per_tok": 2, "sliding_window": None}
    config["experts_implementation"] = "eager"
    theirs = their("MixtralForCausalLM", "MixtralConfig", **config, rope_parameters={"rope_theta": 1e4})
    ours = LanguageModel.llama(V, L, D, 6, F, num_kv_heads=2, key_dim=10, feed_forward=MixtureOfExperts(5, F))
    hf_weights.copy_llama(theirs, ours)
    return theirs, ours


def gpt_neox():
    sizes = {"hidden_size": D, "num_hidden_layers": L, "num_attention_heads": N, "intermediate_size": F}
    theirs = their("GPTNeoXForCausalLM", "GPTNeoXConfig", vocab_size=V, **sizes, rotary_pct=0.5)
    ours = LanguageModel(
        V,
        L,
        D,
        N,
        F,
        parallel="two_norms",
        norm_epsilon=1e-5,
        tie_output=False,
        position=RotaryPositionEncoding(rotary_dim=H // 2),
    )
    hf_weights.copy_gpt_neox(theirs, ours)
    return theirs, ours


def gptj():
    sizes = {"n_embd": D, "n_layer": L, "n_head": N, "n_inner": F, "n_positions": MAX, "rotary_dim": 4}
    theirs = their("GPTJForCausalLM", "GPTJConfig", vocab_size=V, **sizes)
    ours = LanguageModel(
        V,
        L,
        D,
        N,
        F,
        parallel=True,
        norm_epsilon=1e-5,
        activation=gelu_tanh,
        use_attention_bias=False,
        tie_output=False,
        output_bias=True,
        position=RotaryPositionEncoding(rotary_dim=4, interleaved=True),
    )
    hf_weights.copy_gptj(theirs, ours)
    return theirs, ours


PAIRS = {
    "transformers.GPT2LMHeadModel": gpt2,
    "transformers.LlamaForCausalLM": llama,
    "transformers.Gemma2ForCausalLM": gemma2,
    "transformers.MixtralForCausalLM": mixtral,
    "transformers.GPTNeoXForCausalLM": gpt_neox,
    "transformers.GPTJForCausalLM": gptj,
}


@pytest.mark.parametrize(
    "pair", [pytest.param(pair, marks=pytest.mark.peer("LanguageModel", peer), id=peer) for peer, pair in PAIRS.items()]
)
def test_language_models(pair):
    theirs, ours = pair()
    expected = outputs(theirs, input_ids=PADDED, attention_mask=REAL.astype("int64"))
    close(ours({"token_ids": PADDED}), expected, REAL)
    close(ours({"token_ids": IDS, "padding_mask": REAL}), expected, REAL)


@pytest.mark.peer("LanguageModel", "transformers.GenerationMixin.generate")
@pytest.mark.parametrize("pair", [gpt2, llama])
def test_greedy_generation(pair):
    theirs, ours = pair()
    tokens = ours.generate(PADDED, config=GenerationConfig(max_length=8, end_id=2))
    assert len(np.unique(tokens)) > 4
    for ids, length, row in zip(PADDED, LENGTHS[:, 0], tokens, strict=True):
        prompt = torch.tensor(ids[None, :length])
        settings = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0}
        expected = theirs.generate(prompt, attention_mask=torch.ones_like(prompt), **settings)[0, length:].numpy()
        np.testing.assert_array_equal(row, np.pad(expected, (0, 8 - len(expected))))
