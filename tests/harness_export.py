"""All layers leave in every format, and answer there as they do here.

One artefact holds many cases: that keeps conversion cheap. Fresh processes are the business of `keras_attn.export`.
"""

import functools
import types

import keras
import numpy as np
import tensorflow as tf
from harness import OTHER_SIZES, SIZES, build, call_with, flat_arrays, named_arrays, tensor_specs

from keras_attn.export import registry

# Some of a converter's time grows with the square of the operations.
TOGETHER = 12


def check_export(cases, format_name, tmp_path):
    family = tuple(case for case in cases if "export" not in case.exempt)
    differences = []
    for start in range(0, len(family), TOGETHER):
        cases = family[start : start + TOGETHER]
        try:
            differences += _differences(cases, family, format_name, tmp_path / f"from_{start}")
        except Exception:
            # Which of them was it?
            before = len(differences)
            for case in cases:
                try:
                    differences += _differences([case], family, format_name, tmp_path / case.name)
                except Exception as error:
                    differences.append(f"{case.name}: {error}")
            assert len(differences) > before, "the cases convert one by one, but not together"
    assert not differences, "\n".join(differences)


@functools.lru_cache(maxsize=1)
def _layers(cases):
    """The layer of each case by name, the same for all formats."""
    return {case.name: build(case)[0] for case in cases}


@functools.lru_cache(maxsize=2)
def _answers(cases, sizes):
    """The outputs of each layer by name; called after the first format has traced the layers."""
    return {case.name: flat_arrays(_layers(cases)[case.name](**case.arguments(sizes))) for case in cases}


def _differences(cases, family, format_name, folder):
    """What is wrong with an artefact of `cases`, which are all or one of `family`."""
    folder.mkdir()
    layers = _layers(family)

    def call(**tensors):
        outputs = {}
        for case in cases:
            own = {name: tensors[f"{case.name}__{name}"] for name in named_arrays(case.arguments())}
            results = keras.tree.flatten(call_with(layers[case.name], case.arguments(), own))
            outputs |= {f"{case.name}__output_{i}": tf.identity(x) for i, x in enumerate(results)}
        return outputs

    task = types.SimpleNamespace(
        name="forward",
        tokenizer=None,
        reads_text=False,
        call=call,
        inputs={f"{case.name}__{name}": spec for case in cases for name, spec in tensor_specs(case).items()},
        model=types.SimpleNamespace(variables=[v for case in cases for v in layers[case.name].variables]),
    )
    writer = registry.load("formats", format_name)()
    writer.write(writer.convert([task], folder), folder)
    run = RUNNERS[format_name](folder / writer.path("forward"))
    differences = []
    for sizes in (SIZES, OTHER_SIZES):
        arguments = {case.name: case.arguments(sizes) for case in cases}
        actual = run({f"{name}__{n}": x for name, value in arguments.items() for n, x in named_arrays(value).items()})
        for name in arguments:
            for i, expected in enumerate(_answers(family, sizes)[name]):
                found = np.asarray(actual[f"{name}__output_{i}"])
                if found.shape != expected.shape:
                    differences.append(f"{name}, sizes {sizes}: output {i} is {found.shape}, not {expected.shape}")
                elif not np.allclose(found, expected, rtol=1e-4, atol=1e-4):
                    error = np.max(np.abs(found.astype("float32") - expected.astype("float32")))
                    differences.append(f"{name}, sizes {sizes}: output {i} is off by {error:.1e}")
    return differences


def _saved_model_runner(path):
    function = tf.saved_model.load(str(path)).signatures["forward"]
    return lambda arrays: function(**{name: tf.constant(x) for name, x in arrays.items()})


def _tflite_runner(path):
    from ai_edge_litert.interpreter import Interpreter

    # One for each call, as export/run_tflite.py says why.
    return lambda arrays: Interpreter(str(path)).get_signature_runner("forward")(**arrays)


def _onnx_runner(path):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda arrays: dict(zip(names, session.run(names, arrays), strict=True))


RUNNERS = {"saved_model": _saved_model_runner, "tflite": _tflite_runner, "onnx": _onnx_runner}
