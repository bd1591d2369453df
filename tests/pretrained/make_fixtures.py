"""Writes the fixtures: small checkpoints of `transformers` with what they compute. Needs the peers.

python -m pretrained.make_fixtures [name ...]
"""

import shutil
import sys

import numpy as np
import transformers
from pretrained import theirs
from pretrained.case import FIXTURES, TEXT, TOKENIZERS, all_cases
from safetensors.numpy import save_file

LIMIT = 100_000
LENGTH = 8


def expected(case, model):
    """Inputs, outputs and generated tokens by name."""
    inputs = theirs.inputs_of(case)
    found = {f"input/{name}": np.asarray(value) for name, value in inputs.items()}
    # safetensors ignores strides.
    found |= {f"output/{name}": np.ascontiguousarray(value) for name, value in theirs.outputs(model, inputs).items()}
    if case.generates and "generated" not in case.exempt:
        settings = {"eos_token_id": 1, "pad_token_id": 0, "max_new_tokens": LENGTH, "min_length": 0}
        for beams in (1, 4):
            rows = theirs.generated(model, inputs, num_beams=beams, **settings)
            padded = np.full((len(rows), LENGTH), -1)
            for row, tokens in zip(padded, rows, strict=True):
                row[: len(tokens)] = tokens
            found[f"generated/{beams}"] = padded
    return found


def of_text(case, model, folder):
    """Copies the files of the tokenizer. Returns the outputs of `transformers` for `TEXT`."""
    folder.mkdir(parents=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TOKENIZERS / case.tokenizer / name, folder / name)
    ids = transformers.AutoTokenizer.from_pretrained(folder)([TEXT], return_tensors="np")["input_ids"]
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    if not case.generates:
        return {f"text/{name}": value for name, value in theirs.outputs(model, inputs).items()}
    (tokens,) = theirs.generated(model, inputs, max_new_tokens=LENGTH)
    return {"text/tokens": np.array([tokens])}


def main(names):
    for case in all_cases():
        if not case.fixture or (names and case.name not in names):
            continue
        folder = FIXTURES / case.name
        shutil.rmtree(folder, ignore_errors=True)
        model = theirs.model_of(case)
        values = expected(case, model)
        if case.tokenizer:
            values |= of_text(case, model, folder)
        for parameter in model.parameters():
            # Tables that are computed are not rounded.
            if parameter.requires_grad:
                parameter.data = parameter.data.bfloat16()
        model.save_pretrained(folder)
        save_file(values, folder / "expected.safetensors")
        size = sum(file.stat().st_size for file in folder.iterdir())
        print(f"{case.name}: {size:,} bytes")
        if size > LIMIT:
            raise SystemExit(f"{case.name} must be at most {LIMIT:,} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
