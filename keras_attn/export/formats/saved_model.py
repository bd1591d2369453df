"""TensorFlow SavedModel: one folder, one named signature a task."""

import collections

from keras_attn.export.precisions import suffixed


class Emitter:
    """Writes `saved_model/`; the first task is also `serving_default`."""

    name = "saved_model"
    requires = ()
    text_requires = (("tensorflow_text", "text"), ("sentencepiece", "text"))

    precisions = ("float32", "float16")
    selective = ("float16",)

    def path(self, task_name, precision="float32"):
        return suffixed("saved_model", precision)

    def emit(self, tasks, folder, precision="float32", keep=(), calibration=None):
        from keras_attn.export import signatures

        kept = {variable.path for variable in keep}
        half = [v for v in tasks[0].model.variables if v.dtype == "float32" and len(v.shape) > 1 and v.path not in kept]
        path = folder / self.path(tasks[0].name, precision)
        signatures.save(tasks, path, serving_default=True, half=half if precision == "float16" else ())

    def operators(self, path):
        from tensorflow.core.protobuf import saved_model_pb2

        model = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
        graphs = [graph.graph_def for graph in model.meta_graphs]
        functions = [function.node_def for graph in graphs for function in graph.library.function]
        return collections.Counter(node.op for nodes in [*(g.node for g in graphs), *functions] for node in nodes)
