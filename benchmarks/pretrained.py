"""Checkpoints: loading and inference, compared with KerasHub and transformers (PyTorch).

`python -m benchmarks.pretrained [--quick] [--json FILE]`

The checkpoints are written on the spot with random weights, in float32: a GPT-2 of 124 M parameters and a BERT-base of
109 M, with `--quick` two of 1 M. Loading is measured in fresh processes that take turns: seconds and processor seconds
of the call, and the peak of resident memory above that after the imports. Then the loaded models run in float32 on
texts of 128 tokens, with the same number of threads for all: as a `tf.function`, by `predict`, by `generate` with 32
new tokens, and exported without fixed shapes. PyTorch runs eagerly under `no_grad`. At the end, the ratios are compared
with the goals; a missed goal does not change the exit status, an implementation that fails or differs does. `--quick`
omits `predict`, artefacts and goals.
"""

import argparse
import functools
import importlib.util
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

from benchmarks.harness import Benchmark, main

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

ROOT = pathlib.Path(__file__).parents[1]
LENGTH, NEW_TOKENS = 128, 32
THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
# `(layers, width, heads, vocabulary)`
BERT = {False: (12, 768, 12, 30522), True: (2, 128, 2, 1000)}
GPT2 = {False: (12, 768, 12, 50257), True: (2, 128, 2, 1000)}
# The folder of the checkpoints and artefacts, for all processes.
FOLDER = "KERAS_ATTN_BENCHMARK_CHECKPOINTS"

encoder = Benchmark({f"BERT {batch} x {LENGTH}": {"kind": "bert", "batch": batch} for batch in (1, 8)}, quick=[])
encoder.quick.append(f"BERT 1 x {LENGTH}")
decoder = Benchmark({f"GPT-2 1 x {LENGTH}": {"kind": "gpt2", "batch": 1}}, quick=[])
generation = Benchmark({f"GPT-2 generates {NEW_TOKENS}": {"kind": "gpt2", "batch": 1}}, tolerance=0)
predicted = Benchmark({f"BERT 1 x {LENGTH}, predict": {"kind": "bert", "batch": 1}}, quick=[])
exported = Benchmark({f"BERT 1 x {LENGTH}, exported": {"kind": "bert", "batch": 1}}, quick=[])
# The largest ratio to an implementation of the same case, or to the bytes of the weights.
LOADING_GOALS = {("ms", "keras_hub"): 0.5, ("peak_mb", "keras_hub"): 0.7, ("peak_mb", "weights"): 1.2}


# Checkpoints.


def bert(layers, width, heads, vocabulary):
    """The config of a BERT and the shapes of its tensors."""
    shapes = {
        "embeddings.word_embeddings.weight": (vocabulary, width),
        "embeddings.position_embeddings.weight": (512, width),
        "embeddings.token_type_embeddings.weight": (2, width),
        **_norm("embeddings.LayerNorm", width),
        **_dense("pooler.dense", width, width),
    }
    for i in range(layers):
        block = f"encoder.layer.{i}"
        for name in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            shapes.update(_dense(f"{block}.{name}", width, width))
        shapes.update(_dense(f"{block}.intermediate.dense", 4 * width, width))
        shapes.update(_dense(f"{block}.output.dense", width, 4 * width))
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes.update(_norm(f"{block}.{name}", width))
    sizes = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads}
    config = {"model_type": "bert", "architectures": ["BertModel"], "vocab_size": vocabulary, "pad_token_id": 0}
    return {**config, **sizes, "intermediate_size": 4 * width, "hidden_act": "gelu"}, shapes


def gpt2(layers, width, heads, vocabulary):
    """The config of a GPT-2 and the shapes of its tensors."""
    shapes = {"wte.weight": (vocabulary, width), "wpe.weight": (1024, width), **_norm("ln_f", width)}
    for i in range(layers):
        for name in ("ln_1", "ln_2"):
            shapes.update(_norm(f"h.{i}.{name}", width))
        # The first size of a bias is the last of its kernel, which is `(inputs, outputs)` here.
        sizes = {"attn.c_attn": (1, 3), "attn.c_proj": (1, 1), "mlp.c_fc": (1, 4), "mlp.c_proj": (4, 1)}
        for name, (inputs, outputs) in sizes.items():
            shapes[f"h.{i}.{name}.weight"] = inputs * width, outputs * width
            shapes[f"h.{i}.{name}.bias"] = (outputs * width,)
    sizes = {"n_embd": width, "n_layer": layers, "n_head": heads, "n_positions": 1024, "vocab_size": vocabulary}
    config = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "bos_token_id": None, "eos_token_id": None}
    # KerasHub reads these from the file, without defaults.
    config.update(resid_pdrop=0.1, embd_pdrop=0.1, attn_pdrop=0.1, layer_norm_epsilon=1e-5)
    return {**config, **sizes}, {f"transformer.{name}": shape for name, shape in shapes.items()}


def _dense(name, outputs, inputs):
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name, width):
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def write_checkpoint(folder, config, shapes):
    """Writes config.json and model.safetensors with random weights."""
    from safetensors.numpy import save_file

    numbers = np.random.default_rng(0)
    tensors = {}
    for name, shape in shapes.items():
        tensors[name] = numbers.standard_normal(shape, "float32") * np.float32(0.02)
        if "ln_" in name.lower().replace("layernorm", "ln_") and name.endswith("weight"):
            tensors[name] += 1
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


# Loading, each in a process of its own.


def _load_keras_attn(folder):
    from keras_attn import from_pretrained

    return functools.partial(from_pretrained, folder)


def _load_keras_hub(folder):
    import keras_hub

    return functools.partial(keras_hub.models.GPT2Backbone.from_preset, folder)


def _load_transformers(folder):
    from transformers import GPT2LMHeadModel

    return functools.partial(GPT2LMHeadModel.from_pretrained, folder)


LOADERS = {
    "keras_attn": (_load_keras_attn, None, "tensorflow"),
    "keras_hub": (_load_keras_hub, "keras_hub", "tensorflow"),
    "transformers": (_load_transformers, "transformers", None),
}


def measure_load(name, folder):
    """Loads in this process, and prints milliseconds, processor milliseconds and megabytes as JSON."""
    prepare, _, backend = LOADERS[name]
    load = prepare(folder)
    if backend is not None:
        import safetensors  # noqa: F401
        import tensorflow

        # Starts the runtime.
        tensorflow.zeros(1)
    before = _reset_peak()
    processor, start = time.process_time(), time.perf_counter()
    model = load()
    row = {"ms": (time.perf_counter() - start) * 1e3, "cpu_ms": (time.process_time() - processor) * 1e3}
    row["peak_mb"] = None if before is None else _memory_mb("VmHWM") - before
    assert model is not None
    print(json.dumps(row))


def _reset_peak():
    """Resident megabytes now, from which the peak counts; None where the system does not tell."""
    try:
        pathlib.Path("/proc/self/clear_refs").write_text("5")
        return _memory_mb("VmRSS")
    except OSError:
        return None


def _memory_mb(entry):
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{entry}:")) * 1024 / 1e6


def loading(rounds):
    """The rows of the case "load GPT-2", and whether all implementations that are installed succeeded."""
    folder = pathlib.Path(os.environ[FOLDER]) / "gpt2"
    present = [name for name, (_, needs, _) in LOADERS.items() if not needs or importlib.util.find_spec(needs)]
    for name in LOADERS.keys() - set(present):
        print(f"{name} is absent: make peers")
    found = {name: [] for name in present}
    for _ in range(rounds):
        for name in list(found):
            command = [sys.executable, "-m", "benchmarks.pretrained", "--load", name, str(folder)]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
            if done.returncode:
                print(f"load GPT-2  {name}  failed: {done.stderr.strip().splitlines()[-1:]}", flush=True)
                del found[name]
                continue
            found[name].append(json.loads(done.stdout.splitlines()[-1]))
    rows = [_loading_row(name, runs) for name, runs in found.items() if runs]
    for row in rows:
        peak = "" if row["peak_mb"] is None else f", peak {row['peak_mb']:.0f} MB"
        times = f"{row['ms']:.0f} ms, {row['cpu_ms']:.0f} ms of CPU"
        print(f"{row['case']}  {row['implementation']:<12}  {times}{peak}", flush=True)
    return rows, len(rows) == len(present)


def _loading_row(name, runs):
    ms = [run["ms"] for run in runs]
    quartiles = statistics.quantiles(ms, n=4, method="inclusive") if len(ms) > 1 else ms * 3
    peaks = [run["peak_mb"] for run in runs]
    return {
        "case": "load GPT-2",
        "implementation": name,
        "ms": statistics.median(ms),
        "ms_quartiles": [quartiles[0], quartiles[2]],
        "cpu_ms": statistics.median(run["cpu_ms"] for run in runs),
        "peak_mb": None if None in peaks else statistics.median(peaks),
    }


# Inference.


def ids(case):
    return np.random.default_rng(1).integers(1, 1000, (case["batch"], LENGTH)).astype("int32")


def _model(case):
    import keras_attn

    return keras_attn.from_pretrained(pathlib.Path(os.environ[FOLDER]) / case["kind"])


@encoder.implementation("keras_attn")
@decoder.implementation("keras_attn")
def graph(case):
    import tensorflow as tf

    run, inputs = tf.function(_model(case)), tf.constant(ids(case))
    return lambda: run(inputs), np.asarray


@predicted.implementation("keras_attn")
def predict(case):
    model, inputs = _model(case), ids(case)
    return lambda: model.predict(inputs, verbose=0)


@generation.implementation("keras_attn")
def generate(case):
    from keras_attn import GenerationConfig

    model, inputs, config = _model(case), ids(case), GenerationConfig(NEW_TOKENS, end_id=0)
    return lambda: model.generate(inputs, config=config), np.asarray


def artefact(kind, name):
    """Path of an artefact. The artefacts of a model are made on first use, in a process of their own."""
    folder = pathlib.Path(os.environ[FOLDER]) / f"{kind} artefacts"
    if not folder.exists():
        made = subprocess.run([sys.executable, "-m", "benchmarks.pretrained", "--write", kind, folder], cwd=ROOT)
        if made.returncode:
            raise RuntimeError(f"{kind} could not be exported")
    return str(folder / name)


def write_artefacts(kind, folder):
    from keras_attn.export import registry

    task = registry.load("tasks", "forward")(_model({"kind": kind}))
    folder = pathlib.Path(folder)
    unfinished = folder.with_name(f"{kind} unfinished")
    unfinished.mkdir()
    for name in ("tflite", "onnx"):
        writer = registry.load("formats", name)()
        with tempfile.TemporaryDirectory() as workspace:
            writer.write(writer.convert([task], workspace), unfinished, "float32")
    unfinished.rename(folder)


@exported.implementation("onnx")
def onnx(case):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    path = artefact(case["kind"], "forward.onnx")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    inputs = {session.get_inputs()[0].name: ids(case)}
    return lambda: session.run(None, inputs)[0]


@exported.implementation("tflite")
def tflite(case):
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(artefact(case["kind"], "model.tflite"), num_threads=THREADS).get_signature_runner("forward")
    inputs = {next(iter(run.get_input_details())): ids(case)}
    [output] = run.get_output_details()
    return lambda: run(**inputs)[output]


@encoder.implementation("torch", needs="transformers", install="make peers")
@predicted.implementation("torch", needs="transformers", install="make peers")
@decoder.implementation("torch", needs="transformers", install="make peers")
@exported.implementation("torch", needs="transformers", install="make peers")
def torch_forward(case):
    import torch

    model, inputs = _torch_model(case["kind"]), torch.from_numpy(ids(case)).long()
    return lambda: model(inputs, attention_mask=(inputs != 0).long())[0], np.asarray


@generation.implementation("torch", needs="transformers", install="make peers")
def torch_generate(case):
    import torch

    model, inputs = _torch_model(case["kind"]), torch.from_numpy(ids(case)).long()
    options = {"max_new_tokens": NEW_TOKENS, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    mask = torch.ones_like(inputs)
    return lambda: model.generate(inputs, attention_mask=mask, **options)[:, LENGTH:], np.asarray


def _torch_model(kind):
    import torch
    import transformers

    torch.set_grad_enabled(False)
    torch.set_num_threads(THREADS)
    model = transformers.BertModel if kind == "bert" else transformers.GPT2LMHeadModel
    return model.from_pretrained(pathlib.Path(os.environ[FOLDER]) / kind).eval()


# Goals.


def goals(rows, weights_mb):
    """Prints the ratio of each of our implementations to its peer, and the largest that is wanted."""
    table = {(row["case"], row["implementation"]): row for row in rows}
    found = []
    for (measure, peer), limit in LOADING_GOALS.items():
        ours, theirs = table.get(("load GPT-2", "keras_attn")), table.get(("load GPT-2", peer))
        theirs = {"peak_mb": weights_mb} if peer == "weights" else theirs
        if ours and theirs and ours[measure] is not None:
            found.append((f"load GPT-2, {measure}", "keras_attn", peer, ours[measure] / theirs[measure], limit))
    for (case, name), row in table.items():
        if name not in LOADERS.keys() - {"keras_attn"} | {"torch"} and (case, "torch") in table:
            found.append((case, name, "torch", row["ms"] / table[case, "torch"]["ms"], 1.0))
    if not found:
        return
    width = max(len(case) for case, *_ in found)
    print(f"\n{'goal':<{width}}  {'implementation':<14}  {'to':<9}  {'ratio':>5}  {'at most':>7}")
    for case, name, peer, ratio, limit in found:
        missed = "" if ratio <= limit else "  missed"
        print(f"{case:<{width}}  {name:<14}  {peer:<9}  {ratio:5.2f}  {limit:7.2f}{missed}")


def run(arguments, folder):
    os.environ[FOLDER] = str(folder)
    for name, kind, sizes in (("bert", bert, BERT), ("gpt2", gpt2, GPT2)):
        write_checkpoint(folder / name, *kind(*sizes[arguments.quick]))
    rows, loaded = loading(1 if arguments.quick else 3)
    file = folder / "rows.json"
    options = ["--json", str(file), *(["--quick"] if arguments.quick else [])]
    status = main(encoder, predicted, decoder, generation, exported, argv=options, rounds=3 if arguments.quick else 5)
    rows += json.loads(file.read_text())
    if not arguments.quick:
        goals(rows, (folder / "gpt2" / "model.safetensors").stat().st_size / 1e6)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
    return status or int(not loaded)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small models and short rounds")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="also write the rows to this file")
    parser.add_argument("--load", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--write", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.load:
        sys.exit(measure_load(*arguments.load))
    if arguments.write:
        sys.exit(write_artefacts(*arguments.write))
    with tempfile.TemporaryDirectory() as temporary:
        sys.exit(run(arguments, pathlib.Path(temporary)))
