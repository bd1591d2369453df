"""The export tasks, one per file. `Task(model, tokenizer)` defines what an artefact computes:

* `inputs`: `TensorSpec` of each input by name. `tokenizer`: `None`, or the tokenizer that converts strings to
  `source_ids` and `tokens` to text.
* `call(**inputs) -> dict`: The graph, traced by the formats.
* `cases(samples)` and `reference(case)`: Inputs for verification, and the outputs of the Keras model for them.
* `agreement(inputs, expected, actual) -> (identical, total)`: Static; counts equal outputs. If `counts_classes` is
  True, these are most likely classes, a share of which a precision may require.
* `axes` and `fix(shapes)` of a `SizedTask`: Input axes whose size can be fixed, and a dict of their sizes.
* Optionally `formats`, if not all formats support the task; `companions()`, the text of files next to an ONNX model by
  name; and `output_axes`, names of the dynamic axes of outputs.
"""
