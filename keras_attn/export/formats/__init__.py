"""One file for each format. Its `Emitter` turns tasks into files:

* `requires`: `(module, extra)` pairs that must be installed; `text_requires`: those for a tokenizer besides.
* `precisions`: names from `export/precisions.py` that it can write, and `selective`, those in which some weights may
  stay in float32.
* `path(task_name, precision)`: where the artefact of a task lies, relative to the export folder.
* `emit(tasks, folder, precision, keep, calibration)`: writes the artefacts of all `tasks`; the Keras variables in
  `keep` stay in float32, and `calibration` has cases for each task's name.
* `operators(path)`: a `collections.Counter` of the operators in an artefact; those that the runtime would have to
  borrow from TensorFlow start with `Flex`.
"""
