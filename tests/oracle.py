"""What the layers must compute, in float64 NumPy and independent of keras_attn. Shapes as in `keras_attn.ops`."""

import math

import numpy as np

ACTIVATIONS = {
    None: lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "gelu": lambda x: x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2,
}


def masked_softmax(logits, mask=True):
    """Rows without a single True are zero."""
    mask = np.broadcast_to(mask, logits.shape)
    weights = np.zeros(logits.shape)
    for row in np.ndindex(logits.shape[:-1]):
        keep = mask[row]
        if keep.any():
            exp = np.exp(logits[row][keep] - logits[row][keep].max())
            weights[row][keep] = exp / exp.sum()
    return weights


def allowed(query_positions, key_positions, causal=False, window=None):
    """Bool `(..., T, S)` from positions `(..., T)` and `(..., S)`."""
    distance = np.asarray(query_positions)[..., :, None] - np.asarray(key_positions)[..., None, :]
    return (distance >= 0 if causal else True) & (abs(distance) < (window or np.inf))


def attention(q, k, v, mask=True, bias=0.0, scale=None, soft_cap=None):
    """`(B, N, T, H)`, `(B, K, S, H)`, `(B, K, S, Hv)` to `(output, scores)`."""
    groups = q.shape[1] // k.shape[1]
    k, v = np.repeat(k, groups, axis=1), np.repeat(v, groups, axis=1)
    logits = np.einsum("bnth,bnsh->bnts", q, k) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if soft_cap:
        logits = soft_cap * np.tanh(logits / soft_cap)
    scores = masked_softmax(logits + bias, mask)
    return np.einsum("bnts,bnsh->bnth", scores, v), scores


def multi_head_attention(
    weights,
    query,
    value,
    key=None,
    mask=True,
    bias=0.0,
    rotate=lambda x: x,
    qk_norm=False,
    use_gate=False,
    soft_cap=None,
):
    """`(output, scores)` from the weights in the order of `keras.layers.MultiHeadAttention`.

    `mask` and `bias` are `(B, N, T, S)` or broadcast to it; `rotate` acts on `(B, N, T, H)`. Biases are obligatory.
    """
    weights = iter(weights)

    def heads(x):
        kernel, bias = next(weights), next(weights)
        return np.einsum("btd,dnh->bnth", x, kernel) + bias[:, None]

    q, k = heads(query), heads(value if key is None else key)
    gate = 1 / (1 + np.exp(-heads(query))) if use_gate else 1.0
    v = heads(value)
    kernel, output_bias = next(weights), next(weights)
    if qk_norm:
        q, k = (x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * next(weights) for x in (q, k))
    context, scores = attention(rotate(q), rotate(k), v, mask, bias, soft_cap=soft_cap)
    output = np.einsum("bnth,nh...->bt...", context * gate, kernel) + output_bias
    live = np.broadcast_to(mask, scores.shape).any(axis=(1, 3))
    return output * live.reshape(live.shape + (1,) * (output.ndim - 2)), scores


def alibi(num_heads, T, S):
    """`(N, T, S)`, the slopes as Press et al. describe them: those of a power of two, then every other of the next."""
    power = 1 << (num_heads.bit_length() - 1)
    slopes = [2 ** (-8 * (n + 1) / power) for n in range(power)]
    slopes += [2 ** (-8 * (n + 1) / (2 * power)) for n in range(0, 2 * power, 2)]
    distance = np.abs(np.arange(T)[:, None] - np.arange(S))
    return -np.array(slopes[:num_heads])[:, None, None] * distance


def distance_bucket(offset, num_buckets, max_distance, bidirectional):
    """The bucket of one `key position - query position`, as Raffel et al. sort them."""
    first = 0
    if bidirectional:
        num_buckets //= 2
        first = num_buckets if offset > 0 else 0
    distance = abs(offset) if bidirectional else max(-offset, 0)
    exact = num_buckets // 2
    if distance < exact:
        return first + distance
    far = np.log(distance / exact) / np.log(max_distance / exact) * (num_buckets - exact)
    return first + min(exact + int(far), num_buckets - 1)


def rotary(x, positions, base=10000.0, rotary_dim=None, interleaved=False):
    """A pair of channels is a complex number, turned by `exp(i * angle)`; positions `(B, T)`."""
    dim = rotary_dim or x.shape[-1]
    pairs = np.arange(dim).reshape(-1, 2) if interleaved else np.arange(dim).reshape(2, -1).T
    angles = np.asarray(positions)[:, None, :, None] * base ** (-2 * np.arange(dim // 2) / dim)
    turned = (x[..., pairs[:, 0]] + 1j * x[..., pairs[:, 1]]) * np.exp(1j * angles)
    y = np.array(x, "float64")
    y[..., pairs[:, 0]], y[..., pairs[:, 1]] = turned.real, turned.imag
    return y


def sinusoid(positions, dim, base=10000.0):
    angles = np.asarray(positions)[..., None] / base ** (np.arange(dim) // 2 * 2 / dim)
    return np.where(np.arange(dim) % 2 == 0, np.sin(angles), np.cos(angles))


def layer_norm(x, gamma, beta, epsilon=1e-6):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon) * gamma + beta


def feed_forward(weights, x, activation="relu"):
    w1, b1, w2, b2 = weights
    return ACTIVATIONS[activation](x @ w1 + b1) @ w2 + b2


def residual(x, sublayer, norm, norms):
    """`norms`: gamma and beta of each norm, in the order in which they act."""
    norms = [norms[i : i + 2] for i in range(0, len(norms), 2)]
    y = layer_norm(x, *norms[0]) if norm in ("pre", "sandwich") else x
    y = sublayer(y)
    if norm == "sandwich":
        y = layer_norm(y, *norms[1])
    return layer_norm(x + y, *norms[0]) if norm == "post" else x + y


def encoder_block(weights, x, mask=True, norm="pre", activation="relu", bias=0.0, rotate=lambda x: x):
    """Attention's weights, then its norms', then the same of the feed-forward network."""
    return decoder_block(weights, x, None, mask, None, norm, activation, bias, rotate)


def decoder_block(
    weights, x, memory, mask=True, memory_mask=True, norm="pre", activation="relu", bias=0.0, rotate=lambda x: x
):
    weights = list(weights)
    num_norm = {"pre": 2, "post": 2, "sandwich": 4, None: 0}[norm]

    def take(count):
        taken, weights[:] = weights[:count], weights[count:]
        return taken

    def self_attention(y):
        return multi_head_attention(own, y, y, mask=mask, bias=bias, rotate=rotate)[0]

    def cross_attention(y):
        return multi_head_attention(own, y, memory, mask=memory_mask)[0]

    for sublayer in (self_attention, *([] if memory is None else [cross_attention])):
        own, norms = take(8), take(num_norm)
        x = residual(x, sublayer, norm, norms)
    own, norms = take(4), take(num_norm)
    return residual(x, lambda y: feed_forward(own, y, activation), norm, norms)
