"""Cached generation, compared with Hugging Face (PyTorch) and KerasHub with the same weights.

`python -m benchmarks.generation [--quick] [--json FILE]`

A GPT-2 with 6 layers of width 384 and 8,000 tokens continues a prompt of 32 tokens with 128 tokens (`--quick`: 16), in
float32, without an end token. All implementations must generate the same tokens. The case "read" reads from uncached
memory as many bytes as the weights have in 128 steps.
"""

import os
import sys

import numpy as np

from benchmarks.harness import Benchmark, main

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

LAYERS, WIDTH, HEADS, VOCABULARY, POSITIONS = 6, 384, 6, 8000, 1200
PROMPT, LENGTH = 32, 128


def _case(batch, length=LENGTH, beams=1):
    return {"batch": batch, "length": length, "beams": beams}


CASES = {f"greedy batch {batch}": _case(batch) for batch in (1, 8)}
CASES["greedy 16 tokens"] = _case(1, 16)
greedy = Benchmark(CASES, quick=["greedy 16 tokens"], tolerance=0)
beam = Benchmark({"beam 4 batch 1": _case(1, beams=4)}, quick=[], tolerance=0)
# As many rows per step as with four beams.
rows = Benchmark({"greedy batch 4": _case(4), "greedy 1024 tokens": _case(1, 1024)}, quick=[], tolerance=0)
read = Benchmark({"read": {}}, quick=[])


def weights():
    """The weights of a GPT-2 by name, the same in every process; `layers` is a list of such dicts."""
    numbers = np.random.default_rng(0)

    def normal(*shape, scale=0.06):
        return numbers.normal(scale=scale, size=shape).astype("float32")

    def norm():
        return {"scale": 1 + normal(WIDTH), "bias": normal(WIDTH)}

    def dense(*shape):
        return {"kernel": normal(*shape), "bias": normal(shape[-1])}

    layers = [
        {
            "norm_1": norm(),
            "qkv": dense(WIDTH, 3 * WIDTH),
            "output": dense(WIDTH, WIDTH),
            "norm_2": norm(),
            "inner": dense(WIDTH, 4 * WIDTH),
            "outer": dense(4 * WIDTH, WIDTH),
        }
        for _ in range(LAYERS)
    ]
    tables = {"tokens": normal(VOCABULARY, WIDTH), "positions": normal(POSITIONS, WIDTH)}
    return {**tables, "layers": layers, "norm": norm()}


def prompts(case):
    return np.random.default_rng(1).integers(1, VOCABULARY, (case["batch"], PROMPT)).astype("int32")


@greedy.implementation("keras_attn jit")
@beam.implementation("keras_attn jit")
@rows.implementation("keras_attn jit")
def keras_attn_jit(case):
    return _keras_attn(case, True)


@greedy.implementation("keras_attn")
@beam.implementation("keras_attn")
@rows.implementation("keras_attn")
def keras_attn(case):
    return _keras_attn(case, False)


def model_and_config(case):
    """The model with its weights and the `GenerationConfig` of a case, and that config."""
    from keras_attn import GenerationConfig, LanguageModel
    from keras_attn.generation import BeamSearch, Greedy

    sizes = {"num_layers": LAYERS, "hidden_dim": WIDTH, "num_heads": HEADS, "intermediate_dim": 4 * WIDTH}
    strategy = BeamSearch(case["beams"]) if case["beams"] > 1 else Greedy()
    config = GenerationConfig(case["length"], end_id=0, strategy=strategy)
    model = LanguageModel.gpt2(VOCABULARY, POSITIONS, generation_config=config, **sizes)
    given = weights()
    model.embedding.embeddings.assign(given["tokens"])
    model.position.position_embeddings.assign(given["positions"])
    for block, layer in zip(model.decoder.blocks, given["layers"], strict=True):
        attention, network = block.self_attention.layer, block.feed_forward.layer
        _assign(block.self_attention.norm_before, layer["norm_1"])
        _assign(block.feed_forward.norm_before, layer["norm_2"])
        parts = (attention.query_dense, attention.key_dense, attention.value_dense)
        for i, part in enumerate(parts):
            where = slice(i * WIDTH, (i + 1) * WIDTH)
            _assign(part, {"kernel": layer["qkv"]["kernel"][:, where], "bias": layer["qkv"]["bias"][where]})
        _assign(attention.output_dense, layer["output"])
        _assign(network.intermediate_dense, layer["inner"])
        _assign(network.output_dense, layer["outer"])
    _assign(model.decoder.final_norm, given["norm"])
    return model, config


def _keras_attn(case, jit):
    model, config = model_and_config(case)
    ids = prompts(case)
    return lambda: model.generate(ids, config=config, jit_compile=jit), np.asarray


def _assign(layer, given):
    for weight, array in zip(layer.weights, given.values(), strict=True):
        weight.assign(array.reshape(weight.shape))


@greedy.implementation("huggingface", needs="transformers", install="make peers")
@beam.implementation("huggingface", needs="transformers", install="make peers")
def huggingface(case):
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.set_grad_enabled(False)
    sizes = {"n_layer": LAYERS, "n_embd": WIDTH, "n_head": HEADS, "n_positions": POSITIONS}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, bos_token_id=None, eos_token_id=None, **sizes)).eval()
    given, body = weights(), model.transformer
    body.wte.weight.copy_(torch.from_numpy(given["tokens"]))
    body.wpe.weight.copy_(torch.from_numpy(given["positions"]))
    pairs = [(body.ln_f, given["norm"])]
    for block, layer in zip(body.h, given["layers"], strict=True):
        pairs += [(block.ln_1, layer["norm_1"]), (block.ln_2, layer["norm_2"])]
        pairs += [(block.attn.c_attn, layer["qkv"]), (block.attn.c_proj, layer["output"])]
        pairs += [(block.mlp.c_fc, layer["inner"]), (block.mlp.c_proj, layer["outer"])]
    for module, arrays in pairs:
        for parameter, array in zip((module.weight, module.bias), arrays.values(), strict=True):
            parameter.copy_(torch.from_numpy(array))
    ids = torch.from_numpy(prompts(case)).long()
    options = {"num_beams": case["beams"], "do_sample": False, "pad_token_id": 0, "eos_token_id": None}

    def call():
        mask = torch.ones_like(ids)
        return model.generate(ids, attention_mask=mask, max_new_tokens=case["length"], **options)[:, PROMPT:]

    return call, np.asarray


@greedy.implementation("keras_hub jit", needs="keras_hub", install="make peers")
def keras_hub(case):
    from keras_hub.models import GPT2Backbone, GPT2CausalLM

    sizes = {"num_layers": LAYERS, "num_heads": HEADS, "hidden_dim": WIDTH, "intermediate_dim": 4 * WIDTH}
    backbone = GPT2Backbone(vocabulary_size=VOCABULARY, max_sequence_length=POSITIONS, **sizes)
    given = weights()
    backbone.get_layer("token_embedding").embeddings.assign(given["tokens"])
    backbone.get_layer("position_embedding").position_embeddings.assign(given["positions"])
    for block, layer in zip(backbone.transformer_layers, given["layers"], strict=True):
        attention = block._self_attention_layer
        _assign(block._self_attention_layer_norm, layer["norm_1"])
        _assign(block._feedforward_layer_norm, layer["norm_2"])
        for i, part in enumerate((attention._query_dense, attention._key_dense, attention._value_dense)):
            where = slice(i * WIDTH, (i + 1) * WIDTH)
            _assign(part, {"kernel": layer["qkv"]["kernel"][:, where], "bias": layer["qkv"]["bias"][where]})
        _assign(attention._output_dense, layer["output"])
        _assign(block._feedforward_intermediate_dense, layer["inner"])
        _assign(block._feedforward_output_dense, layer["outer"])
    _assign(backbone.layer_norm, given["norm"])
    model = GPT2CausalLM(backbone=backbone, preprocessor=None)
    model.compile(sampler="greedy", jit_compile=True)
    size = PROMPT + case["length"]
    ids = np.pad(prompts(case), ((0, 0), (0, case["length"])))
    mask = np.arange(size) < np.full((case["batch"], 1), PROMPT)

    def call():
        return model.generate({"token_ids": ids, "padding_mask": mask}, stop_token_ids=None)["token_ids"][:, PROMPT:]

    return call, np.asarray


@read.implementation("memory")
def memory(case):
    import tensorflow as tf

    size = LAYERS * 12 * WIDTH**2 + VOCABULARY * WIDTH
    buffer = tf.random.uniform((2, 16 * size))

    @tf.function
    def total():
        return tf.reduce_sum(buffer, axis=1)

    def call():
        return [total() for _ in range(LENGTH // 32)]

    return call, np.asarray


if __name__ == "__main__":
    sys.exit(main(greedy, beam, rows, read))
