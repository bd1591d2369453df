"""Samples as log-mel spectrograms."""

from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf
from harness import LayerCase, pairs, run_check
from harness_export import check_export
from samples import lengths, normal

from keras_attn.layers import LogMelSpectrogram

WINDOW, STEP, FFT, RATE, MELS = 20, 8, 32, 800, 6
SIZES = {"sample_rate": RATE, "num_mels": MELS, "frame_length": WINDOW, "frame_step": STEP, "fft_length": FFT}
KALDI = {"framing": "kaldi", "mel_scale": "htk", "min_frequency": 20.0, "natural_log": True, "dynamic_range": None}


def count(length, framing):
    return length // STEP if framing == "centered" else max(0, (length - WINDOW) // STEP + 1)


def frame_mask(mask, framing):
    real = [count(n, framing) for n in mask.sum(axis=1)]
    return np.arange(count(mask.shape[1], framing)) < np.array(real)[:, None]


def samples(rng, B, T, S):
    # The shorter row ends inside a frame.
    length = STEP * T + WINDOW + 1 if T else 0
    return {"inputs": normal(rng, B, length), "inputs_mask": lengths(B, length)}


def hertz(mel, scale):
    if scale == "htk":
        return 700 * (10 ** (mel / 2595) - 1)
    return mel * 200 / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)


def mel_of(f, scale):
    if scale == "htk":
        return 2595 * np.log10(1 + f / 700)
    return f * 3 / 200 if f < 1000 else 15 + 27 * np.log(f / 1000) / np.log(6.4)


def bank(mel_scale, lowest=0.0):
    """A filter and a frequency at a time."""
    mels = np.linspace(mel_of(lowest, mel_scale), mel_of(RATE / 2, mel_scale), MELS + 2)
    found = np.zeros((FFT // 2 + 1, MELS))
    for k, m in np.ndindex(*found.shape):
        f = k * RATE / FFT
        if mel_scale == "htk":
            x, (a, b, c), height = mel_of(f, "htk"), mels[m : m + 3], 1
        else:
            a, b, c = (hertz(x, "slaney") for x in mels[m : m + 3])
            x, height = f, 2 / (c - a)
        found[k, m] = height * max(0, min((x - a) / (b - a), (c - x) / (c - b)))
    return found


def log_mel_oracle(
    weights,
    inputs,
    inputs_mask,
    framing="centered",
    mel_scale="slaney",
    min_frequency=0.0,
    natural_log=False,
    dynamic_range=8.0,
    mean=-4.0,
    scale=4.0,
    floor=1e-10,
):
    """A row at a time, alone, and a frame at a time, with NumPy's Fourier transform."""
    real, outputs = frame_mask(inputs_mask, framing), []
    for x, mask, frames in zip(inputs, inputs_mask, real, strict=True):
        x = x[mask]
        if framing == "centered":
            x = np.pad(x, WINDOW // 2, "reflect")
        window = np.hanning(WINDOW) if framing == "kaldi" else np.hanning(WINDOW + 1)[:-1]
        row = []
        for t in range(frames.sum()):
            frame = x[t * STEP : t * STEP + WINDOW]
            if framing == "kaldi":
                frame = frame - frame.mean()
                frame = frame - 0.97 * np.concatenate([frame[:1], frame[:-1]])
            power = np.abs(np.fft.rfft(frame * window, FFT)) ** 2
            row.append(np.maximum(power @ bank(mel_scale, min_frequency), floor))
        row = np.log(row) if natural_log else np.log10(row)
        if dynamic_range is not None:
            row = np.maximum(row, row.max() - dynamic_range)
        row = (row - mean) / scale
        outputs.append(np.pad(row, ((0, len(frames) - len(row)), (0, 0))))
    return np.stack(outputs)


def case(name, bad=(), **config):
    framing = config.get("framing", "centered")
    return LayerCase(
        f"log_mel_spectrogram_{name}",
        partial(LogMelSpectrogram, **SIZES, **config),
        samples,
        partial(log_mel_oracle, **config),
        {"inputs": "inputs_mask"},
        bad,
        output_mask=partial(frame_mask, framing=framing),
    )


CASES = [
    case(
        "whisper",
        (
            ({"num_mels": 0}, "`num_mels`"),
            ({"num_mels": 100}, "`num_mels` must be at most the .* frequencies.*num_mels=100"),
            ({"fft_length": 19}, "`fft_length` must be at least frame_length=20. Received: fft_length=19"),
            ({"max_frequency": 500}, "half of the sample rate, 400.0 Hz.*max_frequency=500"),
            ({"min_frequency": 400}, "`min_frequency` and `max_frequency`"),
            ({"framing": "same"}, "`framing` must be one of.*'same'"),
            ({"mel_scale": "bark"}, "`mel_scale` must be one of.*'bark'"),
            ({"natural_log": 2}, "`natural_log` must be True or False"),
            ({"dynamic_range": 0}, "`dynamic_range` must be a positive number"),
            ({"floor": 0.0}, "`floor`"),
            ({"inputs": np.ones((2, 9, 1), "float32"), "inputs_mask": None}, "`inputs` must be samples of rank 2"),
            ({"inputs_mask": np.ones((2, 4), "bool")}, "`inputs_mask` must have"),
        ),
    ),
    case("clipped", dynamic_range=0.7, framing="valid", mel_scale="htk"),
    case("ast", **KALDI, floor=2.0**-23, mean=1.5, scale=3.0),
]


@pytest.mark.parametrize(("check", "case"), pairs(CASES))
def test_layer(check, case, tmp_path):
    run_check(check, case, tmp_path)


@pytest.mark.parametrize("format_name", ["saved_model", "tflite", "onnx"])
def test_export(format_name, tmp_path):
    check_export(CASES, format_name, tmp_path)


def speech(seed, length):
    """Tones and noise of unequal strength."""
    time = np.arange(length) / 16000
    noise = 0.01 * np.random.default_rng(seed).normal(size=length)
    return (0.3 * np.sin(2 * np.pi * 300 * time) + 0.05 * np.sin(2 * np.pi * 2900 * time**2) + noise).astype("float32")


PLAIN = {"mel_scale": "htk", "dynamic_range": None, "mean": 0.0, "scale": 1.0, "min_frequency": 20.0}


@pytest.mark.peer("LogMelSpectrogram", "keras.layers.MelSpectrogram")
def test_as_in_keras():
    sizes = {"sampling_rate": 16000, "num_mel_bins": 80, "fft_length": 512, "sequence_length": 400}
    theirs = keras.layers.MelSpectrogram(**sizes, sequence_stride=160, top_db=1000.0)
    x = speech(0, 16000)[None]
    expected = np.swapaxes(theirs(x), 1, 2)[:, :100] / 10
    np.testing.assert_allclose(LogMelSpectrogram(fft_length=512, **PLAIN)(x), expected, atol=1e-4)


@pytest.mark.peer("LogMelSpectrogram", "tf.signal.stft")
def test_as_in_tensorflow():
    x = speech(1, 9000)[None]
    power = tf.abs(tf.signal.stft(x, 400, 160, 512)) ** 2
    filters = tf.signal.linear_to_mel_weight_matrix(80, 257, 16000, 20.0, 8000.0)
    expected = np.log(np.maximum(power @ filters, 1e-10))
    layer = LogMelSpectrogram(fft_length=512, framing="valid", natural_log=True, **PLAIN)
    np.testing.assert_allclose(layer(x), expected, atol=3e-4)


def test_rows_shorter_than_half_a_frame():
    x = normal(np.random.default_rng(0), 1, STEP)
    layer = LogMelSpectrogram(**SIZES, dynamic_range=None)
    expected = log_mel_oracle([], x.astype("float64"), np.ones(x.shape, bool), dynamic_range=None)
    np.testing.assert_allclose(layer(x), expected, atol=1e-5)
