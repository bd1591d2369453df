"""Training steps of several libraries: forward, backward and Adam.

`python -m benchmarks.training [--quick] [--json FILE]`

Models of `benchmarks.step_models`: an encoder of 4 layers of width 256 with 8,000 tokens, on 16 x 128 and 4 x 512 of
them, and a sequence-to-sequence model of 4 + 4 layers of width 128 with 10,000 tokens, on 64 x 16. `--quick` uses an
encoder of width 128 instead, on 4 x 64. All start with the same weights and get the same batches; their losses and
numbers of parameters are compared.

keras_attn uses the `Trainer` with `FusedAdam` and `MaskedCrossEntropy`. Keras and KerasHub use `fit` with the defaults
of `compile`, or for "jit" with `jit_compile=True`. PyTorch uses its own layers and fused Adam, and for "jit"
`torch.compile`, which needs a C++ compiler. One call of a case is `STEPS` steps.
"""

import os
import sys

import numpy as np

from benchmarks import step_models
from benchmarks.harness import Benchmark, main

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

STEPS = 2
CASES = {
    "encoder 4 x 64": "small encoder",
    "encoder 16 x 128": "encoder",
    "encoder 4 x 512": "long encoder",
    "seq2seq 64 x 16": "seq2seq",
}

# Different computations of the same steps diverge by rounding.
plain = Benchmark(CASES, quick=["encoder 4 x 64"], tolerance=1e-5)
jit = Benchmark({f"{case}, jit": shape for case, shape in CASES.items()}, quick=[], tolerance=1e-5)


class Repeated:
    """Repeats a few batches."""

    def __init__(self, name):
        source, target, labels = step_models.batches(name, STEPS)
        is_pair = step_models.SHAPES[name]["kind"] == "seq2seq"
        self._batches = [((s, t) if is_pair else s, y) for s, t, y in zip(source, target, labels, strict=True)]

    def batches(self, start=0, shard=0, num_shards=1):
        while True:
            yield self._batches[start % STEPS]
            start += 1


@plain.implementation("keras_attn")
def trainer(shape):
    return _trained(shape, False)


@jit.implementation("keras_attn")
def trainer_jit(shape):
    return _trained(shape, True)


def _trained(shape, jit_compile):
    from keras_attn.training import FusedAdam, MaskedCrossEntropy, Trainer

    model, weights = step_models.keras_attn(shape)
    step_models.assign(model, weights)
    optimizer, loss = FusedAdam(**step_models.ADAM), MaskedCrossEntropy(ignore_id=0)
    trainer, data = Trainer(model, optimizer, loss, jit_compile=jit_compile), Repeated(shape)

    def call():
        return trainer.fit(data, trainer.step + STEPS).history["loss"][-1:]

    return call, lambda loss: [loss, model.count_params()]


@plain.implementation("keras_hub", needs="keras_hub", install="make peers")
def keras_hub(shape):
    return step_models.fitted(step_models.keras_hub, shape, STEPS)


@jit.implementation("keras_hub", needs="keras_hub", install="make peers")
def keras_hub_jit(shape):
    return step_models.fitted(step_models.keras_hub, shape, STEPS, jit_compile=True)


@plain.implementation("keras")
def keras(shape):
    return step_models.fitted(step_models.plain_keras, shape, STEPS)


@jit.implementation("keras")
def keras_jit(shape):
    return step_models.fitted(step_models.plain_keras, shape, STEPS, jit_compile=True)


@plain.implementation("torch", needs="torch", install="pip install torch==2.13.0")
def torch_eager(shape):
    return _torch(shape, False)


@jit.implementation("torch", needs="torch", install="pip install torch==2.13.0")
def torch_compiled(shape):
    return _torch(shape, True)


def _torch(shape, is_compiled):
    import torch

    model = step_models.torch_model(shape)
    rate, epsilon = step_models.ADAM.values()
    optimizer = torch.optim.Adam(model.parameters(), rate, eps=epsilon, fused=True)
    loss_of = torch.compile(model) if is_compiled else model
    data = [torch.from_numpy(array) for array in step_models.batches(shape, STEPS)]

    def call():
        losses = []
        for batch in zip(*data, strict=True):
            loss = loss_of(*batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return [np.mean(losses)]

    return call, lambda loss: [loss, sum(parameter.numel() for parameter in model.parameters())]


if __name__ == "__main__":
    sys.exit(main(plain, jit))
