"""TensorFlow SavedModel: one folder with one signature per task."""

import collections
import math

from keras_attn.export.formats.format import Format

_EXTRA = "assets.extra"


class FormatWriter(Format):
    """Writes `saved_model/`; the first task is also `serving_default`."""

    name = runtime = file_name = "saved_model"
    text_requires = (("tensorflow_text", "text"), ("sentencepiece", "text"))

    precisions = ("float32", "float16")
    selective = ("float16",)

    def slow_import(self, path):
        return "tensorflow"

    def check_names(self, task):
        from keras_attn.export.formats import signatures

        signatures.check_names(task, self.name)

    def write(self, converted, folder, precision="float32", keep=(), calibration=None):
        from keras_attn.export.formats import signatures

        kept = {variable.path for variable in keep}
        tasks = converted
        half = [v for v in tasks[0].model.variables if v.dtype == "float32" and len(v.shape) > 1 and v.path not in kept]
        path = folder / self.path(tasks[0].name, precision)
        signatures.save(tasks, path, serving_default=True, half=half if precision == "float16" else ())

    def attach(self, path, files, requests):
        from keras_attn.export.formats.saved_model import warm_up

        # Serving reads this folder; the graph does not.
        extra = path / _EXTRA
        extra.mkdir()
        for name, text in files.items():
            (extra / name).write_text(text, encoding="utf-8")
        warm_up.write(extra, {"serving_default": next(iter(requests.values())), **requests})

    def attached(self, path):
        files = (path / _EXTRA).glob("*") if (path / _EXTRA).is_dir() else ()
        return {file.name: file.read_text(encoding="utf-8") for file in sorted(files) if file.suffix and file.is_file()}

    def operators(self, path):
        model = _protobuf(path)
        graphs = [graph.graph_def for graph in model.meta_graphs]
        functions = [function.node_def for graph in graphs for function in graph.library.function]
        return collections.Counter(node.op for nodes in [*(g.node for g in graphs), *functions] for node in nodes)

    def reads(self, path):
        return (path / "saved_model.pb").is_file()

    def contents(self, path):
        import tensorflow as tf

        [graph, *_] = _protobuf(path).meta_graphs
        signatures = {
            name: {"inputs": _described(signature.inputs), "outputs": _described(signature.outputs)}
            for name, signature in graph.signature_def.items()
            if not name.startswith("__")
        }
        reader = tf.train.load_checkpoint(str(path / "variables" / "variables"))
        dtypes, weights = reader.get_variable_to_dtype_map(), []
        for name, shape in sorted(reader.get_variable_to_shape_map().items()):
            if name.startswith("weights/"):
                size = math.prod(shape) * dtypes[name].size
                name_of = name.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE")
                weights.append({"name": name_of, "shape": list(shape), "dtype": dtypes[name].name, "bytes": size})
        return signatures, weights


def _protobuf(path):
    from tensorflow.core.protobuf import saved_model_pb2

    return saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())


def _described(tensors):
    import tensorflow as tf

    return [
        {
            "name": name,
            "shape": [dimension.size for dimension in info.tensor_shape.dim],
            "dtype": tf.as_dtype(info.dtype).name,
        }
        for name, info in sorted(tensors.items())
    ]
