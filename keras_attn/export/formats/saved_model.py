"""TensorFlow SavedModel: one folder, one named signature a task."""


class Emitter:
    """Writes `saved_model/`; the first task is also `serving_default`."""

    name = "saved_model"
    requires = ()
    text_requires = (("tensorflow_text", "text"), ("sentencepiece", "text"))

    def path(self, task_name):
        return "saved_model"

    def emit(self, tasks, folder):
        from keras_attn.export import signatures

        signatures.save(tasks, folder / "saved_model", serving_default=True)

    def flex_ops(self, path):
        return 0
