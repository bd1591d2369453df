"""Classifies images with a compact convolutional Transformer (Hassani et al., 2021) or a Vision Transformer.

python examples/classify_images.py --out build/images                  drawn shapes
python examples/classify_images.py --data DIR --out build/cifar10      CIFAR-10
python examples/classify_images.py --folder DIR --out build/mine       your own images, one folder per class
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Without AVX-512, TensorFlow leaves oneDNN off, whose convolutions make a step a quarter faster.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras
import numpy as np
import rich
import tensorflow as tf
from corpora import add_data_argument, cifar10, image_folder
from example import Example, argument_parser, positive

import keras_attn
import keras_attn.plot
from keras_attn import layers
from keras_attn.ops import attention_rollout
from keras_attn.training import Checkpoints, Dataset, FusedAdamW, OneCycleSchedule, ProgressBar, Trainer, get_strategy

BATCH_SIZE = 128
EPOCHS = 24  # with --data or --folder
MAX_DROP = 0.005  # of the accuracy, in int8
SHAPES = ("circle", "cross", "square", "triangle")


class Images(Dataset):
    """Batches of pixels and one-hot labels; in a new order every epoch if there is a seed, else once and all."""

    def __init__(self, images, classes, labels, seed=None):
        self.images, self.targets, self.labels = images, np.eye(len(labels), dtype="float32")[classes], labels
        self.seed, self.epochs = seed, 1 if seed is None else None

    def __len__(self):
        count = len(self.images) / BATCH_SIZE
        return int(np.ceil(count)) if self.seed is None else max(1, int(count))

    def plan(self, epoch):
        rows = np.arange(len(self.images))
        return rows if self.seed is None else np.random.default_rng((self.seed, epoch)).permutation(rows)

    def batch(self, plan, index):
        rows = plan[index * BATCH_SIZE : (index + 1) * BATCH_SIZE]
        return {"images": self.images[rows].astype("float32")}, self.targets[rows]


def augmentation(mix, seed):
    """A function for `Dataset.map`: random flips and shifts, and with `mix` also blends of two images."""
    augmenters = [keras.layers.RandomFlip("horizontal"), keras.layers.RandomTranslation(0.125, 0.125)]
    augmenters += {"none": [], "mixup": [keras.layers.MixUp()], "cutmix": [keras.layers.CutMix()]}[mix]

    @tf.function(reduce_retracing=True)
    def transformed(data):
        for augmenter in augmenters:
            data = augmenter(data)
        return {"images": data["images"]}, data["labels"]

    def augment(batch, number):
        # What a batch gets depends only on its number, so a resumed run is the same.
        for index, augmenter in enumerate(augmenters):
            augmenter.generator.state.assign([seed * len(augmenters) + index, number << 8])
        return transformed({"images": batch[0]["images"], "labels": batch[1]})

    return augment


def made_up(count, seed, size=16):
    """Draws a bright shape per image: `(images, classes)`."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, len(SHAPES), count)
    images = rng.normal(rng.uniform(0, 80, (count, 1, 1, 3)), 10, (count, size, size, 3))
    for image, shape in zip(images, classes, strict=True):
        radius = rng.uniform(0.25, 0.4) * size
        y, x = np.mgrid[:size, :size] - rng.uniform(radius, size - radius, (2, 1, 1))
        longer, shorter = np.maximum(abs(x), abs(y)), np.minimum(abs(x), abs(y))
        inside = (x**2 + y**2 < radius**2, (longer < radius) & (shorter < radius / 3), longer < radius * 0.85)
        inside += ((abs(y) < radius) & (abs(x) < (y + radius) / 2),)
        image[inside[shape]] += rng.uniform(80, 175, 3)
    return np.clip(images, 0, 255).astype("uint8"), classes


def build_model(kind, images, labels):
    """A model of pixel values 0 to 255, normalised by the mean and variance of `images`."""
    size = images.shape[1:]
    pixels = images[:10000].astype("float32")
    normalize = keras.layers.Normalization(mean=pixels.mean((0, 1, 2)), variance=pixels.var((0, 1, 2)))
    if kind == "cct":  # CCT-2/3x2
        sizes = {"num_layers": 2, "hidden_dim": 128, "num_heads": 2, "intermediate_dim": 128}
        embedding, pooling = layers.ConvolutionalEmbedding((64, 128)), layers.SequencePooling()
    else:
        sizes = {"num_layers": 6, "hidden_dim": 128, "num_heads": 4, "intermediate_dim": 256}
        embedding = layers.PatchEmbedding(4, 128, class_token=True, padding="same")
        pooling = layers.FirstTokenPooling()
    return keras_attn.EncoderModel(
        None,
        **sizes,
        embeddings=keras.Sequential([normalize, embedding]),
        inputs={"images": keras.Input(size)},
        position=layers.LearnedPositionEmbedding(embedding.compute_output_shape((None, *size))[1]),
        norm="pre",
        norm_epsilon=1e-5,
        embedding_norm=False,
        use_attention_bias=["output"],
        dropout=0.0,
        attention_dropout=0.1,
        stochastic_depth=0.1,
        head=layers.ClassificationHead(len(labels), pooling=pooling),
        labels=labels,
        name=kind,
    )


def draw_attention(model, images, titles, path):
    """Lays the share that each part of an image has in the pooled vector over the image."""
    maps = list(keras_attn.attention_maps(model, {"images": images.astype("float32")}).values())
    if model.name == "cct":
        *maps, pooled = maps
        shares = pooled[:, 0] @ np.asarray(attention_rollout(maps))
    else:
        shares = np.asarray(attention_rollout(maps))[:, :1, 1:]
    rows = round(shares.shape[-1] ** 0.5)
    keras_attn.plot.image_attention(images, shares.reshape(len(images), rows, -1), path, titles=titles)


def main(argv=None):
    parser = argument_parser(__doc__, "images")
    add_data_argument(parser)
    parser.add_argument("--folder", type=Path, help="folder with a folder of images per class, instead of --data")
    parser.add_argument("--image-size", type=positive, help="height and width to which --folder is resized (32)")
    parser.add_argument("--model", choices=("cct", "vit"), default="cct")
    parser.add_argument("--mix", choices=("none", "mixup", "cutmix"), default="none", help="for long training runs")
    args = parser.parse_args(argv)
    if args.image_size and not args.folder:
        parser.error("--image-size needs --folder")
    if args.folder:
        train, test, labels = image_folder(args.folder, args.image_size or 32, args.seed)
    elif args.data:
        train, test, labels = cifar10(args.data)
    else:
        train, test, labels = made_up(2000, args.seed), made_up(400, args.seed + 1), SHAPES
    example = Example(args)
    keras.utils.set_random_seed(args.seed)
    data = Images(*train, labels, args.seed)
    # Only for the curves, so fewer images will do: no choice is based on them.
    part = slice(None, None, max(1, len(test[0]) // 2000))
    held_out = Images(test[0][part], test[1][part], labels)
    steps = args.steps or (EPOCHS * len(data) if args.folder or args.data else 80)
    strategy = get_strategy()
    with strategy.scope():
        model = build_model(args.model, train[0], labels)
        optimizer = FusedAdamW(OneCycleSchedule(2e-3, steps, 0.1), weight_decay=0.05, global_clipnorm=1.0)
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    rich.print(f"{len(train[0]):,} + {len(test[0]):,} images {train[0].shape[1:]} of {len(labels)} classes")
    rich.print(f"{model.count_params():,} parameters, {steps:,} steps, {steps / len(data):.1f} epochs")
    example.lap("data and model")
    every = max(1, steps // 10)
    trainer = Trainer(
        model,
        optimizer,
        keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
        [keras.metrics.CategoricalAccuracy(name="accuracy")],
        strategy,
        jit_compile=args.jit_compile,
        checkpoints=Checkpoints(args.out / "checkpoints", every=every, keep=1),
    )
    augmented = data.map(augmentation(args.mix, args.seed))
    history = trainer.fit(augmented, steps, [ProgressBar()], validation_data=held_out, validation_freq=every)
    example.draw(history, every, steps)
    example.lap("training")
    logits = model.predict({"images": test[0].astype("float32")}, batch_size=BATCH_SIZE, verbose=0)
    found = logits.argmax(-1)
    accuracy = float(np.mean(found == test[1]))
    example.report |= {"steps": steps, "epochs": steps / len(data), "accuracy": accuracy}
    rich.print(f"accuracy {accuracy:.1%} on {len(test[0]):,} images")
    # Of a test set in the order of its classes, images of eight of them.
    shown = slice(None, None, -(-len(test[0]) // 8))
    draw_attention(model, test[0][shown], [labels[i] for i in found[shown]], args.out / "attention.png")
    example.lap("evaluation")
    data = {"samples": {"images": test[0]}, "references": test[1], "max_accuracy_drop": MAX_DROP}
    small = "tflite" not in args.formats or example.export(model, "tflite", tasks="classify", precision="int8", **data)
    return max(example.finish(model, ["classify"], {"images": test[0][:16]}), int(not small))


if __name__ == "__main__":
    sys.exit(main())
