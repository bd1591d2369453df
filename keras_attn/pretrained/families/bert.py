"""BERT: [Devlin et al., 2019](https://arxiv.org/abs/1810.04805)."""

from typing import Any

from keras_attn.layers import LearnedPositionEmbedding
from keras_attn.models import EncoderModel
from keras_attn.pretrained.activations import activation
from keras_attn.pretrained.checkpoint_config import CheckpointConfig
from keras_attn.pretrained.family import Family, Head
from keras_attn.pretrained.rows import block
from keras_attn.pretrained.text_heads import text_heads

BLOCK = {
    "attention.self.query": "self_attention/attention/query",
    "attention.self.key": "self_attention/attention/key",
    "attention.self.value": "self_attention/attention/value",
    "attention.output.dense": "self_attention/attention/attention_output",
    "attention.output.LayerNorm": "self_attention/norm_after",
    "intermediate.dense": "feed_forward/network/intermediate",
    "output.dense": "feed_forward/network/output",
    "output.LayerNorm": "feed_forward/norm_after",
}
TENSORS = {
    "embeddings.word_embeddings.weight": "embedding/embeddings",
    "embeddings.position_embeddings": "position",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "embedding_norm",
    **block("encoder.layer.*", "encoder/encoder_*", BLOCK),
}
POOLER, CLASSIFIER = {"pooler.dense": "pooler"}, {"classifier": "classifier"}
MASKED_LM = {
    "cls.predictions.transform.dense": "transform",
    "cls.predictions.transform.LayerNorm": "transform_norm",
    "cls.predictions.bias": "embedding/bias",
}


def settings(config: CheckpointConfig) -> dict[str, Any]:
    config.only("position_embedding_type", "absolute")
    config.only("is_decoder", False)
    config.only("directionality", "bidi")
    config.only("pruned_heads", {})
    config.ignore("tie_word_embeddings")
    config.ignore(
        *(f"pooler_{x}" for x in ("fc_size", "num_attention_heads", "num_fc_layers", "size_per_head", "type"))
    )
    return {
        "vocabulary_size": config.size("vocab_size", 30522),
        "num_layers": config.size("num_hidden_layers", 12),
        "hidden_dim": config.size("hidden_size", 768),
        "num_heads": config.size("num_attention_heads", 12),
        "intermediate_dim": config.size("intermediate_size", 3072),
        "num_token_types": config.size("type_vocab_size", 2, minimum=0),
        "activation": activation(config, "hidden_act", "gelu"),
        "norm_epsilon": config.number("layer_norm_eps", 1e-12),
        "dropout": config.number("hidden_dropout_prob", 0.1),
        "attention_dropout": config.number("attention_probs_dropout_prob", 0.1),
        "position": LearnedPositionEmbedding(config.size("max_position_embeddings", 512), name="position"),
    }


HEADS = text_heads("Bert", POOLER | CLASSIFIER, MASKED_LM, body=("pooler.dense",))
NEXT_SENTENCE = Head(
    "BertForNextSentencePrediction",
    {**POOLER, "cls.seq_relationship": "classifier"},
    lambda config, _: {"head": "sequence_classification", "num_classes": 2},
    body=("pooler.dense",),
)
PRETRAINING = Head(
    "BertForPreTraining",
    {**POOLER, **MASKED_LM, "cls.seq_relationship": "classifier"},
    lambda config, _: {**HEADS["masked_lm"].settings(config, _), "head": "pretraining"},
    body=("pooler.dense",),
)
BERT = Family(
    EncoderModel,
    settings,
    TENSORS,
    {**HEADS, "next_sentence_prediction": NEXT_SENTENCE, "pretraining": PRETRAINING},
    prefix="bert",
    tied=("cls.predictions.decoder.weight", "embeddings.word_embeddings.weight"),
    ignored=(r"embeddings\.position_ids",),
)
