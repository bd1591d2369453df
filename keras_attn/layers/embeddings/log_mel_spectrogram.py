"""Log-mel spectrogram of samples."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_attn.argument_checks import check_finite, check_flag, check_positive, check_positive_number, is_number
from keras_attn.layers.base.configurable import Configurable
from keras_attn.layers.base.implicit_mask import implicit_mask
from keras_attn.layers.base.shape_checks import check_mask
from keras_attn.layers.base.without_padding import without_padding
from keras_attn.ops.arrays import axis_size, reshape_rows, rows
from keras_attn.ops.boolean_mask import boolean
from keras_attn.ops.windows import num_windows
from keras_attn.typing import Array, Shape, Tensor

FRAMINGS = ("centered", "valid", "kaldi")


@keras.saving.register_keras_serializable(package="keras_attn")
class LogMelSpectrogram(Configurable, keras.layers.Layer):
    """`(log10(max(|DFT(frame * hann)|^2 F, floor)) - mean) / scale` of each frame of samples, with mel filters `F`.

    The defaults are the features of Whisper. The Fourier transform is a product with a constant matrix, so that the
    layer exports to every format without custom operations, and an exported model takes samples. Padding is replaced
    by zeros in samples and output, and a row's output does not depend on the rest of the batch.

    | `framing` | frames of `L` samples |
    | --- | --- |
    | "centered" | `L // frame_step`: frame `t` is centred at sample `t * frame_step`; both ends are reflected |
    | "valid" | `(L - frame_length) // frame_step + 1`, inside the samples, as in `tf.signal.stft` |
    | "kaldi" | as "valid", each minus its mean, with a pre-emphasis of 0.97 and a symmetric window, as in AST |

    For the features of AST: `framing="kaldi"`, `fft_length=512`, `num_mels=128`, `min_frequency=20`, `mel_scale="htk"`,
    `natural_log=True`, `floor=2**-23`, `dynamic_range=None`, `mean=-4.2677393`, `scale=2 * 4.5689974`.

    Args:
        sample_rate: Samples per second.
        num_mels: Number of mel bands.
        frame_length: Number of samples per frame.
        frame_step: Number of samples from one frame to the next.
        fft_length: Length of the Fourier transform; frames are padded with zeros. Defaults to `frame_length`.
        min_frequency: Lower edge of the lowest band, in Hz.
        max_frequency: Upper edge of the highest band, in Hz. Defaults to half the sample rate.
        framing: See the table.
        mel_scale: "slaney" for triangles in Hz on Slaney's scale, divided by half their width, as in librosa and
            Whisper; "htk" for triangles in mel of height 1 on the scale of HTK, as in `tf.signal`, Keras and AST.
        natural_log: Whether to use the natural logarithm.
        floor: Least power, before the logarithm.
        dynamic_range: Optional number: values are at least the maximum of the row, over its real frames, minus this.
        mean, scale: See the formula; 0 and 1 for plain logarithms.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Float `(B, L)`, samples between -1 and 1. Computed in float32 or float64, under mixed precision too.
        inputs_mask: Optional bool `(B, L)`, False at padding, which must come after the samples. Filled from the Keras
            mask of the inputs.
        mask: Same as `inputs_mask`, under the name that wrappers such as `keras.layers.TimeDistributed` use.

    Returns:
        Float `(B, T, num_mels)`. Its Keras mask is True at the frames of the row alone; also available as
        `compute_mask(inputs, inputs_mask)`.

    Raises:
        ValueError: If an argument or the rank of the inputs is invalid.

    Reference:
        [Radford et al., 2022](https://arxiv.org/abs/2212.04356), section 2.2; "kaldi"
        [Gong et al., 2021](https://arxiv.org/abs/2104.01778), section 2.1

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers import LogMelSpectrogram
    >>> second = np.sin(np.arange(16000) * 2 * np.pi * 440 / 16000).astype("float32")
    >>> tuple(LogMelSpectrogram()(second[None]).shape)
    (1, 100, 80)
    """

    def __init__(
        self,
        sample_rate: int = 16000,
        num_mels: int = 80,
        frame_length: int = 400,
        frame_step: int = 160,
        fft_length: int | None = None,
        min_frequency: float = 0.0,
        max_frequency: float | None = None,
        *,
        framing: str = "centered",
        mel_scale: str = "slaney",
        natural_log: bool = False,
        floor: float = 1e-10,
        dynamic_range: float | None = 8.0,
        mean: float = -4.0,
        scale: float = 4.0,
        **kwargs: Any,
    ) -> None:
        check_positive(sample_rate=sample_rate, num_mels=num_mels, frame_length=frame_length, frame_step=frame_step)
        check_positive(fft_length=1 if fft_length is None else fft_length)
        if fft_length is not None and fft_length < frame_length:
            raise ValueError(
                f"`fft_length` must be at least frame_length={frame_length}. Received: fft_length={fft_length}"
            )
        bins = (fft_length or frame_length) // 2 + 1
        if num_mels > bins:
            raise ValueError(
                f"`num_mels` must be at most the {bins} frequencies of a transform of {fft_length or frame_length} "
                f"samples. Received: num_mels={num_mels}"
            )
        top = sample_rate / 2 if max_frequency is None else max_frequency
        if not (is_number(min_frequency) and is_number(top) and 0 <= min_frequency < top <= sample_rate / 2):
            raise ValueError(
                "`min_frequency` and `max_frequency` must be between 0 and half of the sample rate, "
                f"{sample_rate / 2} Hz, the first below the second. "
                f"Received: min_frequency={min_frequency}, max_frequency={max_frequency}"
            )
        if framing not in FRAMINGS:
            raise ValueError(f"`framing` must be one of {list(FRAMINGS)}. Received: framing={framing!r}")
        if mel_scale not in _MEL_FILTERS:
            raise ValueError(f"`mel_scale` must be one of {list(_MEL_FILTERS)}. Received: mel_scale={mel_scale!r}")
        check_flag(natural_log=natural_log)
        check_finite(mean=mean)
        check_positive_number(floor=floor, scale=scale, dynamic_range=1 if dynamic_range is None else dynamic_range)
        # Half precision would lose quiet samples before the layer sees them.
        super().__init__(**{"autocast": False, **kwargs})
        self.supports_masking = True
        self.sample_rate, self.num_mels = sample_rate, num_mels
        self.frame_length, self.frame_step, self.fft_length = frame_length, frame_step, fft_length
        self.min_frequency, self.max_frequency = min_frequency, max_frequency
        self.framing, self.mel_scale, self.natural_log = framing, mel_scale, natural_log
        self.floor, self.dynamic_range, self.mean, self.scale = floor, dynamic_range, mean, scale

    def build(self, inputs_shape: Shape) -> None:
        _check_samples(inputs_shape)
        size = self.fft_length or self.frame_length
        frequencies = np.arange(size // 2 + 1) * self.sample_rate / size
        top = self.sample_rate / 2 if self.max_frequency is None else self.max_frequency
        self._filters = _MEL_FILTERS[self.mel_scale](frequencies, self.num_mels, self.min_frequency, top)
        self._fourier = _fourier(self.frame_length, size, self.framing == "kaldi")
        # Frames are made of whole blocks of `frame_step` samples; the matrix is zero at the surplus.
        surplus = self._blocks * self.frame_step - self.frame_length
        self._fourier = np.pad(self._fourier, ((0, surplus), (0, 0)))

    @property
    def float_constants(self) -> dict[str, Array]:
        """The matrices of the Fourier transform and the mel filters, which no export may round."""
        return {"fourier": self._fourier, "filters": self._filters}

    @property
    def _blocks(self):
        return math.ceil(self.frame_length / self.frame_step)

    def call(self, inputs: Tensor, inputs_mask: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        _check_samples(inputs.shape)
        mask = implicit_mask(inputs, inputs_mask, mask)
        check_mask("inputs_mask", mask, inputs.shape)
        dtype = "float64" if self.compute_dtype == "float64" else "float32"
        x = ops.cast(inputs, dtype)
        count = ops.reshape(ops.convert_to_tensor(axis_size(x, 1), "int32"), (1, 1))
        real = None
        if mask is not None:
            mask = boolean("inputs_mask", mask)
            x = ops.where(mask, x, ops.zeros_like(x))
            count = _count(mask)
            real = self._real_frames(mask)
        frames = self._frames(x, count)
        fourier, filters = (ops.convert_to_tensor(matrix.astype(dtype)) for matrix in (self._fourier, self._filters))
        bins = filters.shape[0]
        waves = ops.square(ops.matmul(frames, fourier))
        power = ops.matmul(waves[..., :bins] + waves[..., bins:], filters)
        y = ops.log(ops.maximum(power, self.floor))
        log_base = 1.0 if self.natural_log else math.log(10)
        y = y / log_base
        if self.dynamic_range is not None:
            least = math.log(self.floor) / log_base
            shown = y if real is None else ops.where(ops.expand_dims(real, -1), y, ops.full_like(y, least))
            y = ops.maximum(y, ops.max(shown, axis=(1, 2), keepdims=True, initial=least) - self.dynamic_range)
        return without_padding(ops.cast((y - self.mean) / self.scale, self.compute_dtype), real)

    def _frames(self, x, count):
        """The frames of samples `(B, L)`, float `(B, T, blocks * frame_step)`."""
        step, blocks = self.frame_step, self._blocks
        batch, length = axis_size(x, 0), axis_size(x, 1)
        num_frames = self._num_frames(length)
        num_blocks = num_frames + blocks - 1
        if self.framing == "centered":
            places = ops.arange(num_blocks * step, dtype="int32")[None] - self.frame_length // 2
            # As often as it takes, for rows that are shorter than half a frame.
            period = ops.maximum(2 * (count - 1), 1)
            places = ops.mod(ops.abs(places), period)
            places = ops.minimum(places, period - places)
            # A row of no samples reads one zero.
            x, length = ops.pad(x, ((0, 0), (0, 1))), length + 1
            starts = ops.expand_dims(ops.arange(batch, dtype="int32"), 1) * length
            x = rows(ops.reshape(x, (-1,)), starts + places)
        else:
            x = ops.pad(x, ((0, 0), (0, blocks * step)))[:, : num_blocks * step]
        x = reshape_rows(x, batch, num_blocks, step)
        return ops.concatenate([x[:, i : i + num_frames] for i in range(blocks)], axis=-1)

    def _num_frames(self, length):
        """The number of frames of `length` samples, an int or an integer tensor."""
        if self.framing == "centered":
            return length // self.frame_step
        return num_windows(length, self.frame_length, self.frame_step)

    def _real_frames(self, mask):
        numbers = ops.arange(self._num_frames(axis_size(mask, 1)), dtype="int32")
        return ops.less(numbers[None], self._num_frames(_count(mask)))

    def compute_mask(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor | None:
        return None if mask is None else self._real_frames(boolean("inputs_mask", mask))

    def compute_output_shape(self, inputs_shape: Shape) -> Shape:
        batch, length = inputs_shape
        return (batch, length if length is None else self._num_frames(length), self.num_mels)


def _check_samples(shape):
    if len(shape) != 2:
        raise ValueError(f"`inputs` must be samples of rank 2 (batch, length). Received: shape {tuple(shape)}")


def _count(mask):
    """The number of real samples of each row, int32 `(B, 1)`."""
    return ops.sum(ops.cast(mask, "int32"), axis=1, keepdims=True)


def _fourier(frame_length, size, is_kaldi):
    """The matrix `(frame_length, 2 * bins)` from a frame to cosine and sine parts, with all that precedes it."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(frame_length) / max(frame_length - is_kaldi, 1))
    angles = 2 * np.pi * np.outer(np.arange(frame_length), np.arange(size // 2 + 1)) / size
    matrix = window[:, None] * np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
    if not is_kaldi:
        return matrix
    emphasis = np.eye(frame_length) - 0.97 * np.eye(frame_length, k=1)
    emphasis[0, 0] -= 0.97
    return (np.eye(frame_length) - 1 / frame_length) @ emphasis @ matrix


def _triangles(places, edges):
    """Triangles of height 1 between every three edges, `(bins, len(edges) - 2)`."""
    places = places[:, None]
    rising = (places - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - places) / (edges[2:] - edges[1:-1])
    return np.maximum(0, np.minimum(rising, falling))


def _slaney(frequencies, count, lowest, highest):
    """Linear below 1000 Hz, 15 mel, and logarithmic above."""
    step = 27 / math.log(6.4)

    def mel(hertz):
        return 3 * hertz / 200 if hertz < 1000 else 15 + math.log(hertz / 1000) * step

    mels = np.linspace(mel(lowest), mel(highest), count + 2)
    edges = np.where(mels < 15, 200 * mels / 3, 1000 * np.exp((mels - 15) / step))
    return _triangles(frequencies, edges) * 2 / (edges[2:] - edges[:-2])


def _htk(frequencies, count, lowest, highest):
    mels, low, high = (np.log1p(np.asarray(x) / 700) for x in (frequencies, lowest, highest))
    return _triangles(mels, np.linspace(low, high, count + 2))


_MEL_FILTERS = {"slaney": _slaney, "htk": _htk}
