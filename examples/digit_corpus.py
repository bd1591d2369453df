"""Spoken digits for training: recordings made of tones, windows of one digit, sequences of several, augmentation."""

import itertools

import keras
import numpy as np
from corpora import DIGIT_RATE, Recording
from keras import ops

from keras_attn.training import Dataset

WINDOW = DIGIT_RATE  # samples of a window of one digit
GAP = 0.3  # seconds, the longest between two digits
MOST_DIGITS = 5
HELD_OUT_TAKES = range(5)
# Each digit is two tones, far enough apart for any pitch of a speaker.
TONES = list(itertools.combinations((300, 500, 850, 1400, 2300), 2))


def made_up(speakers=3, takes=15, seed=0):
    """Recordings of tones. A speaker has a pitch."""
    rng, found = np.random.default_rng(seed), []
    for speaker in range(speakers):
        for take in range(takes):
            for digit, tones in enumerate(TONES):
                length = int(rng.uniform(0.15, 0.4) * DIGIT_RATE)
                angles = 2 * np.pi * np.arange(length) / DIGIT_RATE * (0.95 + 0.05 * speaker)
                x = sum(np.sin(angles * tone) for tone in tones) * np.hanning(length) * rng.uniform(0.1, 0.4)
                found.append(Recording(digit, f"speaker{speaker}", take, x.astype("float32")))
    return found


def split(recordings, hold_out):
    """`(training, held out)`: by take, or all recordings of the speaker `hold_out`."""
    speakers = sorted({recording.speaker for recording in recordings})
    if hold_out not in ("take", *speakers):
        raise ValueError(f"--hold-out must be take or one of {', '.join(speakers)}. Received: {hold_out}")
    test = [x.take in HELD_OUT_TAKES if hold_out == "take" else x.speaker == hold_out for x in recordings]
    parts = [[x for x, is_test in zip(recordings, test, strict=True) if is_test == wanted] for wanted in (False, True)]
    for name, part in zip(("training", "the test"), parts, strict=True):
        if missing := set(range(10)) - {recording.digit for recording in part}:
            takes = f", which is takes {HELD_OUT_TAKES[0]} to {HELD_OUT_TAKES[-1]}," if hold_out == "take" else ""
            raise ValueError(
                f"--hold-out {hold_out}{takes} must leave recordings of each digit for {name}. "
                f"Received: none of {sorted(missing)}"
            )
    return parts


class Windows(Dataset):
    """One recording per row, somewhere in a window of a second: `({"samples": (B, WINDOW)}, labels, weights)`.

    Args:
        recordings: List of `Recording`.
        batch_size: Rows per batch.
        seed: Seed of order, places and changes of speed.
        training: Whether to shuffle, to change speed and to repeat for ever. If False, there is one epoch.
    """

    ignore_id = None

    def __init__(self, recordings, batch_size, seed=0, training=True):
        self.recordings, self.row_divisor, self.seed, self.training = recordings, batch_size, seed, training
        self.epochs = None if training else 1
        self.labels = list("0123456789")

    def __len__(self):
        return -(-len(self.recordings) // self.row_divisor)

    def plan(self, epoch):
        count = len(self.recordings)
        order = np.random.default_rng((self.seed, epoch)).permutation(count) if self.training else np.arange(count)
        return epoch, order

    def batch(self, plan, index):
        epoch, order = plan
        rng, rows = np.random.default_rng((self.seed, epoch, index)), self.row_divisor
        samples, labels, weights = (
            np.zeros((rows, WINDOW), "float32"),
            np.zeros(rows, "int32"),
            np.zeros(rows, "float32"),
        )
        for row, number in enumerate(order[index * rows : (index + 1) * rows]):
            recording = self.recordings[number]
            x = at_speed(recording.samples, rng, self.training)[:WINDOW]
            start = rng.integers(WINDOW - len(x) + 1) if self.training else (WINDOW - len(x)) // 2
            samples[row, start : start + len(x)], labels[row], weights[row] = x, recording.digit, 1
        return {"samples": samples}, labels, weights


class Sequences(Dataset):
    """One to five recordings per row, one after another with random gaps.

    A batch is `({"samples", "padding_mask"}, labels)` for CTC, else
    `({"source_samples", "source_mask", "target_ids"}, labels)`. Widths are whole halves of a second.

    Args:
        recordings: List of `Recording`.
        tokenizer: The tokenizer of the digits.
        is_ctc: See above.
        batch_size: Rows per batch.
        num_batches: Number of batches of an epoch.
        seed: Batch `i` is a function of the seed and `i`.
        training: Whether to change speed and to repeat for ever. If False, there is one epoch.
    """

    def __init__(self, recordings, tokenizer, is_ctc, batch_size, num_batches, seed=0, training=True):
        self.recordings, self.tokenizer, self.is_ctc, self.row_divisor = recordings, tokenizer, is_ctc, batch_size
        self.num_batches, self.seed, self.training = num_batches, seed, training
        self.epochs = None if training else 1
        self.ignore_id = tokenizer.pad_id
        self.tokenizers = () if is_ctc else (tokenizer,)

    def __len__(self):
        return self.num_batches

    def batch(self, plan, index):
        rng = np.random.default_rng((self.seed, plan, index))
        rows = [
            spoken(self.recordings, rng, rng.integers(1, MOST_DIGITS + 1), self.training)
            for _ in range(self.row_divisor)
        ]
        samples, mask = padded([x for x, _ in rows])
        ids = self.tokenizer.tokenize([text for _, text in rows])
        tokens = np.full((len(rows), MOST_DIGITS + 2), self.tokenizer.pad_id, "int32")
        for row, own in zip(tokens, ids, strict=True):
            row[: len(own) + 2] = [self.tokenizer.start_id, *own, self.tokenizer.end_id]
            if self.is_ctc:
                row[len(own) + 1] = self.tokenizer.pad_id
        if self.is_ctc:
            return {"samples": samples, "padding_mask": mask}, tokens[:, 1:-1]
        return {"source_samples": samples, "source_mask": mask, "target_ids": tokens[:, :-1]}, tokens[:, 1:]


def at_speed(samples, rng, changes):
    """Samples at up to 15 % more or less speed, and so at another pitch."""
    if not changes:
        return samples
    length = int(len(samples) * rng.uniform(0.85, 1.15))
    return np.interp(np.linspace(0, len(samples) - 1, length), np.arange(len(samples)), samples).astype("float32")


def spoken(recordings, rng, count, changes=False):
    """`(samples, digits)` of random recordings with random gaps before, between and after them."""
    chosen = [recordings[number] for number in rng.integers(len(recordings), size=count)]
    parts = [np.zeros(int(rng.uniform(0, GAP) * DIGIT_RATE), "float32")]
    for recording in chosen:
        gap = np.zeros(int(rng.uniform(0, GAP) * DIGIT_RATE), "float32")
        parts += [at_speed(recording.samples, rng, changes), gap]
    return np.concatenate(parts), "".join(str(recording.digit) for recording in chosen)


def padded(rows):
    """`(samples, mask)`, float32 and bool `(B, L)`."""
    step = DIGIT_RATE // 2
    mask = np.arange(-(-max(map(len, rows)) // step) * step) < np.array([[len(row)] for row in rows])
    samples = np.zeros(mask.shape, "float32")
    samples[mask] = np.concatenate(rows)
    return samples, mask


def noisy(batch, number):
    """A batch at random volumes and with random noise, which depend on its number."""
    inputs, *rest = batch
    [name] = [name for name in inputs if name.endswith("samples")]
    x = inputs[name]
    shape, seeds = (len(x), 1), (3 * number, 3 * number + 1, 3 * number + 2)
    volume = 10 ** keras.random.uniform(shape, -1, 0.5, seed=seeds[0])
    # From 50 to 10 dB below the speech.
    noise = 10 ** keras.random.uniform(shape, -2.5, -0.5, seed=seeds[1]) * ops.std(x, axis=1, keepdims=True)
    x = volume * (x + noise * keras.random.normal(x.shape, seed=seeds[2]))
    return {**inputs, name: ops.clip(x, -1, 1)}, *rest


@keras.saving.register_keras_serializable(package="digit_corpus")
class SpectrogramMasking(keras.layers.Layer):
    """In training, hides a band of frequencies and a stretch of time of each row, as SpecAugment (Park et al., 2019).

    Args:
        bands, frames: The most bands and frames to hide.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Float `(B, T, bands)`.
        training: Whether to hide anything.
    """

    def __init__(self, bands=12, frames=20, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.bands, self.frames = bands, frames
        self.seed_generator = keras.random.SeedGenerator(0)

    def call(self, inputs, training=None):
        if not training:
            return inputs
        x, shape = inputs, ops.shape(inputs)
        for axis, most in ((1, self.frames), (2, self.bands)):
            size = ops.cast(shape[axis], "float32")
            width, place = (keras.random.uniform((shape[0], 1, 1), seed=self.seed_generator) for _ in range(2))
            width = ops.minimum(width * most, size / 2)
            first = place * (size - width)
            numbers = ops.reshape(ops.arange(shape[axis], dtype="float32"), (1, -1, 1) if axis == 1 else (1, 1, -1))
            hidden = ops.logical_and(numbers >= first, numbers < first + width)
            x = ops.where(hidden, ops.zeros_like(x), x)
        return x

    def get_config(self):
        return {**super().get_config(), "bands": self.bands, "frames": self.frames}


def pieces(samples, seconds=3.0):
    """Cuts long audio into windows of at most `seconds`, each at the quietest tenth of a second of its second half."""
    window, pause = int(seconds * DIGIT_RATE), DIGIT_RATE // 10
    while len(samples) > window:
        energy = np.convolve(samples[window // 2 : window] ** 2, np.ones(pause), "valid")
        cut = window // 2 + int(np.argmin(energy)) + pause // 2
        yield samples[:cut]
        samples = samples[cut:]
    yield samples


def errors(output, reference):
    """The least number of digits to insert, delete or replace."""
    row = range(len(reference) + 1)
    for i, digit in enumerate(output, 1):
        above, row = row, [i]
        for j, other in enumerate(reference, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (digit != other)))
    return row[-1]
