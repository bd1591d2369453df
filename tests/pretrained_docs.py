"""Generates docs/pretrained.md from a test run: families, heads and checks, tokenizers, and damaged files.

`pytest tests/pretrained tests/peers/test_pretrained.py --pretrained-docs docs/pretrained.md`
"""

import pathlib

from pretrained.case import all_cases, cases_of

from keras_attn.pretrained import families

HEAD = """# Pretrained models

`make pretrained` runs the tests of all families and generates this page.

`keras_attn.from_pretrained(folder)` reads a Hugging Face folder (`config.json`, safetensors, tokenizer files) without
PyTorch into an `EncoderModel`, `LanguageModel` or `Transformer` with its tokenizer and generation settings;
`model.save_pretrained(folder)` writes one that `transformers` loads with equal outputs. A tensor without a weight, a
weight without a tensor, and an entry of the config that is not understood are errors. Tensors of heads that a task does
not need are ignored by their names.

Multi-modal folders of Gemma 3 (`Gemma3ForConditionalGeneration`: 4b, 12b, 27b) are read as their text model: tensors of
`vision_tower` and `multi_modal_projector` are ignored, and `save_pretrained` writes a folder of `Gemma3ForCausalLM`.

The task `base` returns the vectors of all tokens. Of T5 they are those of the encoder alone; of BART and mBART those of
the decoder for the text itself, as `BartModel` returns them for `input_ids` alone.

A folder of sentence-transformers has the task `sentence_embedding`: one vector `(B, D)` per text, pooled and normalised
as its `modules.json` says. Export it with `--task encode`; the output `sentence_embedding` of the artefact is that
vector. `save_pretrained` writes the weights that the vector needs: `transformers` reports a pooler, which it does not,
as newly initialised.

## Families

Each family is a table from the names of the checkpoint to our layers, which is read in both directions, and one
function from its config to our arguments.

"""
CHECKS = """
## Checks

Random small models of `transformers` with odd sizes, padded rows of unequal length. Outputs and gradients: the largest
difference, relative to the largest value (outputs) or to the largest gradient. Written back: `transformers` loads what
`save_pretrained` wrote, misses nothing and finds nothing more; the largest difference of its outputs. Greedy and beam
search: "equal" if all tokens are. "–": the model does not generate. "exempt": see below.

"""
LINES = 2000
TOKENIZERS = """
## Tokenizers

Lines whose ids differ from those of the `tokenizers` library, from `python -m benchmarks.pretrained_tokenizers`: small
vocabularies in the configuration of each family, and lines in thirteen scripts with emoji, control characters,
combining marks and odd spaces.

"""
FILES = """
## Damaged and hostile files

What `from_pretrained` says, without the path.

"""
COLUMNS = ("outputs", "gradients", "written back", "greedy", "beam 4")


def pytest_addoption(parser):
    parser.addoption("--pretrained-docs", metavar="FILE", help="write the table of checkpoints here")


def pytest_configure(config):
    if config.getoption("--pretrained-docs") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Writer(config.getoption("--pretrained-docs")))


class _Writer:
    def __init__(self, path):
        self.path, self.cells, self.messages, self.failed = pathlib.Path(path), {}, {}, []

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.failed.append(report.nodeid)
        properties = dict(report.user_properties)
        if report.when == "call" and report.passed and "case" in properties:
            self.cells[properties["case"], properties["check"]] = properties["difference"]
        if report.when == "call" and report.passed and "message" in properties:
            self.messages[properties["name"]] = properties["message"]

    def pytest_sessionfinish(self, session):
        if self.failed or not self.cells:
            return
        self.path.write_text(page(self.cells, self.messages), encoding="utf-8")


def page(cells, messages):
    from benchmarks.pretrained_tokenizers import KINDS
    from benchmarks.pretrained_tokenizers import table as tokenizers

    cases = all_cases()
    parts = [HEAD, table(("family", "`model_type`", "lines", "tasks"), family_rows()), CHECKS]
    parts.append(table(("checkpoint", *COLUMNS), [row(case, cells) for case in cases]))
    exempt = sorted({(check, why) for case in cases for check, why in case.exempt.items()})
    parts.append("".join(f"\n* {check}: {why}" for check, why in exempt) + "\n")
    parts += [TOKENIZERS, tokenizers(KINDS, LINES), "\n"]
    parts += [FILES, table(("file", "message"), [(name, f"`{text}`") for name, text in messages.items()])]
    return "".join(parts)


def family_rows():
    modules = {}
    for name in families.model_types():
        modules.setdefault(families.module_of(name), []).append(name)
    rows = []
    for module, names in sorted(modules.items()):
        lines = len(pathlib.Path(families.__file__).with_name(f"{module}.py").read_text().splitlines())
        tasks = dict.fromkeys(task for name in names for task in families.family_of(name).heads)
        rows.append((module, ", ".join(f"`{name}`" for name in names), lines, ", ".join(tasks)))
        assert cases_of(module)
    return rows


def row(case, cells):
    found = [f"{case.architecture}" + (f", {case.variant}" if case.variant else "")]
    for name in COLUMNS:
        exempt = {"greedy": "generated", "beam 4": "generated"}.get(name, name)
        value = "exempt" if exempt in case.exempt else cells.get((case.name, name), "–")
        found.append(value if isinstance(value, str) else f"{value:.0e}")
    return found


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(str(x).replace("|", "\\|") for x in line) + " |\n" for line in lines)
