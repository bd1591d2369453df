"""Attention, compared with Keras and PyTorch: `python -m benchmarks.attention [--quick] [--json FILE]`.

"kernel" is attention on projected heads, in the layout of each library. "layer" is multi-head attention with its four
projections. "long" is a single sequence with our blockwise and dense kernels and the choice of `mechanism="auto"`, and
"alone" is the blockwise kernel without comparison. "local" and "linear" are our linear-time kernels. All cases are
float32 self-attention with 8 heads of width 64. "jit" compiles the TensorFlow functions with XLA; PyTorch runs eagerly.
"""

import os
import sys

import numpy as np

from benchmarks.harness import Benchmark, main

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
# Not all of the compared installs can use a GPU.
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

BATCH, HEADS, WIDTH = 8, 8, 64
WINDOW = 256


def _cases(part, lengths, masks):
    return {
        f"{part} {direction} T={length} {mask}{', jit' if jit else ''}": {
            "backward": direction != "forward",
            "length": length,
            "mask": mask,
            "jit": jit,
        }
        for direction in ("forward", "forward+backward")
        for length in lengths
        for mask in masks
        for jit in (False, True)
    }


kernel = Benchmark(
    _cases("kernel", (128, 512), ("unmasked", "causal", "padding")),
    quick=["kernel forward T=512 causal", "kernel forward+backward T=128 unmasked"],
)
layer = Benchmark(_cases("layer", (128, 512), ("padding",)), quick=["layer forward+backward T=128 padding"])


def _long_cases(part, lengths, masks):
    return {
        f"{part} forward+backward T={length} {mask}": {
            "backward": True,
            "batch": 1,
            "length": length,
            "mask": mask,
            "jit": False,
        }
        for mask in masks
        for length in lengths
    }


long = Benchmark(_long_cases("long", (1024, 2048, 4096, 8192), ("causal", "unmasked")), quick=[])
# Keras' attention and the dense kernel would run out of memory here.
longer = Benchmark(_long_cases("long", (16384,), ("causal", "unmasked")), quick=[])
alone = Benchmark(_long_cases("alone", (2048, 32768), ("causal",)), quick=["alone forward+backward T=2048 causal"])
local = Benchmark(_long_cases("local", (1024, 2048, 4096, 8192, 16384, 32768), ("window",)), quick=[])
linear = Benchmark(_long_cases("linear", (1024, 2048, 4096, 8192, 16384, 32768), ("causal", "unmasked")), quick=[])


@kernel.implementation("keras_attn")
def keras_attn_kernel(case):
    return _keras_attn_kernel("dense", case)


@local.implementation("keras_attn")
def keras_attn_local(case):
    return _keras_attn_kernel("local", case)


@linear.implementation("keras_attn")
def keras_attn_linear(case):
    return _keras_attn_kernel("linear", case)


@alone.implementation("keras_attn")
@longer.implementation("keras_attn")
@long.implementation("keras_attn")
def keras_attn_blockwise(case):
    return _keras_attn_kernel("blockwise", case)


@longer.implementation("keras_attn auto")
@long.implementation("keras_attn auto")
def keras_attn_auto(case):
    return _keras_attn_kernel("auto", case)


@long.implementation("keras_attn dense")
def keras_attn_dense(case):
    return _keras_attn_kernel("dense", case)


def _keras_attn_kernel(mechanism, case):
    from keras_attn.ops import AttentionArguments, AttentionMask, AttentionRequest, select_mechanism

    positions = np.arange(case["length"], dtype="int32")[None]
    rules = {
        "unmasked": {},
        "causal": {"causal": True},
        "window": {"causal": True, "window": WINDOW},
        "padding": {},
    }[case["mask"]]

    def attend(q, k, v, key_mask):
        key_mask = key_mask if case["mask"] == "padding" else None
        mask = AttentionMask(query_positions=positions, key_positions=positions, key_mask=key_mask, **rules)
        arguments = AttentionArguments(mask=mask, training=case["backward"])
        return select_mechanism(mechanism, AttentionRequest.of(q, k, arguments))(q, k, v, arguments)

    return _in_tensorflow(attend, *_heads(case), case)


@long.implementation("keras", needs="keras")
@kernel.implementation("keras", needs="keras")
def keras_kernel(case):
    from keras import ops

    def attend(q, k, v, key_mask):
        mask = key_mask[:, None, None, :] if case["mask"] == "padding" else None
        return ops.dot_product_attention(q, k, v, mask=mask, is_causal=case["mask"] == "causal")

    def heads_last(x):
        return np.ascontiguousarray(np.moveaxis(x, 1, 2))

    inputs, output_gradient, key_mask = _heads(case)
    call, view = _in_tensorflow(attend, [heads_last(x) for x in inputs], heads_last(output_gradient), key_mask, case)
    return call, lambda results: [np.moveaxis(x, 1, 2) for x in view(results)]


@longer.implementation("torch", needs="torch")
@long.implementation("torch", needs="torch")
@kernel.implementation("torch", needs="torch")
def torch_kernel(case):
    import torch

    inputs, output_gradient, key_mask = _heads(case)
    mask = torch.from_numpy(key_mask[:, None, None, :]) if case["mask"] == "padding" else None

    def attend(q, k, v):
        return torch.nn.functional.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=case["mask"] == "causal"
        )

    return _in_torch(attend, inputs, output_gradient, [], case)


@layer.implementation("keras_attn")
def keras_attn_layer(case):
    from keras_attn.layers import MultiHeadAttention

    return _keras_layer(MultiHeadAttention, case)


@layer.implementation("keras", needs="keras")
def keras_layer(case):
    from keras.layers import MultiHeadAttention

    return _keras_layer(MultiHeadAttention, case)


@layer.implementation("torch", needs="torch")
def torch_layer(case):
    import torch

    x, weights, output_gradient, key_mask = _channels(case)
    attention = torch.nn.MultiheadAttention(HEADS * WIDTH, HEADS, batch_first=True)
    with torch.no_grad():
        attention.in_proj_weight.copy_(torch.from_numpy(np.concatenate([w.T for w in weights[:3]])))
        attention.out_proj.weight.copy_(torch.from_numpy(weights[3].T))
        attention.in_proj_bias.zero_()
        attention.out_proj.bias.zero_()
    attention.train(case["backward"])
    # In PyTorch, True means masked.
    hidden = torch.from_numpy(~key_mask)

    def attend(x):
        return attention(x, x, x, key_padding_mask=hidden, need_weights=False)[0]

    return _in_torch(attend, [x], output_gradient, list(attention.parameters()), case)


def _keras_layer(cls, case):
    x, weights, output_gradient, key_mask = _channels(case)
    attention = cls(num_heads=HEADS, key_dim=WIDTH)
    attention.build(x.shape, x.shape)
    for variable, weight in zip(attention.weights[::2], weights, strict=True):
        variable.assign(weight.reshape(variable.shape))

    def attend(x, key_mask):
        return attention(x, x, value_mask=key_mask)

    variables = [weight.value for weight in attention.weights]
    return _in_tensorflow(attend, [x], output_gradient, key_mask, case, variables)


def _in_tensorflow(attend, inputs, output_gradient, key_mask, case, variables=()):
    """`attend(*inputs, key_mask)`, or with `backward` its gradients, as a `tf.function`."""
    import tensorflow as tf

    # Passed as arguments to avoid constant folding.
    args = [tf.constant(x) for x in (*inputs, key_mask, output_gradient)]

    @tf.function(jit_compile=case["jit"], autograph=False)
    def call(*args):
        *inputs, key_mask, output_gradient = args
        if not case["backward"]:
            return [attend(*inputs, key_mask)], []
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            output = attend(*inputs, key_mask)
        gradients = tape.gradient(output, [*inputs, *variables], output_gradient)
        return [output, *gradients[: len(inputs)]], gradients[len(inputs) :]

    return lambda: call(*args), lambda results: [x.numpy() for x in results[0]]


def _in_torch(attend, inputs, output_gradient, weights, case):
    import torch

    inputs = [torch.from_numpy(x).requires_grad_(case["backward"]) for x in inputs]
    output_gradient = torch.from_numpy(output_gradient)

    def call():
        if not case["backward"]:
            with torch.inference_mode():
                return [attend(*inputs)]
        output = attend(*inputs)
        gradients = torch.autograd.grad(output, [*inputs, *weights], output_gradient)
        return [output.detach(), *gradients]

    return call, lambda results: [x.numpy() for x in results[: len(inputs) + 1]]


def _heads(case):
    numbers = np.random.default_rng(0)
    *inputs, output_gradient = numbers.standard_normal(
        (4, case.get("batch", BATCH), HEADS, case["length"], WIDTH), "float32"
    )
    return inputs, output_gradient, _key_mask(case)


def _channels(case):
    numbers, width = np.random.default_rng(0), HEADS * WIDTH
    x, output_gradient = numbers.standard_normal((2, BATCH, case["length"], width), "float32")
    weights = numbers.standard_normal((4, width, width), "float32") / np.float32(width**0.5)
    return x, weights, output_gradient, _key_mask(case)


def _key_mask(case):
    """A padding mask, True at half to all of the keys of each row."""
    lengths = np.linspace(case["length"] // 2, case["length"], BATCH).astype(int)
    return np.arange(case["length"]) < lengths[:, None]


if __name__ == "__main__":
    sys.exit(main(kernel, layer, long, longer, alone, local, linear))
