"""Training steps through `model.fit`, against the same models built from KerasHub's layers.

`python -m benchmarks.blocks [--quick] [--json FILE]`

Three models: an encoder (4 layers of width 256, 8,000 tokens, 16 x 128), a decoder of the same size (4 x 512) and a
sequence-to-sequence model (4 + 4 layers of width 128, 10,000 tokens, 64 x 16). All have learned positions, post-norm
blocks, padding masks, a tied output, and Keras' Adam. Both sides start from the same weights and see the same batches,
and their losses are compared. One call of a case is `STEPS` steps. "jit" is `compile(jit_compile=True)`.
"""

import os
import sys

import numpy as np

from benchmarks.harness import Benchmark, main

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

STEPS = 4
EPSILON = 1e-5
SHAPES = {
    "encoder": {"batch": 16, "length": 128, "width": 256, "inner": 1024, "heads": 4, "vocabulary": 8000},
    "decoder": {"batch": 4, "length": 512, "width": 256, "inner": 1024, "heads": 4, "vocabulary": 8000},
    "seq2seq": {"batch": 64, "length": 16, "width": 128, "inner": 256, "heads": 4, "vocabulary": 10000},
}
NUM_LAYERS = 4

# Two ways of computing the same steps drift apart by rounding.
blocks = Benchmark(
    {f"{kind}{', jit' if jit else ''}": {"kind": kind, "jit": jit} for jit in (False, True) for kind in SHAPES},
    quick=["seq2seq"],
    tolerance=1e-5,
)


@blocks.implementation("keras_attn")
def keras_attn_blocks(case):
    import keras

    from keras_attn.layers import Decoder, Encoder, LearnedPositionEmbedding, TokenEmbedding

    kind, shape = case["kind"], SHAPES[case["kind"]]
    options = {"num_heads": shape["heads"], "intermediate_dim": shape["inner"], "norm": "post", "norm_epsilon": EPSILON}
    embedding = TokenEmbedding(shape["vocabulary"], shape["width"], scale=False, mask_zero=True)

    position = LearnedPositionEmbedding(shape["length"])

    def embedded(ids):
        return position(embedding(ids))

    ids = keras.Input((None,), dtype="int32")
    inputs, x = [ids], embedded(ids)
    if kind != "decoder":
        x = Encoder(NUM_LAYERS, **options)(x)
    if kind == "seq2seq":
        inputs.append(keras.Input((None,), dtype="int32"))
        x = Decoder(NUM_LAYERS, **options)(embedded(inputs[1]), x)
    elif kind == "decoder":
        x = Decoder(NUM_LAYERS, cross_attention=False, **options)(x)
    model = keras.Model(inputs, embedding(x, reverse=True))

    def block_weights(block):
        residuals = [block.self_attention, getattr(block, "cross_attention", None), block.feed_forward]
        return [weight for residual in residuals if residual is not None for weight in residual.weights]

    stacks = [layer for layer in model.layers if isinstance(layer, (Encoder, Decoder))]
    embeddings = [embedding.embeddings, position.position_embeddings]
    return _fit(model, [*embeddings, *(w for stack in stacks for b in stack.blocks for w in block_weights(b))], case)


@blocks.implementation("keras_hub", needs="keras_hub", install="pip install keras-hub")
def keras_hub_blocks(case):
    import keras
    from keras_hub.layers import TokenAndPositionEmbedding, TransformerDecoder, TransformerEncoder

    kind, shape = case["kind"], SHAPES[case["kind"]]
    options = {"num_heads": shape["heads"], "intermediate_dim": shape["inner"], "layer_norm_epsilon": EPSILON}
    embedded = TokenAndPositionEmbedding(shape["vocabulary"], shape["length"], shape["width"], mask_zero=True)

    ids = keras.Input((None,), dtype="int32")
    inputs, x = [ids], embedded(ids)
    if kind != "decoder":
        for _ in range(NUM_LAYERS):
            x = TransformerEncoder(**options)(x)
    if kind == "seq2seq":
        inputs.append(keras.Input((None,), dtype="int32"))
        memory, x = x, embedded(inputs[1])
        for _ in range(NUM_LAYERS):
            x = TransformerDecoder(**options)(x, memory)
    elif kind == "decoder":
        for _ in range(NUM_LAYERS):
            x = TransformerDecoder(**options)(x)
    model = keras.Model(inputs, embedded.token_embedding(x, reverse=True))

    def block_weights(block):
        parts = [block._self_attention_layer, block._self_attention_layer_norm]
        if getattr(block, "_cross_attention_layer", None) is not None:
            parts += [block._cross_attention_layer, block._cross_attention_layer_norm]
        parts += [block._feedforward_intermediate_dense, block._feedforward_output_dense, block._feedforward_layer_norm]
        return [weight for part in parts for weight in part.weights]

    found = [layer for layer in model.layers if isinstance(layer, (TransformerEncoder, TransformerDecoder))]
    embeddings = [embedded.token_embedding.embeddings, embedded.position_embedding.position_embeddings]
    return _fit(model, [*embeddings, *(weight for block in found for weight in block_weights(block))], case)


def _fit(model, weights, case):
    """`STEPS` steps of `fit`, from weights that depend on the order and shapes of `weights` alone."""
    import keras
    import tensorflow as tf

    if len(weights) != len(model.weights):
        raise RuntimeError(f"{len(model.weights)} weights, of which {len(weights)} are in the list")
    numbers = np.random.default_rng(0)
    for weight in weights:
        # Norms begin at one, biases at zero; the rest like Glorot's.
        if len(weight.shape) > 1:
            scale = (2 / (weight.shape[0] + np.prod(weight.shape[1:]))) ** 0.5
            weight.assign(numbers.normal(scale=scale, size=weight.shape))
    model.compile(
        keras.optimizers.Adam(1e-4),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=case["jit"],
    )
    shape = SHAPES[case["kind"]]
    ids = numbers.integers(1, shape["vocabulary"], size=(3, STEPS, shape["batch"], shape["length"]), dtype="int32")
    lengths = numbers.integers(shape["length"] // 2, shape["length"] + 1, size=(STEPS, shape["batch"], 1))
    source, target, labels = np.where(np.arange(shape["length"]) < lengths, ids, 0)
    inputs = (source, target) if case["kind"] == "seq2seq" else source
    weights = (labels != 0).astype("float32")
    dataset = tf.data.Dataset.from_tensor_slices((inputs, labels, weights)).cache()
    return (lambda: model.fit(dataset, verbose=0).history["loss"]), np.asarray


if __name__ == "__main__":
    sys.exit(main(blocks))
