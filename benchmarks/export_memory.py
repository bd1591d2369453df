"""Memory and CPU time of exports.

`python -m benchmarks.export_memory [--quick] [--json FILE] [--model FOLDER]`

A language model of 23 million weights with random values is exported to each format, one task and one process at a
time. With `--model`, the model of a folder in the format of Hugging Face is exported too, with its tokenizer.

`peak MB` is the largest increase of the memory of the process and its children during the export: the memory besides
the model itself. Shared pages count once (`Pss` of Linux). `CPU s` is the time of all these processes, with the
verification of the artefacts. A row of `--json` has `model`, `format`, `task`, `weights_mb`, `peak_mb` and `cpu_s`.
"""

import argparse
import json
import os
import pathlib
import select
import subprocess
import sys
import tempfile

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

ROOT = pathlib.Path(__file__).parents[1]
FORMATS = ("saved_model", "tflite", "onnx")
TASKS = ("generate", "forward")
INTERVAL_S = 0.05


def export(folder, format, task):
    """Exports in this process; writes the megabytes of the weights, waits for a line, and writes the CPU seconds."""
    import keras

    import keras_attn
    from keras_attn.export import export

    if folder:
        model = keras_attn.from_pretrained(folder)
    else:
        keras.utils.set_random_seed(0)
        config = keras_attn.GenerationConfig(max_length=32)
        model = keras_attn.LanguageModel(8000, 6, 512, 8, 2048, generation_config=config)
    print(sum(variable.value.numpy().nbytes for variable in model.variables) / 1e6, flush=True)
    sys.stdin.readline()
    before = sum(os.times()[:4])
    with tempfile.TemporaryDirectory() as path:
        export(model, path, format, tasks=task)
    # Children that still run have not been added to the times of this process.
    print(sum(os.times()[:4]) - before + sum(map(_cpu_seconds, _children(os.getpid()))), flush=True)
    sys.stdin.readline()


def measure(folder, format, task):
    """A row of the table: starts a process that exports, and watches its memory."""
    command = [sys.executable, "-m", "benchmarks.export_memory", "--export", format, task, "--model", folder]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, text=True, stderr=subprocess.DEVNULL, **pipes) as process:
        weights = process.stdout.readline()
        before = peak = _memory(process.pid)
        print(file=process.stdin, flush=True)
        while not select.select([process.stdout], [], [], INTERVAL_S)[0]:
            peak = max(peak, _memory(process.pid))
        if not (seconds := process.stdout.readline()):
            raise RuntimeError(f"{task} could not be exported to {format}")
        print(file=process.stdin, flush=True)
    name = pathlib.Path(folder).name or "language model"
    sizes = {"weights_mb": float(weights), "peak_mb": (peak - before) / 1e6, "cpu_s": float(seconds)}
    return {"model": name, "format": format, "task": task, **sizes}


def _memory(pid):
    """The bytes that a process and its descendants occupy."""
    found = sum(map(_memory, _children(pid)))
    try:
        lines = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has ended
        return found
    return found + sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def _children(pid):
    try:
        return [int(child) for file in pathlib.Path(f"/proc/{pid}/task").glob("*/children") for child in _read(file)]
    except OSError:
        return []


def _read(file):
    return file.read_text().split()


def _cpu_seconds(pid):
    """The CPU seconds of a process and of its children that have ended."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="one task per format")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="also write the rows to this file")
    parser.add_argument(
        "--model", default="", metavar="FOLDER", help="also export a sentence encoder with its tokenizer"
    )
    parser.add_argument("--export", nargs=2, metavar=("FORMAT", "TASK"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.export:
        return export(arguments.model, *arguments.export)
    cases = [("", format, task) for format in FORMATS for task in TASKS[: 1 if arguments.quick else None]]
    cases += [(arguments.model, format, "encode") for format in FORMATS if arguments.model]
    rows = []
    print(f"{'model':<24} {'format':<12} {'task':<9} {'weights MB':>10} {'peak MB':>8} {'CPU s':>6}")
    for case in cases:
        rows.append(row := measure(*case))
        sizes = f"{row['weights_mb']:>10.0f} {row['peak_mb']:>8.0f} {row['cpu_s']:>6.1f}"
        print(f"{row['model'][:24]:<24} {row['format']:<12} {row['task']:<9} {sizes}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
