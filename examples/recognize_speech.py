"""Recognises spoken digits: one per recording, or several one after another, from samples to text.

python examples/recognize_speech.py --out build/speech                                    digits made of tones
python examples/recognize_speech.py --data DIR --out build/speech                         six speakers, by take
python examples/recognize_speech.py --data DIR --hold-out theo --out build/theo           a speaker never heard
python examples/recognize_speech.py --data DIR --task transcribe --stream --out build/digits
"""

import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import digit_corpus
import keras
import numpy as np
import rich
from corpora import DIGIT_RATE, add_data_argument, spoken_digits
from example import Example, argument_parser
from keras import ops

import keras_attn
from keras_attn.layers import AudioFrontEnd, ClassificationHead, LogMelSpectrogram, MeanPooling
from keras_attn.ops import ctc_greedy
from keras_attn.text import CharacterTokenizer
from keras_attn.training import (
    Checkpoints,
    CTCLoss,
    FusedAdamW,
    LinearSchedule,
    MaskedAccuracy,
    MaskedCrossEntropy,
    ProgressBar,
    Trainer,
    get_strategy,
)

WIDTH = 96
BATCH_SIZE = 32
TESTED = 10  # batches of held-out sequences
AVERAGED = 4  # checkpoints of the last part of training
STREAMED = 40  # digits of the long recording


def build_model(task, head, tokenizer):
    front_end = keras.Sequential(
        [
            LogMelSpectrogram(DIGIT_RATE, 64, frame_length=200, frame_step=80, fft_length=256, name="log_mel"),
            digit_corpus.SpectrogramMasking(name="masking"),
            # 25 vectors per second.
            AudioFrontEnd(WIDTH, strides=(2, 2), name="convolutions"),
        ],
        name="front_end",
    )
    name = "source_samples" if (task, head) == ("transcribe", "decoder") else "samples"
    position = keras_attn.layers.SinusoidalPositionEncoding()
    settings = {"num_layers": 3, "hidden_dim": WIDTH, "num_heads": 4, "intermediate_dim": 2 * WIDTH, "norm": "pre"}
    settings |= {"embeddings": front_end, "inputs": {name: keras.Input((None,))}, "position": position, "name": task}
    if name == "source_samples":
        config = keras_attn.GenerationConfig(digit_corpus.MOST_DIGITS + 1)
        size = tokenizer.vocabulary_size
        return keras_attn.Transformer(
            size, num_decoder_layers=2, tokenizer=tokenizer, generation_config=config, **settings
        )
    if task == "transcribe":
        return keras_attn.EncoderModel(None, head=ClassificationHead(tokenizer.vocabulary_size), **settings)
    settings |= {"labels": list("0123456789"), "pooling": MeanPooling()}
    return keras_attn.EncoderModel(None, head="sequence_classification", **settings)


def draw_alignment(model, inputs, tokenizer, path):
    """Plots the spectrogram of a row over what each digit attends to, or over the probability of each digit."""
    from matplotlib.figure import Figure

    row = {name: inputs[name][:1] for name in model.prompt_specs}
    samples = next(iter(row.values()))
    if "source_samples" in row:
        text = transcribe(model, row, tokenizer)[0]
        ids = np.array([[tokenizer.start_id, *tokenizer.tokenize([text])[0]]], "int32")
        maps = keras_attn.attention_maps(model, {**row, "target_ids": ids})
        weights, text = maps[model.alignment_layers()[-1]][0].mean(axis=0), f"{text}."
    else:
        weights, text = ops.convert_to_numpy(ops.softmax(model(row)))[0].T[4:], tokenizer.characters
    figure = Figure(figsize=(9, 5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    seconds = samples.shape[1] / DIGIT_RATE
    spectrogram = ops.convert_to_numpy(model.embeddings.layers[0](samples))[0]
    above.imshow(spectrogram.T, origin="lower", aspect="auto", extent=(0, seconds, 0, DIGIT_RATE // 2))
    above.set(ylabel="mel bands")
    below.imshow(weights, aspect="auto", extent=(0, seconds, len(text), 0), vmin=0)
    below.set(xlabel="seconds", yticks=np.arange(len(text)) + 0.5, yticklabels=list(text))
    figure.savefig(path, dpi=150)


def transcribe(model, inputs, tokenizer):
    """The texts of a batch."""
    inputs = {name: inputs[name] for name in model.prompt_specs}
    if "source_samples" in inputs:
        return model.generate(inputs)
    return tokenizer.decode(ops.convert_to_numpy(ctc_greedy(model(inputs, training=False))))


def stream(recordings, model, tokenizer):
    """Transcribes a long recording window by window: `(digits, errors, seconds of audio, seconds of work)`."""
    samples, reference = digit_corpus.spoken(recordings, np.random.default_rng(0), STREAMED)
    names, start, text = list(model.prompt_specs), time.perf_counter(), ""
    for piece in digit_corpus.pieces(samples):
        inputs = dict(zip(names, (piece[None], np.ones((1, len(piece)), bool)), strict=True))
        text += transcribe(model, inputs, tokenizer)[0]
    return {
        "digits": STREAMED,
        "errors": digit_corpus.errors(text, reference),
        "seconds_of_audio": round(len(samples) / DIGIT_RATE, 1),
        "seconds": round(time.perf_counter() - start, 1),
    }


def main(argv=None):
    parser = argument_parser(__doc__, "speech")
    add_data_argument(parser)
    parser.add_argument("--task", choices=["classify", "transcribe"], default="classify")
    parser.add_argument("--head", choices=["decoder", "ctc"], default="decoder", help="of --task transcribe")
    parser.add_argument("--hold-out", default="take", help="take, or a speaker (default: take)")
    parser.add_argument("--stream", action="store_true", help="transcribe a long recording in windows at the end")
    args = parser.parse_args(argv)
    transcribes, is_ctc = args.task == "transcribe", args.head == "ctc"
    if is_ctc and not transcribes:
        parser.error("--head ctc needs --task transcribe")
    if args.stream and not transcribes:
        parser.error("--stream needs --task transcribe")
    steps = args.steps or (6000 if args.data else 200)
    # Every file is read before anything is written.
    train, test = digit_corpus.split(
        spoken_digits(args.data) if args.data else digit_corpus.made_up(seed=args.seed), args.hold_out
    )
    example = Example(args)
    keras.utils.set_random_seed(args.seed)
    tokenizer = CharacterTokenizer("0123456789")
    if transcribes:
        settings = {"tokenizer": tokenizer, "is_ctc": is_ctc, "batch_size": BATCH_SIZE}
        data = digit_corpus.Sequences(train, num_batches=100, seed=args.seed, **settings)
        held_out = digit_corpus.Sequences(test, num_batches=TESTED, training=False, **settings)
    else:
        data = digit_corpus.Windows(train, BATCH_SIZE, args.seed)
        held_out = digit_corpus.Windows(test, BATCH_SIZE, training=False)
    strategy = get_strategy()
    with strategy.scope():
        model = build_model(args.task, args.head, tokenizer)
        optimizer = FusedAdamW(LinearSchedule(2e-3, steps, steps // 10), weight_decay=0.05, global_clipnorm=1.0)
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    rich.print(f"{len(train):,} + {len(test):,} recordings, {model.count_params():,} parameters, {steps:,} steps")
    example.lap("data and model")
    every = min(steps, max(10, steps // 20))
    checkpoints = Checkpoints(args.out / "checkpoints", every=every, keep=AVERAGED)
    trainer = Trainer(
        model,
        optimizer,
        CTCLoss() if is_ctc else MaskedCrossEntropy(label_smoothing=0.1),
        strategy=strategy,
        weighted_metrics=[] if is_ctc else [MaskedAccuracy(name="accuracy")],
        jit_compile=args.jit_compile,
        checkpoints=checkpoints,
    )
    # Only for the curves: no choice is based on the held-out recordings.
    history = trainer.fit(
        data.map(digit_corpus.noisy), steps, [ProgressBar()], validation_data=held_out, validation_freq=every
    )
    example.draw(history, every, steps)
    example.lap("training")
    checkpoints.average(model, last=len(checkpoints.steps()))
    example.report |= {"steps": steps, **trainer.evaluate(held_out)}
    inputs = next(held_out.batches())[0]
    if transcribes:
        wrong, references = 0, []
        for batch, labels in held_out.batches():
            references += tokenizer.decode(labels)
            outputs = transcribe(model, batch, tokenizer)
            wrong += sum(map(digit_corpus.errors, outputs, references[-len(outputs) :]))
        example.report["digit_error_rate"] = rate = wrong / sum(map(len, references))
        rich.print(f"digit error rate {rate:.2%} on {len(references):,} held-out sequences")
        draw_alignment(model, inputs, tokenizer, args.out / "alignment.png")
        samples = {name: inputs[name][:8] for name in model.prompt_specs}
        options = {"tokenizer": tokenizer, "references": references[:8]}
    else:
        rich.print(f"accuracy {example.report['accuracy']:.1%} on {len(test):,} held-out recordings")
        samples = {**inputs, "padding_mask": np.ones(inputs["samples"].shape, bool)}
        options = {"references": next(held_out.batches())[1]}
    if args.stream:
        example.report["stream"] = stream(test, model, tokenizer)
        rich.print(f"a long recording in windows: {example.report['stream']}")
    example.lap("evaluation")
    task = "classify" if not transcribes else "transcribe" if is_ctc else "generate"
    return example.finish(model, [task], samples, **options)


if __name__ == "__main__":
    sys.exit(main())
