"""One file for each format. Its `Emitter` turns tasks into files:

* `runtime`: what runs its artefacts: `export/run_<runtime>.py` is the client, and tasks and tokenizers ask for it.
* `requires`: `(module, extra)` pairs that must be installed; `text_requires`: those for a tokenizer besides.
* `precisions`: names from `export/precisions.py` that it can write, and `selective`, those in which some weights may
  stay in float32.
* `path(task_name, precision)`: where the artefact of a task lies, relative to the export folder.
* `int8_levels`: the largest integer of an int8 weight.
* `convert(tasks, workplace)`: what all precisions start from; files may be put in `workplace`.
* `write(converted, folder, precision, keep, calibration)`: writes the artefacts of the tasks; the Keras variables in
  `keep` stay in float32, and `calibration` has cases for each task's name.
* `attach(path, files, requests)`: puts files, texts by name, into an artefact, and a request of each of its tasks where
  its servers look for such; `attached(path)` gives the files.
* `operators(path)`: a `collections.Counter` of the operators in an artefact; those that the runtime would have to
  borrow from TensorFlow start with `Flex`.
"""
