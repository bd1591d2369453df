"""The same models, built from several libraries' layers, for benchmarks of training steps.

All have learned positions, post-norm blocks with ReLU, padding masks and a tied output. A builder takes the name of a
shape. Keras builders return the model and its weights, in the same order for all libraries.
"""

import numpy as np

EPSILON = 1e-5
# An epsilon small enough not to matter where a library adds it.
ADAM = {"learning_rate": 1e-4, "epsilon": 1e-10}
NUM_LAYERS = 4
_MIDDLE = {"width": 256, "inner": 1024, "heads": 4, "vocabulary": 8000}
_SMALL = {"width": 128, "inner": 256, "heads": 4, "vocabulary": 10000}
SHAPES = {
    "small encoder": {"kind": "encoder", "batch": 4, "length": 64, **_SMALL},
    "encoder": {"kind": "encoder", "batch": 16, "length": 128, **_MIDDLE},
    "long encoder": {"kind": "encoder", "batch": 4, "length": 512, **_MIDDLE},
    "decoder": {"kind": "decoder", "batch": 4, "length": 512, **_MIDDLE},
    "seq2seq": {"kind": "seq2seq", "batch": 64, "length": 16, **_SMALL},
}


def keras_attn(name):
    import keras

    from keras_attn.layers import Decoder, Encoder, LearnedPositionEmbedding, TokenEmbedding

    shape = SHAPES[name]
    options = {"num_heads": shape["heads"], "intermediate_dim": shape["inner"], "norm": "post", "norm_epsilon": EPSILON}
    embedding = TokenEmbedding(shape["vocabulary"], shape["width"], scale=False, mask_zero=True)
    position = LearnedPositionEmbedding(shape["length"])

    def embedded(ids):
        return position(embedding(ids))

    ids = keras.Input((None,), dtype="int32")
    inputs, x = [ids], embedded(ids)
    if shape["kind"] != "decoder":
        x = Encoder(NUM_LAYERS, **options)(x)
    if shape["kind"] == "seq2seq":
        inputs.append(keras.Input((None,), dtype="int32"))
        x = Decoder(NUM_LAYERS, **options)(embedded(inputs[1]), x)
    elif shape["kind"] == "decoder":
        x = Decoder(NUM_LAYERS, cross_attention=False, **options)(x)
    body = keras.Model(inputs, x)

    class Tied(keras.Model):
        """Offers the methods of this package's models that a loss without logits needs."""

        def output_projection(self):
            return embedding.output_projection()

        def hidden_states(self, inputs, training=None):
            return body(inputs, training=training)

    def block_weights(block):
        residuals = [block.self_attention, getattr(block, "cross_attention", None), block.feed_forward]
        return [weight for residual in residuals if residual is not None for weight in residual.weights]

    stacks = [layer for layer in body.layers if isinstance(layer, (Encoder, Decoder))]
    weights = [embedding.embeddings, position.position_embeddings]
    weights += [weight for stack in stacks for block in stack.blocks for weight in block_weights(block)]
    return Tied(inputs, embedding(x, reverse=True)), weights


def keras_hub(name):
    import keras
    from keras_hub.layers import TokenAndPositionEmbedding, TransformerDecoder, TransformerEncoder

    shape = SHAPES[name]
    options = {"num_heads": shape["heads"], "intermediate_dim": shape["inner"], "layer_norm_epsilon": EPSILON}
    embedded = TokenAndPositionEmbedding(shape["vocabulary"], shape["length"], shape["width"], mask_zero=True)
    ids = keras.Input((None,), dtype="int32")
    inputs, x = [ids], embedded(ids)
    if shape["kind"] != "decoder":
        for _ in range(NUM_LAYERS):
            x = TransformerEncoder(**options)(x)
    if shape["kind"] == "seq2seq":
        inputs.append(keras.Input((None,), dtype="int32"))
        memory, x = x, embedded(inputs[1])
        for _ in range(NUM_LAYERS):
            x = TransformerDecoder(**options)(x, memory)
    elif shape["kind"] == "decoder":
        for _ in range(NUM_LAYERS):
            x = TransformerDecoder(**options)(x)
    model = keras.Model(inputs, embedded.token_embedding(x, reverse=True))

    def block_weights(block):
        parts = [block._self_attention_layer, block._self_attention_layer_norm]
        if getattr(block, "_cross_attention_layer", None) is not None:
            parts += [block._cross_attention_layer, block._cross_attention_layer_norm]
        parts += [block._feedforward_intermediate_dense, block._feedforward_output_dense, block._feedforward_layer_norm]
        return [weight for part in parts for weight in part.weights]

    blocks = [layer for layer in model.layers if isinstance(layer, (TransformerEncoder, TransformerDecoder))]
    weights = [embedded.token_embedding.embeddings, embedded.position_embedding.position_embeddings]
    return model, [*weights, *(weight for block in blocks for weight in block_weights(block))]


def plain_keras(name):
    import keras
    from keras import layers

    shape = SHAPES[name]
    width, heads = shape["width"], shape["heads"]
    tokens = layers.ReversibleEmbedding(shape["vocabulary"], width, tie_weights=True)
    positions = layers.Embedding(shape["length"], width)
    parts = [tokens, positions]

    class Embedded(layers.Layer):
        """Looks up each position once: Keras' Adam takes a different step for rows of a table that are used twice."""

        def __init__(self):
            super().__init__()
            self.tokens, self.positions = tokens, positions

        def call(self, ids):
            return self.tokens(ids) + self.positions(keras.ops.arange(keras.ops.shape(ids)[1]))

    embedded = Embedded()

    def is_token(ids):
        # Adding a tensor with a Keras mask to one without loses the mask.
        return keras.ops.expand_dims(keras.ops.not_equal(ids, 0), 1)

    def part(layer):
        parts.append(layer)
        return layer

    def normed(x, y):
        return part(layers.LayerNormalization(epsilon=EPSILON))(layers.Add()([x, y]))

    def attended(x, memory, mask, **options):
        attention = part(layers.MultiHeadAttention(heads, width // heads))
        return normed(x, attention(x, memory, attention_mask=mask, **options))

    def fed_forward(x):
        inner = part(layers.Dense(shape["inner"], activation="relu"))(x)
        return normed(x, part(layers.Dense(width))(inner))

    ids = keras.Input((None,), dtype="int32")
    inputs, x, mask = [ids], embedded(ids), is_token(ids)
    if shape["kind"] != "decoder":
        for _ in range(NUM_LAYERS):
            x = fed_forward(attended(x, x, mask))
    if shape["kind"] == "seq2seq":
        inputs.append(keras.Input((None,), dtype="int32"))
        memory, memory_mask = x, mask
        x, mask = embedded(inputs[1]), is_token(inputs[1])
    if shape["kind"] != "encoder":
        for _ in range(NUM_LAYERS):
            x = attended(x, x, mask, use_causal_mask=True)
            x = fed_forward(attended(x, memory, memory_mask) if shape["kind"] == "seq2seq" else x)
    return keras.Model(inputs, tokens(x, reverse=True)), [weight for part in parts for weight in part.weights]


def torch_model(name):
    """A module with initial weights. Called with a batch, it returns the mean loss."""
    import torch
    from torch import nn

    shape = SHAPES[name]
    width, kind = shape["width"], shape["kind"]
    options = {"dropout": 0.0, "batch_first": True, "layer_norm_eps": EPSILON}

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens = nn.Embedding(shape["vocabulary"], width)
            self.positions = nn.Embedding(shape["length"], width)
            sizes = width, shape["heads"], shape["inner"]
            first = nn.TransformerEncoderLayer(*sizes, **options)
            self.encoder = nn.TransformerEncoder(first, NUM_LAYERS, enable_nested_tensor=False)
            if kind == "seq2seq":
                self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(*sizes, **options), NUM_LAYERS)

        def embedded(self, ids):
            return self.tokens(ids) + self.positions.weight[: ids.shape[1]]

        def forward(self, source, target, labels):
            # Filled in, because PyTorch needs both masks to have the same type.
            hidden = torch.zeros(source.shape).masked_fill(source == 0, float("-inf"))
            causal = None if kind == "encoder" else nn.Transformer.generate_square_subsequent_mask(labels.shape[1])
            x = self.embedded(source)
            if kind == "decoder":
                x = self.encoder(x, mask=causal, src_key_padding_mask=hidden, is_causal=True)
            else:
                x = self.encoder(x, src_key_padding_mask=hidden)
            if kind == "seq2seq":
                padding = torch.zeros(target.shape).masked_fill(target == 0, float("-inf"))
                masks = {"tgt_key_padding_mask": padding, "memory_key_padding_mask": hidden}
                x = self.decoder(self.embedded(target), x, tgt_mask=causal, tgt_is_causal=True, **masks)
            logits = x @ self.tokens.weight.T
            return nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten().long(), ignore_index=0)

    model = Model()
    head = width // shape["heads"]

    # Each returns `(shape in Keras, function that assigns an array of that shape)`.
    def whole(parameter):
        return [(tuple(parameter.shape), lambda array: parameter.copy_(torch.from_numpy(array)))]

    def linear(weight, bias, kernel_shape=None, bias_shape=None):
        def assign_kernel(array):
            weight.copy_(torch.from_numpy(array.reshape(weight.shape[::-1])).T)

        def assign_bias(array):
            bias.copy_(torch.from_numpy(array.flatten()))

        kernel_shape, bias_shape = kernel_shape or tuple(weight.shape[::-1]), bias_shape or tuple(bias.shape)
        return [(kernel_shape, assign_kernel), (bias_shape, assign_bias)]

    def attended(attention):
        inputs = zip(attention.in_proj_weight.split(width), attention.in_proj_bias.split(width), strict=True)
        heads = shape["heads"], head
        setters = [setter for part in inputs for setter in linear(*part, (width, *heads), heads)]
        return setters + linear(attention.out_proj.weight, attention.out_proj.bias, (*heads, width))

    def norm(module):
        return whole(module.weight) + whole(module.bias)

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
        setters = whole(model.tokens.weight) + whole(model.positions.weight)
        for block in (*model.encoder.layers, *(model.decoder.layers if kind == "seq2seq" else ())):
            setters += attended(block.self_attn) + norm(block.norm1)
            if hasattr(block, "multihead_attn"):
                setters += attended(block.multihead_attn) + norm(block.norm2)
            setters += [x for part in (block.linear1, block.linear2) for x in linear(part.weight, part.bias)]
            setters += norm(block.norm3 if hasattr(block, "norm3") else block.norm2)
        shapes, functions = zip(*setters, strict=True)
        for function, array in zip(functions, initial_weights(shapes), strict=True):
            if array is not None:
                function(array)
    if sum(np.prod(shape, dtype=int) for shape in shapes) != sum(p.numel() for p in model.parameters()):
        raise RuntimeError("the setters do not reach all parameters")
    return model


def initial_weights(shapes):
    """Initial weights that depend only on order and shapes: Glorot's, and for vectors Keras' own (None).

    Args:
        shapes: Shapes of Keras' weights.
    """
    numbers = np.random.default_rng(0)
    for shape in shapes:
        scale = (2 / (shape[0] + np.prod(shape[1:]))) ** 0.5
        # Vectors keep Keras' initial values.
        yield numbers.normal(scale=scale, size=shape).astype("float32") if len(shape) > 1 else None


def assign(model, weights):
    """Sets the initial weights of a Keras model."""
    if len(weights) != len(model.weights):
        raise RuntimeError(f"{len(model.weights)} weights, of which {len(weights)} are in the list")
    for weight, array in zip(weights, initial_weights([weight.shape for weight in weights]), strict=True):
        if array is not None:
            weight.assign(array)


def batches(name, steps):
    """`(source, target, labels)`, int32 `(steps, batch, length)` each, padded with 0. Batches have equal numbers of
    tokens."""
    shape, numbers = SHAPES[name], np.random.default_rng(1)
    size = shape["batch"], shape["length"]
    ids = numbers.integers(1, shape["vocabulary"], size=(3, steps, *size), dtype="int32")
    lengths = numbers.integers(shape["length"] // 2, shape["length"] + 1, size=shape["batch"])
    lengths = np.stack([numbers.permutation(lengths) for _ in range(steps)])
    return np.where(np.arange(shape["length"]) < lengths[..., None], ids, 0).astype("int32")


def fitted(build, name, steps, **options):
    """Returns a function that runs steps of `fit` with Keras' Adam and returns the loss, and the view for comparison.

    Args:
        build: A Keras builder.
        name: Name of a shape.
        steps: Number of steps per call.
        options: Arguments of `compile`.
    """
    import keras
    import tensorflow as tf

    model, weights = build(name)
    assign(model, weights)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0)
    model.compile(keras.optimizers.Adam(**ADAM), loss, **options)
    source, target, labels = batches(name, steps)
    inputs = (source, target) if SHAPES[name]["kind"] == "seq2seq" else source
    # The autotuner thread sleeps for 10 ms, and then twice as long each time, and the end of `fit` waits for it: calls
    # would take 0.63 s or 1.27 s, whatever the model.
    pipeline = tf.data.Options()
    pipeline.autotune.enabled = False
    dataset = tf.data.Dataset.from_tensor_slices((inputs, labels)).cache().with_options(pipeline)
    return (lambda: model.fit(dataset, verbose=0).history["loss"]), lambda loss: [loss, model.count_params()]
