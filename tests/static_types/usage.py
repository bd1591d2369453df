"""What users write, for pyright: it must find nothing here. Nothing of this is ever run."""

from pathlib import Path
from typing import assert_type

import keras
import numpy as np

import keras_attn
from keras_attn import export, generation, layers, ops, plot, text, training
from keras_attn.generation.processors import LogitProcessor, Temperature, TopP
from keras_attn.training.data import Dataset, Records
from keras_attn.training.text_metrics import Bleu, TextMetric


class Doubled(LogitProcessor):
    """A processor of one's own."""

    def __call__(self, logits, state, step):
        return logits * 2


class Length(TextMetric):
    """A metric of one's own."""

    def score(self, outputs, references):
        return sum(map(len, outputs)) / len(references)


class Ones:
    """A data set of one's own."""

    def batches(self, start=0, shard=0, num_shards=1):
        while True:
            yield {"token_ids": np.ones((4, 8), "int32")}, np.ones((4, 8), "int32")


def compose():
    inputs = keras.Input((None, 64))
    block = layers.EncoderBlock(4, 128, norm_layer="rms", position=layers.RotaryPositionEncoding(base=5e5))
    x = block(inputs)
    x, scores = layers.MultiHeadAttention(4, 16, num_kv_heads=2)(x, x, return_attention_scores=True)
    x = layers.AttentionPooling(seed=3)(x)
    model = keras.Model(inputs, keras.layers.Dense(2, activation=ops.gelu_tanh)(x))
    model.compile(optimizer=training.FusedAdam(1e-3), loss=training.MaskedCrossEntropy())
    mask = ops.AttentionMask(query_positions=np.arange(3)[None], key_positions=np.arange(3)[None], causal=True)
    q = np.ones((2, 4, 3, 8), "float32")
    assert_type(mask.extended(4, 4, 3), ops.AttentionMask)
    return ops.dense_attention(q, q, q, mask=mask), ops.masked_softmax(q), scores


def train(files: list[Path]):
    tokenizer = text.BytePairTokenizer.from_file("vocab.json", Path("merges.txt"), add_start=True)
    assert_type(tokenizer, text.BytePairTokenizer)
    assert_type(tokenizer.decode(tokenizer.encode(["a text"])), list[str])
    dataset = training.TextDataset(Records(*files, columns=["text"]), tokenizer, batch_size=32, max_length=128)
    assert_type(dataset.map(lambda batch, number: batch), Dataset)
    settings = generation.GenerationConfig(32, strategy=generation.BeamSearch(4), processors=(TopP(0.9), Doubled()))
    model = keras_attn.LanguageModel(
        tokenizer.vocabulary_size, 4, 128, 4, 512, tokenizer=tokenizer, generation_config=settings, dtype="bfloat16"
    )
    schedule = training.LinearSchedule(1e-3, 1000, warmup_steps=100)
    trainer = training.Trainer(
        model,
        training.FusedAdamW(schedule, weight_decay=0.01),
        training.MaskedCrossEntropy(label_smoothing=0.1),
        metrics=[training.Perplexity(), "accuracy"],
        accumulation_steps=2,
        checkpoints=training.Checkpoints(Path("run"), every=100, keep_best=1),
    )
    evaluation = training.TextEvaluation(["a"], ["b"], [Bleu(), Length("length")], every=100)
    trainer.fit(dataset, 1000, callbacks=[training.ProgressBar(), evaluation], validation_data=dataset)
    trainer.fit(Ones(), 1000)
    assert_type(trainer.evaluate(dataset), dict[str, float])
    assert_type(trainer.evaluate(dataset.as_tf_dataset()), dict[str, float])
    assert_type(model.tokenizer, text.Tokenizer | None)
    assert_type(model.generation_config, generation.GenerationConfig | None)
    return model


def generate(model: keras_attn.LanguageModel, translator: keras_attn.Transformer):
    sampled = generation.GenerationConfig(strategy=generation.Sampling(seed=1), processors=(Temperature(0.7),))
    for line in model.generate(["Once"], max_length=20, config=sampled):
        print(line.upper())
    for piece in generation.stream(model, np.array([[1, 2]]), every=4):
        print(piece.shape)
    tokens = translator.generate(np.ones((2, 5), "int32"), return_dict=True)["tokens"]
    assert_type(generation.score(translator, ["a"], ["b"])["scores"].ndim, int)
    constraint = generation.AutomatonConstraint(generation.TokenAutomaton.from_phrases([[4, 5], [6]], 100))
    stop = generation.StopStrings.of(text.CharacterTokenizer("abc"), ["a"])
    return tokens, constraint, stop


def ship(model: keras_attn.Transformer):
    report = export.export(model, Path("out"), ["tflite", "onnx"], precision=["float32", "int8"], shapes={"batch": 1})
    assert_type(report.ok, bool)
    assert_type(report, export.Report)
    plot.attention(keras_attn.attention_maps(model, {"source_ids": np.ones((1, 3))}), "maps.png", heads="all")
    keras_attn.Transformer.base(1000, name="small").save("model.keras")
    return export.verify("out").table(), export.inspect(Path("out")).to_json()
