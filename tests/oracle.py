"""Reference implementations in float64 NumPy, independent of keras_attn. Shapes as in `keras_attn.ops`."""

import math

import numpy as np

ACTIVATIONS = {
    None: lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "quick_gelu": lambda x: x / (1 + np.exp(-1.702 * x)),
    "gelu": lambda x: x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2,
}


def masked_softmax(logits, mask=True):
    """Fully masked rows are zero."""
    mask = np.broadcast_to(mask, logits.shape)
    weights = np.zeros(logits.shape)
    for row in np.ndindex(logits.shape[:-1]):
        keep = mask[row]
        if keep.any():
            exp = np.exp(logits[row][keep] - logits[row][keep].max())
            weights[row][keep] = exp / exp.sum()
    return weights


def allowed(query_positions, key_positions, causal=False, window=None, sink_tokens=0):
    """Bool `(..., T, S)` from positions `(..., T)` and `(..., S)`."""
    distance = np.asarray(query_positions)[..., :, None] - np.asarray(key_positions)[..., None, :]
    near = (abs(distance) < (window or np.inf)) | (np.asarray(key_positions)[..., None, :] < sink_tokens)
    return (distance >= 0 if causal else True) & near


def attention(q, k, v, mask=True, bias=0.0, scale=None, soft_cap=None, sinks=None, extra=None):
    """`(B, N, T, H)`, `(B, K, S, H)`, `(B, K, S, Hv)` to `(output, scores)`.

    Sinks are `(N,)`; extra keys `(K, E, H)` and values `(K, E, Hv)` are for all queries that are not fully masked.
    """
    if extra is not None:
        mask = np.broadcast_to(mask, (len(q), 1, q.shape[2], k.shape[2]))
        mask = np.append(mask, np.repeat(mask.any(-1, keepdims=True), extra[0].shape[1], -1), -1)
        k, v = (
            np.append(x, np.broadcast_to(more, (len(x), *more.shape)), 2) for x, more in zip((k, v), extra, strict=True)
        )
    groups = q.shape[1] // k.shape[1]
    k, v = np.repeat(k, groups, axis=1), np.repeat(v, groups, axis=1)
    logits = np.einsum("bnth,bnsh->bnts", q, k) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if soft_cap:
        logits = soft_cap * np.tanh(logits / soft_cap)
    logits, mask = logits + bias, np.broadcast_to(mask, logits.shape)
    if sinks is not None:
        column = np.broadcast_to(sinks[:, None, None], (*logits.shape[:-1], 1))
        logits, mask = np.append(logits, column, -1), np.append(mask, np.ones(column.shape, "bool"), -1)
    scores = masked_softmax(logits, mask)[..., : k.shape[2]]
    return np.einsum("bnts,bnsh->bnth", scores, v), scores


def linear_attention(q, k, v, mask=True):
    """As `attention`, with pairs weighted by the product of `elu + 1` of both; fully masked rows are zero."""
    groups = q.shape[1] // k.shape[1]
    k, v = np.repeat(k, groups, axis=1), np.repeat(v, groups, axis=1)
    q, k = (np.where(x > 0, x + 1, np.exp(np.minimum(x, 0))) for x in (q, k))
    weights = np.einsum("bnth,bnsh->bnts", q, k) * mask
    total = weights.sum(-1, keepdims=True)
    return np.einsum("bnts,bnsh->bnth", weights / np.where(total > 0, total, 1), v)


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
    sinks=None,
    extra=None,
    epsilon=1e-6,
    scale=None,
):
    """`(output, scores)` from the weights in the order of `keras.layers.MultiHeadAttention`.

    `mask` and `bias` broadcast to `(B, N, T, S)`; `rotate` takes `(B, N, T, H)`. Projections must have biases. The
    weights of `qk_norm` are `(H,)`, or `(N, H)` for a norm of all heads together.
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
        q, k = (_normed_heads(x, next(weights), epsilon) for x in (q, k))
    context, scores = attention(rotate(q), rotate(k), v, mask, bias, scale, soft_cap, sinks, extra)
    output = np.einsum("bnth,nh...->bt...", context * gate, kernel) + output_bias
    unmasked = np.broadcast_to(mask, (*scores.shape[:3], value.shape[1])).any(axis=(1, 3))
    return output * unmasked.reshape(unmasked.shape + (1,) * (output.ndim - 2)), scores


def _normed_heads(x, weight, epsilon):
    axis, weight = (-1, weight) if weight.ndim == 1 else ((1, 3), weight[:, None])
    return x / np.sqrt((x**2).mean(axis, keepdims=True) + epsilon) * weight


def alibi(num_heads, T, S, most=8):
    """`(N, T, S)`, with the slopes of Press et al.: those of a power of two, then every other one of the next."""
    power = 1 << (num_heads.bit_length() - 1)
    slopes = [2 ** (-most * (n + 1) / power) for n in range(power)]
    slopes += [2 ** (-most * (n + 1) / (2 * power)) for n in range(0, 2 * power, 2)]
    distance = np.abs(np.arange(T)[:, None] - np.arange(S))
    return -np.array(slopes[:num_heads])[:, None, None] * distance


def distance_bucket(offset, num_buckets, max_distance, bidirectional):
    """The bucket of one `key position - query position`, as in Raffel et al."""
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


def rotary(x, positions, base=10000.0, rotary_dim=None, interleaved=False, scaling=None):
    """Rotates pairs of channels, as complex numbers, by `exp(i * angle)`; positions `(B, T)`."""
    dim = rotary_dim or x.shape[-1]
    pairs = np.arange(dim).reshape(-1, 2) if interleaved else np.arange(dim).reshape(2, -1).T
    rows = [rotary_frequencies(dim, base, max(row) + 1, **(scaling or {})) for row in np.asarray(positions)]
    frequencies, amplitude = np.array([row[0] for row in rows])[:, None, None], rows[0][1]
    angles = np.asarray(positions)[:, None, :, None] * frequencies
    turned = (x[..., pairs[:, 0]] + 1j * x[..., pairs[:, 1]]) * amplitude * np.exp(1j * angles)
    y = np.array(x, "float64")
    y[..., pairs[:, 0]], y[..., pairs[:, 1]] = turned.real, turned.imag
    return y


def rotary_frequencies(dim, base, length, rope_type="default", factor=1.0, **settings):
    """`(frequencies, amplitude)`, one channel pair at a time, as described by the authors of each method."""
    original = settings.get("original_max_position_embeddings")
    if rope_type == "dynamic":
        rope_type, factor = "ntk", max(factor * length / original - (factor - 1), 1)
    if rope_type == "ntk":
        rope_type, base = "default", base * factor ** (dim / (dim - 2))
    amplitude, divisors = 1.0, np.ones(dim // 2)
    if rope_type == "longrope":
        divisors = settings["long_factor"] if length > original else settings["short_factor"]
        amplitude = settings.get("attention_factor", math.sqrt(1 + math.log(factor) / math.log(original)))
    if rope_type == "yarn":
        mscale, mscale_all = settings.get("mscale", 1), settings.get("mscale_all_dim", 0)
        amplitude = (0.1 * mscale * math.log(factor) + 1) / (0.1 * mscale_all * math.log(factor) + 1)
        amplitude = settings.get("attention_factor", amplitude)
        # The pair with `beta` rotations over the original context.
        ends = [
            dim / 2 * math.log(original / (settings.get(name, beta) * 2 * math.pi), base)
            for name, beta in (("beta_fast", 32), ("beta_slow", 1))
        ]
        low, high = (math.floor(ends[0]), math.ceil(ends[1])) if settings.get("truncate", True) else ends
        low, high = max(low, 0), min(high, dim - 1)
    frequencies = []
    for i in range(dim // 2):
        frequency = base ** (-2 * i / dim) / divisors[i]
        if rope_type == "linear":
            frequency /= factor
        if rope_type == "yarn":
            slow = min(max((i - low) / (high - low), 0), 1)
            frequency = slow * frequency / factor + (1 - slow) * frequency
        if rope_type == "llama3":
            turns = original * frequency / (2 * math.pi)
            if turns < settings["low_freq_factor"]:
                frequency /= factor
            elif turns < settings["high_freq_factor"]:
                smooth = turns - settings["low_freq_factor"]
                smooth /= settings["high_freq_factor"] - settings["low_freq_factor"]
                frequency = (1 - smooth) * frequency / factor + smooth * frequency
        frequencies.append(frequency)
    return frequencies, amplitude


def axial_rotary(x, positions, width, num_prefix=0, base=10000.0, interleaved=False):
    """Rows rotate the first half of the channels, columns the second; positions `(B, T)`."""
    half = x.shape[-1] // 2
    cells = [[divmod(max(p - num_prefix, 0), width) for p in row] for row in np.asarray(positions)]
    rows, columns = np.moveaxis(np.array(cells), -1, 0)
    turned = [
        rotary(x[..., :half], rows, base, None, interleaved),
        rotary(x[..., half:], columns, base, None, interleaved),
    ]
    return np.concatenate(turned, axis=-1)


def sinusoid_2d(positions, dim, width, num_prefix=0, base=10000.0):
    """Columns in the first half of the channels, rows in the second, with sines before cosines in each."""
    code = np.zeros((*np.shape(positions), dim))
    for index, position in np.ndenumerate(positions):
        if position >= num_prefix:
            row, column = divmod(position - num_prefix, width)
            for half, place in enumerate((column, row)):
                for i in range(dim // 4):
                    angle, channel = place / base ** (4 * i / dim), half * dim // 2 + i
                    code[index][channel], code[index][channel + dim // 4] = math.sin(angle), math.cos(angle)
    return code


def shaw(q, k, v, key_table, value_table, query_positions, key_positions, mask=True):
    """`(output, scores)` with one vector per offset added to each key and value; one row of positions."""
    distance = np.asarray(key_positions)[None, :] - np.asarray(query_positions)[:, None]
    m = len(key_table) // 2
    rows = np.clip(distance, -m, m) + m
    logits = np.einsum("bnth,bntsh->bnts", q, k[:, :, None] + key_table[rows]) / q.shape[-1] ** 0.5
    scores = masked_softmax(logits, mask)
    values = v[:, :, None] + (0 if value_table is None else value_table[rows])
    return np.einsum("bnts,bntsh->bnth", scores, np.broadcast_to(values, (*scores.shape, v.shape[-1]))), scores


def sinusoid(positions, dim, base=10000.0, interleaved=True, endpoint=False):
    exponents = np.arange(dim) // 2 / (dim / 2 - endpoint)
    angles = np.asarray(positions)[..., None] / base**exponents
    code = np.where(np.arange(dim) % 2 == 0, np.sin(angles), np.cos(angles))
    return code if interleaved else np.concatenate([code[..., ::2], code[..., 1::2]], axis=-1)


def layer_norm(x, gamma, beta, epsilon=1e-6):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon) * gamma + beta


def feed_forward(weights, x, activation="relu"):
    w1, b1, w2, b2 = weights
    return ACTIVATIONS[activation](x @ w1 + b1) @ w2 + b2


def gated_feed_forward(weights, x, activation="silu", limit=np.inf, offset=0.0):
    gate_kernel, gate_bias, up_kernel, up_bias, *output = weights
    gate, up = np.minimum(x @ gate_kernel + gate_bias, limit), np.clip(x @ up_kernel + up_bias, -limit, limit)
    return (ACTIVATIONS[activation](gate) * (up + offset)) @ output[0] + output[1]


def mixture_of_experts(router, experts, x, mask, top_k, normalize=True, router_bias=0.0):
    """One token and expert at a time; `experts` are functions of a vector."""
    y = np.zeros((*x.shape[:-1], len(experts[0](x[0, 0]))))
    for token in np.argwhere(mask):
        vector = x[tuple(token)]
        shares = np.exp(vector @ router + router_bias)
        shares /= shares.sum()
        best = np.argsort(-shares)[:top_k]
        total = shares[best].sum() if normalize else 1
        y[tuple(token)] = sum(shares[e] / total * experts[e](vector) for e in best)
    return y


def strided_convolution(kernel, bias, x, stride, activation):
    """A single `x` `(T, C)` without padding; kernel `(window * C, D)`, centred."""
    window = kernel.shape[0] // x.shape[1]
    rows = []
    for centre in range(0, len(x), stride):
        frames = [
            x[t] if 0 <= t < len(x) else 0 * x[0] for t in range(centre - (window - 1) // 2, centre + window // 2 + 1)
        ]
        rows.append(ACTIVATIONS[activation](np.concatenate(frames) @ kernel + bias))
    return np.array(rows)


def rms_norm(x, scale, epsilon=1e-6):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon) * scale


def residual(x, sublayer, norm, norms, gain=1.0, shortcut_scale=1.0, rms=False):
    """`norms`: gamma and beta of each norm, or its scale if `rms`, in the order of application."""
    size, normalize = (1, rms_norm) if rms else (2, layer_norm)
    norms = [norms[i : i + size] for i in range(0, len(norms), size)]
    y = normalize(x, *norms[0]) if norm in ("pre", "sandwich", "layerscale") else x
    y = sublayer(y)
    if norm in ("sandwich", "res_post"):
        y = normalize(y, *norms[-1])
    total = shortcut_scale * x + gain * y
    return normalize(total, *norms[0]) if norm in ("post", "deepnorm") else total


def encoder_block(weights, x, mask=True, **kwargs):
    """As `decoder_block`, without a memory."""
    return decoder_block(weights, x, None, mask, **kwargs)


def decoder_block(
    weights,
    x,
    memory,
    mask=True,
    memory_mask=True,
    norm="pre",
    activation="relu",
    bias=0.0,
    rotate=lambda x: x,
    shortcut_scale=1.0,
    rms=False,
    parallel=False,
):
    """Removes its weights from the list: for each sub-layer its gain, if any, its own and those of its norms.

    `memory` and `memory_mask` may be tuples, for one attention per memory in turn.
    """
    sources = list(zip(memory, memory_mask, strict=True)) if isinstance(memory, tuple) else [(memory, memory_mask)]
    num_norm = {"sandwich": 2, "rezero": 0, None: 0}.get(norm, 1) * (1 if rms else 2)

    def take(count):
        taken, weights[:count] = weights[:count], []
        return taken

    def self_attention(own, y):
        return multi_head_attention(own, y, y, mask=mask, bias=bias, rotate=rotate)[0]

    def cross_attention(memory, memory_mask):
        return lambda own, y: multi_head_attention(own, y, memory, mask=memory_mask)[0]

    def network(own, y):
        return feed_forward(own, y, activation)

    def both(own, y):
        return self_attention(own[:8], y) + network(own[8:], y)

    if parallel == "two_norms":
        own = take(16)
        attended = self_attention(own[:8], layer_norm(x, *own[8:10]))
        return x + attended + network(own[10:14], layer_norm(x, *own[14:]))
    attentions = [
        (self_attention, 8),
        *([] if memory is None else [(cross_attention(*source), 8) for source in sources]),
    ]
    for sublayer, size in [(both, 12)] if parallel else [*attentions, (network, 4)]:
        gain = take(1)[0] if norm in ("rezero", "layerscale") else 1.0
        own, norms = take(size), take(num_norm)
        x = residual(x, lambda y, f=sublayer, own=own: f(own, y), norm, norms, gain, shortcut_scale, rms)
    return x


def stack(block, weights, x, num_layers, share_weights=False, final_norm=True, rms=False):
    """`block(weights, x, i)`, which removes its weights from the list, for each layer `i`; then the final norm.

    `share_weights` may be the number of the block of each layer, new ones in order.
    """
    order = [0] * num_layers if share_weights is True else share_weights or range(num_layers)
    left = {0: list(weights)}
    for i, number in enumerate(order):
        remaining = list(left[number])
        x = block(remaining, x, i)
        left.setdefault(number + 1, remaining)
    weights = left[max(order) + 1]
    if not final_norm:
        return x
    return rms_norm(x, *weights) if rms else layer_norm(x, *weights)


def align_in_turn(energy, mask, value, weigh=masked_softmax):
    """`(output, scores)` of an attention that processes one query at a time.

    `energy(t, past)` returns `(B, S)` from the weights of earlier queries, a list of `(B, S)` without fully masked
    ones; `mask` is `(B, T, S)`; `weigh(energies, mask)` may take the list of past weights as a third argument.
    """
    batch, steps, length = mask.shape
    scores = np.zeros((batch, steps, length))
    for b in range(batch):
        past = []
        for t in range(steps):
            if mask[b, t].any():
                energies = energy(b, t, past)
                arguments = (energies, mask[b, t]) if weigh is masked_softmax else (energies, mask[b, t], past)
                scores[b, t] = weigh(*arguments)
                past.append(scores[b, t])
    return scores @ value, scores


def soft_monotonic(energies, mask, past):
    """`(S,)`: the paper's recursion over keys, one at a time."""
    previous = past[-1] if past else np.eye(len(energies))[0]
    p = np.where(mask, 1 / (1 + np.exp(-energies)), 0)
    weights, waiting = np.zeros(len(energies)), 0.0
    for j in range(len(energies)):
        waiting = (waiting if j == 0 else (1 - p[j - 1]) * waiting) + previous[j]
        weights[j] = p[j] * waiting
    return weights


def hard_monotonic(energies, mask, past):
    """`(S,)`: a scan from the key at which the previous one stopped to the first key with positive energy."""
    weights = np.zeros(len(energies))
    if past and not past[-1].any():
        return weights
    for j in range(int(np.argmax(past[-1])) if past else 0, len(energies)):
        if mask[j] and energies[j] > 0:
            weights[j] = 1
            break
    return weights


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm_step(weights, x, states):
    """`(output, states)` of `keras.layers.LSTMCell`; gates in the order input, forget, candidate, output."""
    kernel, recurrent, bias = weights
    h, c = states
    i, f, g, o = np.split(x @ kernel + h @ recurrent + bias, 4, axis=-1)
    c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
    h = _sigmoid(o) * np.tanh(c)
    return h, (h, c)


def gru_step(weights, x, states):
    """`(output, states)` of `keras.layers.GRUCell` with its reset gate after the product."""
    kernel, recurrent, bias = weights
    (h,) = states
    z, r, g = np.split(x @ kernel + bias[0], 3, axis=-1)
    hz, hr, hg = np.split(h @ recurrent + bias[1], 3, axis=-1)
    z = _sigmoid(z + hz)
    h = z * h + (1 - z) * np.tanh(g + _sigmoid(r + hr) * hg)
    return h, (h,)


def recurrence(step, x, mask, states):
    """`(outputs (B, T, ...), states)` of `step(x, states)` over the real positions; zero at padding."""
    outputs = None
    for t in range(x.shape[1]):
        output, new = step(x[:, t], states)
        real = mask[:, t, None]
        states = tuple(np.where(real, a, b) for a, b in zip(new, states, strict=True))
        outputs = np.zeros((len(x), x.shape[1], output.shape[-1])) if outputs is None else outputs
        outputs[:, t] = output * real
    return outputs, states
