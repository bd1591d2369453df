"""The export formats, one file each. The `FormatWriter` of a format turns tasks into files:

* `runtime`: the runtime of its artefacts; `export/run_<runtime>.py` is the client, and tasks and tokenizers depend on
  it.
* `requires`: `(module, extra)` pairs that must be installed; `text_requires`: more of them for tasks with a tokenizer.
* `precisions`: the supported names from `export/precisions.py`; `selective`: those in which some weights may stay in
  float32.
* `path(task_name, precision)`: path of the artefact of a task, relative to the export folder.
* `int8_levels`: the largest integer of an int8 weight.
* `convert(tasks, workspace)`: the conversion that all precisions share; `workspace` is a folder for temporary files.
* `write(converted, folder, precision, keep, calibration)`: writes the artefacts of the tasks; Keras variables in `keep`
  stay in float32, and `calibration` maps task names to cases.
* `attach(path, files, requests)`: stores texts by file name in an artefact, and a warm-up request of each task if its
  server supports that; `attached(path)` returns the texts.
* `operators(path)`: a `collections.Counter` of the operators in an artefact; those that need TensorFlow's Flex delegate
  start with `Flex`.
"""
