"""One file for each format. Its `Emitter` turns tasks into files:

* `requires`: `(module, extra)` pairs that must be installed; `text_requires`: those for a tokenizer besides.
* `path(task_name)`: where the artefact of a task lies, relative to the export folder.
* `emit(tasks, folder)`: writes the artefacts of all `tasks`.
* `flex_ops(path)`: how many operators the runtime would have to borrow from TensorFlow.
"""
