"""One file for each task. Its `Task(model, tokenizer)` says what an artefact computes:

* `formats`, where not all can have it; `companions()`, the text of files beside an ONNX model, by name; and
  `output_axes`, names of an output's dynamic axes, where they are known.
* `axes` and `fix(shapes)`, axis -> size, of a `SizedTask`, where axes of its inputs can be fixed.
* `inputs`: name -> `TensorSpec`; `tokenizer`: `None`, or what turns strings into `source_ids` and `tokens` into text.
* `call(**inputs) -> dict`: the graph, traced by the formats.
* `cases(samples)` and `reference(case)`: inputs to verify on, and the Keras model's own outputs for them.
* `agreement(inputs, expected, actual) -> (identical, total)`: static; counts the answers that are the same. Where
  `counts_classes` is True they are likeliest classes, of which a precision may ask for a part.
"""
