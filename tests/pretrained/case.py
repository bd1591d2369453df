"""A small random model of `transformers` that ours must equal, and the cases of all families."""

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

CASES = Path(__file__).parent / "cases"
FIXTURES = Path(__file__).parents[1] / "fixtures" / "pretrained"
TOKENIZERS = FIXTURES.with_name("tokenizers")
TEXT = "Hello, my dog is cute"
# Rows of different lengths.
LENGTHS = (11, 7, 3)
# The smallest vocabulary with special tokens below 5, and an odd one.
SIZE = 53


def tokens(rng, pad_id=0, size=SIZE):
    """Right-padded ids, as `transformers` names them."""
    ids = rng.integers(5, size, (len(LENGTHS), max(LENGTHS)))
    mask = np.arange(max(LENGTHS)) < np.array(LENGTHS)[:, None]
    return {"input_ids": np.where(mask, ids, pad_id), "attention_mask": mask.astype("int64")}


def ended(rng, after=0, end_id=1):
    """Texts with their end token before as many more tokens."""
    found = tokens(rng)
    found["input_ids"][np.arange(len(LENGTHS)), np.array(LENGTHS) - 1 - after] = end_id
    return found


def choices(rng, pad_id=0):
    """Three texts for each of two examples."""
    found = [tokens(rng, pad_id) for _ in range(2)]
    return {name: np.stack([x[name] for x in found]) for name in found[0]}


def pairs(rng, pad_id=0):
    """Source ids, padded, and target ids."""
    return {**tokens(rng, pad_id), "decoder_input_ids": rng.integers(5, SIZE, (len(LENGTHS), 6))}


def ids_to_ours(inputs):
    """The inputs of our model, from those of theirs."""
    if "decoder_input_ids" in inputs:
        mask = inputs["attention_mask"].astype(bool)
        return {"source_ids": inputs["input_ids"], "source_mask": mask, "target_ids": inputs["decoder_input_ids"]}
    found = {"token_ids": inputs["input_ids"]}
    if "attention_mask" in inputs:
        found["padding_mask"] = inputs["attention_mask"].astype(bool)
    return found | {name: inputs[name] for name in ("token_type_ids",) if name in inputs}


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """A model of `transformers` with random weights, and the inputs of both models.

    Args:
        architecture: The class in `transformers`.
        config: Arguments of its config.
        variant: What tells the case from others of its class.
        task: The task of ours; None for that of the class.
        inputs: Function from a random generator to the inputs of theirs by name.
        to_ours: Function from these to the inputs of ours.
        fixture: Whether the model is committed as a fixture.
        change: Function that changes the model of theirs, after its weights were drawn.
        std: Standard deviation of the kernels.
        tokenizer: Folder of tests/fixtures/tokenizers whose files the checkpoint has.
        written: The class in `transformers` of what ours writes; None for `architecture`.
        exempt: Dict from a check ("gradients", "written back", "generated") to the reason why it does not apply.
    """

    architecture: str
    config: Mapping
    variant: str = ""
    task: str | None = None
    inputs: Callable = tokens
    to_ours: Callable = ids_to_ours
    fixture: bool = False
    change: Callable | None = None
    std: float = 0.15
    tokenizer: str | None = None
    written: str | None = None
    exempt: Mapping = dataclasses.field(default_factory=dict)

    @property
    def name(self):
        return self.architecture + (f"-{self.variant}" if self.variant else "")

    def has(self, check):
        """Whether a check applies."""
        if check in ("greedy", "beam 4"):
            # Beams reorder what greedy search computes: one case per family shows it.
            return self.generates and "generated" not in self.exempt and (check == "greedy" or self.fixture)
        return check not in self.exempt

    @property
    def generates(self):
        return self.architecture.endswith(("LMHeadModel", "ForCausalLM", "ForConditionalGeneration", "MTModel"))


def all_cases():
    """The cases of all families, from the modules in `cases`."""
    return [case for family in sorted(CASES.glob("*.py")) for case in cases_of(family.stem)]


def cases_of(family):
    return importlib.import_module(f"pretrained.cases.{family}").CASES
