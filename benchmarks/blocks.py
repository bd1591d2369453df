"""Training steps of `model.fit`, compared with the same models built from KerasHub's layers.

`python -m benchmarks.blocks [--quick] [--json FILE]`

Models of `benchmarks.step_models`: an encoder (4 layers of width 256, 8,000 tokens, 16 x 128), a small one (width
128, 10,000 tokens, 4 x 64), a decoder of the size of the first (4 x 512) and a sequence-to-sequence model (4 + 4
layers of width 128, 10,000 tokens, 64 x 16), with Keras' Adam for both. They start with the same weights and get the
same batches, and their losses are compared. One call of a case is `STEPS` steps. "jit" is
`compile(jit_compile=True)`. `benchmarks.training` measures our own training loop.
"""

import os
import sys

from benchmarks import step_models
from benchmarks.harness import Benchmark, main

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

STEPS = 4

# Different computations of the same steps diverge by rounding.
blocks = Benchmark(
    {
        f"{shape}{', jit' if jit else ''}": {"shape": shape, "jit": jit}
        for jit in (False, True)
        for shape in ("small encoder", "encoder", "decoder", "seq2seq")
    },
    quick=["small encoder"],
    tolerance=1e-5,
)


@blocks.implementation("keras_attn")
def keras_attn_blocks(case):
    return step_models.fitted(step_models.keras_attn, case["shape"], STEPS, jit_compile=case["jit"])


@blocks.implementation("keras_hub", needs="keras_hub", install="make peers")
def keras_hub_blocks(case):
    return step_models.fitted(step_models.keras_hub, case["shape"], STEPS, jit_compile=case["jit"])


if __name__ == "__main__":
    sys.exit(main(blocks))
