"""Exported artefacts, compared with those of PyTorch with the same weights, and with the Keras model.

`python -m benchmarks.export [--quick] [--json FILE]`

A BERT-like encoder of width 384 with 8,000 tokens reads one text of 128 tokens without padding; shapes are fixed in the
export. Generation is as in `benchmarks.generation`: a prompt of 32 tokens and 128 new tokens, the same for all. The
Keras model runs with and without XLA, artefacts run without. The sizes and numbers of operators of the encoder's
artefacts are printed after the table.

litert-torch cannot be installed together with TensorFlow. Set `LITERT_TORCH_PYTHON` to the Python of an environment
with litert-torch, torch and transformers: `LITERT_TORCH_PYTHON=FOLDER/bin/python python -m benchmarks.export`.
"""

import importlib.util
import os
import pathlib
import subprocess
import sys
import tempfile
import warnings

import numpy as np

from benchmarks import generation
from benchmarks.harness import Benchmark, main

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

ROOT = pathlib.Path(__file__).parents[1]
WIDTH, HEADS, VOCABULARY, LENGTH = 384, 6, 8000, 128
THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
FORMATS = ("onnx", "onnx_fused", "tflite", "saved_model")
SMALL = {"onnx": ("int8", "float16"), "onnx_fused": ("int8",), "tflite": ("int8", "float16")}
# The folder of the artefacts, for all processes.
FOLDER = "KERAS_ATTN_BENCHMARK_ARTEFACTS"
LITERT_TORCH_PYTHON = os.environ.get("LITERT_TORCH_PYTHON") or sys.executable


def _cases(what):
    return {f"{what}, {layers} layers": {"layers": layers} for layers in (2, 6)}


onnx, tflite, saved_model = (
    Benchmark(_cases(what), quick=[f"{what}, 2 layers"]) for what in ("ONNX", "TFLite", "SavedModel")
)
# float16 and int8 differ from float32. The check only detects broken artefacts.
small_onnx, small_tflite = (
    Benchmark({f"{what}, precisions": {"layers": 6}}, quick=[], tolerance=0.2) for what in ("ONNX", "TFLite")
)
generate = Benchmark({"generate": generation.CASES["greedy batch 1"]}, quick=[], tolerance=0)


def ids():
    return np.random.default_rng(1).integers(1, VOCABULARY, (1, LENGTH)).astype("int32")


def artefact(kind, name):
    """Path of an artefact. All artefacts of a kind are made on first use, in a separate process."""
    folder = pathlib.Path(os.environ[FOLDER]) / kind
    if not folder.exists():
        python = LITERT_TORCH_PYTHON if kind.startswith("litert") else sys.executable
        made = subprocess.run([python, "-m", "benchmarks.export", "--write", kind, folder], cwd=ROOT)
        if made.returncode:
            raise RuntimeError(f"{kind} could not be exported")
    return str(folder / name)


def write(kind, folder):
    """Exports the artefacts of a kind: "generate", or "encoder 6", "small 6", "torch 6" or "litert 6" of 6 layers."""
    folder = pathlib.Path(folder)
    unfinished = folder.with_name(f"{kind} unfinished")
    unfinished.mkdir(parents=True)
    name, _, layers = kind.partition(" ")
    made = {"encoder": _write_encoder, "small": _write_small, "torch": _write_torch, "litert": _write_litert}
    made.get(name, _write_generation)(unfinished, *([int(layers)] if layers else []))
    unfinished.rename(folder)


def torch_encoder(layers):
    import torch
    from transformers import BertConfig, BertModel

    torch.set_grad_enabled(False)
    torch.manual_seed(0)
    sizes = {"hidden_size": WIDTH, "num_hidden_layers": layers, "num_attention_heads": HEADS}
    config = BertConfig(vocab_size=VOCABULARY, intermediate_size=4 * WIDTH, **sizes)
    model = BertModel(config, add_pooling_layer=False).eval()
    for parameter in model.parameters():
        parameter += 0.05 * torch.randn(parameter.shape)

    class Encoder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, token_ids):
            return self.model(token_ids, attention_mask=(token_ids != 0).long()).last_hidden_state

    return Encoder().eval()


def _write_encoder(folder, layers):
    import keras

    from keras_attn import EncoderModel

    keras.utils.set_random_seed(0)
    model = EncoderModel.bert_base(
        VOCABULARY, num_layers=layers, hidden_dim=WIDTH, num_heads=HEADS, intermediate_dim=4 * WIDTH
    )
    if importlib.util.find_spec("transformers") is not None:
        sys.path.append(str(ROOT / "tests"))
        from peers.hf_weights import copy_bert

        copy_bert(torch_encoder(layers).model, model)
    model.save(folder / "model.keras")
    _emit(model, "forward", folder, dict.fromkeys(FORMATS, ("float32",)))


def _write_small(folder, layers):
    import keras

    import keras_attn  # noqa: F401

    model = keras.models.load_model(artefact(f"encoder {layers}", "model.keras"))
    _emit(model, "forward", folder, SMALL)


def _write_generation(folder):
    model = generation.model_and_config(generation.CASES["greedy batch 1"])[0]
    model.save(folder / "model.keras")
    _emit(model, "generate", folder, dict.fromkeys(FORMATS, ("float32",)))


def _emit(model, task, folder, formats):
    from keras_attn.export import registry
    from keras_attn.export.tensor_spec import TensorSpec

    task = registry.load("tasks", task)(model)
    if task.name == "forward":
        task.inputs = {"token_ids": TensorSpec((1, LENGTH), "int32")}
    for name, precisions in formats.items():
        writer = registry.load("formats", name)()
        with tempfile.TemporaryDirectory() as workspace:
            converted = writer.convert([task], workspace)
            for precision in precisions:
                writer.write(converted, folder, precision)


def _write_torch(folder, layers):
    import torch
    from onnxruntime.transformers import optimizer

    options = {"input_names": ["token_ids"], "output_names": ["output"], "opset_version": 17, "dynamo": False}
    path = str(folder / "plain.onnx")
    warnings.simplefilter("ignore")
    torch.onnx.export(torch_encoder(layers), (torch.from_numpy(ids()).long(),), path, **options)
    optimizer.optimize_model(
        path, model_type="bert", num_heads=HEADS, hidden_size=WIDTH, opt_level=0
    ).save_model_to_file(str(folder / "model.onnx"))


def _write_litert(folder, layers):
    import litert_torch
    import torch

    example = (torch.from_numpy(ids()).long(),)
    litert_torch.convert(torch_encoder(layers), example).export(str(folder / "model.tflite"))


def _tokens(kind):
    return generation.prompts({"batch": 1}) if kind == "generate" else ids()


def _onnx(kind, file, dtype="int32"):
    import onnxruntime

    session = onnxruntime.InferenceSession(artefact(kind, file), providers=["CPUExecutionProvider"])
    [feed] = session.get_inputs()
    inputs = {feed.name: _tokens(kind).astype(dtype)}
    output = "tokens" if kind == "generate" else session.get_outputs()[0].name
    return lambda: session.run([output], inputs)[0], np.asarray


def _tflite(kind, file, task="forward"):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(artefact(kind, file), num_threads=THREADS)
    names = interpreter.get_signature_list()
    run = interpreter.get_signature_runner(task if task in names else next(iter(names)))
    [name] = run.get_input_details()
    inputs = {name: _tokens(kind)}
    output = "tokens" if kind == "generate" else next(iter(run.get_output_details()))
    return lambda: run(**inputs)[output], np.asarray


@onnx.implementation("onnx")
@small_onnx.implementation("onnx")
def onnx_portable(case):
    return _onnx(f"encoder {case['layers']}", "forward.onnx")


@onnx.implementation("onnx fused")
def onnx_fused(case):
    return _onnx(f"encoder {case['layers']}", "forward.fused.onnx")


@onnx.implementation("torch onnx", needs="transformers", install="make peers")
def torch_onnx(case):
    return _onnx(f"torch {case['layers']}", "model.onnx", "int64")


@small_onnx.implementation("onnx int8")
def onnx_int8(case):
    return _onnx(f"small {case['layers']}", "forward.int8.onnx")


@small_onnx.implementation("onnx float16")
def onnx_float16(case):
    return _onnx(f"small {case['layers']}", "forward.float16.onnx")


@tflite.implementation("tflite")
@small_tflite.implementation("tflite")
def tflite_float32(case):
    return _tflite(f"encoder {case['layers']}", "model.tflite")


@tflite.implementation(
    "litert-torch",
    needs="litert_torch" if sys.executable == LITERT_TORCH_PYTHON else None,
    install="pip install litert-torch in an environment without TensorFlow, and set LITERT_TORCH_PYTHON",
)
def tflite_torch(case):
    return _tflite(f"litert {case['layers']}", "model.tflite")


@small_tflite.implementation("tflite int8")
def tflite_int8(case):
    return _tflite(f"small {case['layers']}", "model.int8.tflite")


@small_tflite.implementation("tflite float16")
def tflite_float16(case):
    return _tflite(f"small {case['layers']}", "model.float16.tflite")


@saved_model.implementation("saved_model")
def signature(case):
    import tensorflow as tf

    run, inputs = (
        tf.saved_model.load(artefact(f"encoder {case['layers']}", "saved_model")).signatures["forward"],
        tf.constant(ids()),
    )
    return lambda: run(token_ids=inputs)["logits"], np.asarray


@saved_model.implementation("tf.function")
def in_process(case):
    import keras
    import tensorflow as tf

    import keras_attn  # noqa: F401

    model, inputs = keras.models.load_model(artefact(f"encoder {case['layers']}", "model.keras")), tf.constant(ids())
    run = tf.function(lambda token_ids: model({"token_ids": token_ids}, training=False), autograph=False)
    return lambda: run(inputs), np.asarray


@generate.implementation("saved_model")
def generate_saved_model(case):
    import tensorflow as tf

    loaded = tf.saved_model.load(artefact("generate", "saved_model"))
    run, inputs = loaded.signatures["generate"], tf.constant(generation.prompts(case))
    return lambda: run(source_ids=inputs)["tokens"], np.asarray


@generate.implementation("tflite")
def generate_tflite(case):
    return _tflite("generate", "model.tflite", "generate")


@generate.implementation("onnx")
def generate_onnx(case):
    return _onnx("generate", "generate.onnx")


@generate.implementation("onnx fused")
def generate_onnx_fused(case):
    return _onnx("generate", "generate.fused.onnx")


generate.implementation("keras_attn")(generation.keras_attn)
generate.implementation("keras_attn jit")(generation.keras_attn_jit)
generate.implementation("huggingface", needs="transformers", install="make peers")(generation.huggingface)


def describe(folder):
    """Prints the sizes and numbers of operators of the encoders' artefacts."""
    from keras_attn.export import registry

    for kind in sorted(folder.glob("encoder *")) + sorted(folder.glob("small *")):
        for name in FORMATS:
            writer = registry.load("formats", name)()
            for precision in SMALL.get(name, ()) if kind.name.startswith("small") else ["float32"]:
                path = kind / writer.path("forward", precision)
                files = [path, *path.rglob("*")]
                size = sum(file.stat().st_size for file in files if file.is_file()) / 1e6
                print(f"{kind.name} layers, {path.name}: {size:.1f} MB, {writer.operators(path).total()} operators")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--write"]:
        sys.exit(write(*sys.argv[2:]))
    with tempfile.TemporaryDirectory() as temporary:
        os.environ[FOLDER] = temporary
        status = main(onnx, small_onnx, tflite, small_tflite, saved_model, generate)
        describe(pathlib.Path(temporary))
    sys.exit(status)
