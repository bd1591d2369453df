"""One pretrained model of each kind, exported: sizes and latencies of the artefacts, with PyTorch as peer.

`python -m benchmarks.pretrained_exports [--quick] [--json FILE] [--only TEXT]`

The checkpoints are written on the spot by `transformers`, with random weights in the sizes of well-known models. Each
is read by `from_pretrained` and exported to TFLite and ONNX without fixed shapes, and verified: in float32, and in int8
unless it generates or compares.
A latency is the median of several calls with one row, on all cores: 128 tokens, an image, or seconds of
audio; a model that generates makes 32 tokens. PyTorch runs eagerly in float32 on the same input. Each runs in a process
of its own. A row of `--json` has `model`, `task`, `format`, `precision`, `mb`, `ms`, `peak_mb`, the memory of the
process in the verification, and `ratio`, the latency divided by PyTorch's. `--quick` exports the smallest model only.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

ROOT = pathlib.Path(__file__).parents[1]
NEW_TOKENS, LENGTH, REPEAT = 32, 128, 5
# Name of the folder beside that of the checkpoint.
ARTEFACTS = "artefacts"
THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@dataclasses.dataclass(frozen=True)
class Kind:
    """A checkpoint and what is measured of it.

    Args:
        architecture: Name of the class of `transformers`.
        config: Entries of its config that differ from their defaults.
        task: Name of the export task.
        inputs: Function that returns the inputs of the artefact, and those of PyTorch's model.
        precisions: Those of the artefacts.
    """

    architecture: str
    config: dict
    task: str
    inputs: Callable
    precisions: tuple = ("float32", "int8")


def tokens(numbers, name="source_ids"):
    ids = numbers.integers(5, 1000, (1, LENGTH))
    return {name: ids.astype("int32")}, {"input_ids": ids}


def image(numbers):
    images = numbers.standard_normal((1, 224, 224, 3), "float32")
    return {"images": images}, {"pixel_values": np.ascontiguousarray(images.transpose(0, 3, 1, 2))}


def image_and_text(numbers):
    (images, pixels), (_, text) = image(numbers), tokens(numbers)
    # From its last token, CLIP takes the vector of a text.
    ids = np.concatenate([text["input_ids"][:, :15], [[49407]]], axis=1)
    return images | {"token_ids": ids.astype("int32")}, pixels | {"input_ids": ids}


def mel(numbers):
    features = numbers.standard_normal((1, 3000, 80), "float32")
    ours = {"input_features": features, "source_mask": np.ones((1, 3000), bool)}
    return ours, {"input_features": np.ascontiguousarray(features.transpose(0, 2, 1))}


def samples(numbers):
    values = numbers.standard_normal((1, 5 * 16000, 1), "float32")
    return {"input_values": values}, {"input_values": values[..., 0]}


LLAMA = {"hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3}
LLAMA |= {"intermediate_size": 1536, "vocab_size": 49152, "tie_word_embeddings": True}
MARIAN = {"vocab_size": 58101, "decoder_vocab_size": 58101, "d_model": 512, "scale_embedding": True}
MARIAN |= {f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in
           {"layers": 6, "attention_heads": 8, "ffn_dim": 2048}.items()}  # fmt: skip
MARIAN |= {"pad_token_id": 58100, "decoder_start_token_id": 58100, "activation_function": "swish"}
WHISPER = {"d_model": 384, "num_mel_bins": 80, "vocab_size": 51865}
WHISPER |= {f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in
            {"layers": 4, "attention_heads": 6, "ffn_dim": 1536}.items()}  # fmt: skip
MINILM = {"hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1536}

# With random weights, tokens and similarities are about equally likely, and int8 changes which one is first.
FLOAT32 = ("float32",)
KINDS = {
    "MiniLM-L6, sentence vectors": Kind("BertModel", MINILM, "encode", tokens),
    "BERT-base, classifier": Kind("BertForSequenceClassification", {}, "classify", tokens),
    "GPT-2": Kind("GPT2LMHeadModel", {}, "generate", tokens, FLOAT32),
    "SmolLM-135M": Kind("LlamaForCausalLM", LLAMA, "generate", tokens, FLOAT32),
    "T5-small": Kind("T5ForConditionalGeneration", {"decoder_start_token_id": 0}, "generate", tokens, FLOAT32),
    "opus-mt": Kind("MarianMTModel", MARIAN, "generate", tokens, FLOAT32),
    "ViT-B/16": Kind("ViTForImageClassification", {}, "classify", image),
    "CLIP ViT-B/32": Kind("CLIPModel", {}, "forward", image_and_text, FLOAT32),
    "Whisper tiny": Kind("WhisperForConditionalGeneration", WHISPER, "generate", mel, FLOAT32),
    "Wav2Vec2-base": Kind("Wav2Vec2ForCTC", {}, "forward", samples),
}


def write(kind, folder):
    """Writes the checkpoint, and prints the milliseconds of a call of PyTorch's model."""
    import torch
    import transformers

    torch.manual_seed(0)
    torch.set_num_threads(THREADS)
    torch.set_grad_enabled(False)
    architecture = getattr(transformers, kind.architecture)
    model = architecture(architecture.config_class(**kind.config)).eval()
    model.save_pretrained(folder)
    _, inputs = kind.inputs(np.random.default_rng(0))
    inputs = {name: torch.from_numpy(value) for name, value in inputs.items()}
    if kind.task == "generate":
        exact = {"min_new_tokens": NEW_TOKENS, "max_new_tokens": NEW_TOKENS}
        milliseconds = _median_ms(lambda: model.generate(**inputs, do_sample=False, num_beams=1, **exact))
    else:
        milliseconds = _median_ms(lambda: model(**inputs))
    print(json.dumps(milliseconds))


def _median_ms(call):
    call()
    durations = []
    for _ in range(REPEAT):
        start = time.perf_counter()
        call()
        durations.append(1e3 * (time.perf_counter() - start))
    return statistics.median(durations)


def exported(kind, folder):
    """Exports the checkpoint, and prints the rows of the report."""
    import keras_attn
    from keras_attn.export import export
    from keras_attn.generation import MinLength

    model = keras_attn.from_pretrained(folder)
    if kind.task == "generate":
        given = model.generation_config
        # The last token may be the end, so that every row takes all steps.
        settings = {"max_length": NEW_TOKENS, "processors": (MinLength(NEW_TOKENS - 1),)}
        model.generation_config = dataclasses.replace(given, **settings)
    inputs, _ = kind.inputs(np.random.default_rng(0))
    formats, precisions = ["tflite", "onnx"], list(kind.precisions)
    target = pathlib.Path(folder).with_name(ARTEFACTS)
    report = export(model, target, formats, tasks=kind.task, samples=inputs, precision=precisions)
    names = ("format", "precision", "bytes", "peak_bytes")
    print(json.dumps([{name: row[name] for name in names} for row in report.rows]))


def run(kind, path):
    """Prints the milliseconds of a call of an artefact."""
    inputs, _ = kind.inputs(np.random.default_rng(0))
    print(json.dumps(_median_ms((_tflite if path.endswith(".tflite") else _onnx)(path, kind.task, inputs))))


def _tflite(path, task, inputs):
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(path, num_threads=THREADS).get_signature_runner(task)
    inputs = {name: inputs[name] for name in runner.get_input_details()}
    return lambda: runner(**inputs)


def _onnx(path, task, inputs):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    inputs = {x.name: inputs[x.name] for x in session.get_inputs()}
    return lambda: session.run(None, inputs)


def measure(name, folder):
    """Rows of a model; each step in a process of its own."""
    folder, task = pathlib.Path(folder), KINDS[name].task
    checkpoint = str(folder / "checkpoint")
    peer = _in_process("--write", name, checkpoint)
    rows = []
    for row in _in_process("--export", name, checkpoint):
        stem = {"tflite": "model", "onnx": task}[row["format"]]
        suffix = "" if row["precision"] == "float32" else f".{row['precision']}"
        ms = _in_process("--run", name, str(folder / ARTEFACTS / f"{stem}{suffix}.{row['format']}"))
        sizes = {"mb": row["bytes"] / 1e6, "ms": ms, "peak_mb": row["peak_bytes"] / 1e6, "ratio": ms / peer}
        rows.append({"model": name, "task": task, "format": row["format"], "precision": row["precision"], **sizes})
    return rows


def _in_process(step, name, folder):
    command = [sys.executable, "-m", "benchmarks.pretrained_exports", step, name, folder]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the smallest model only")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="also write the rows to this file")
    parser.add_argument("--only", default="", metavar="TEXT", help="models whose name contains this")
    parser.add_argument("--write", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--export", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    for step, function in ((arguments.write, write), (arguments.export, exported), (arguments.run, run)):
        if step:
            return function(KINDS[step[0]], step[1])
    rows, failed = [], []
    print("| model | task | format | precision | MB | ms | to PyTorch | peak MB |")
    print("| --- " * 8 + "|", flush=True)
    for name in list(KINDS)[: 1 if arguments.quick else None]:
        if arguments.only not in name:
            continue
        try:
            with tempfile.TemporaryDirectory() as folder:
                found = measure(name, folder)
        except RuntimeError as error:
            failed.append(str(error))
            continue
        for row in found:
            numbers = f"{row['mb']:.1f} | {row['ms']:.1f} | {row['ratio']:.2f} | {row['peak_mb']:.0f}"
            print(f"| {row['model']} | {row['task']} | {row['format']} | {row['precision']} | {numbers} |", flush=True)
        rows += found
    print(*failed, sep="\n")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
