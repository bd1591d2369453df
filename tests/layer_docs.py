"""Generates docs/layers.md from a test run: all layers, their passed checks, and their peers.

`pytest tests/layers tests/peers --layer-docs docs/layers.md`
"""

import collections
import inspect
import json
import os
import pathlib
import re

import harness

from keras_attn import layers

FORMATS = ("saved_model", "tflite", "onnx")
CHECKS = [check.__name__.removeprefix("check_") for check in harness.CHECKS] + list(FORMATS)
HEAD = """# Layers

`make layers` runs the tests of all layers and generates this page.

## Catalogue

"""
BETWEEN = """
## Checks

Numbers are cases (a layer with certain arguments) that passed a check of `tests/harness.py`. A case counts for the
layer, and for the position layer inside an attention layer. "–": not applicable. "exempt": see below.

"""
PEERS = """
## Compared with

Outputs, and in some tests gradients, equal those of other libraries.

"""


def pytest_addoption(parser):
    parser.addoption("--layer-docs", metavar="FILE", help="write the catalogue of layers here")


def pytest_configure(config):
    if config.getoption("--layer-docs") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Writer(config.getoption("--layer-docs")))


def pytest_runtest_setup(item):
    if not item.config.getoption("--layer-docs"):
        return
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    found = [(mark.args[0], mark.args[1]) for mark in item.iter_markers("peer")]
    if found:
        item.user_properties.append(("peers", json.dumps(found)))
    if "check" in parameters and "case" in parameters:
        check = parameters["check"].__name__.removeprefix("check_")
        item.user_properties.append(("checks", json.dumps([(s, check) for s in subjects(parameters["case"])])))
    elif parameters.get("format_name") in FORMATS and hasattr(item.module, "CASES"):
        cases = [case for case in item.module.CASES if "export" not in case.exempt]
        checks = [(subject, parameters["format_name"]) for case in cases for subject in subjects(case)]
        item.user_properties.append(("checks", json.dumps(checks)))
        exempt = [(s, c, why) for case in item.module.CASES for c, why in case.exempt.items() for s in subjects(case)]
        item.user_properties.append(("exempt", json.dumps(exempt)))


def subjects(case):
    """The row names for a case: the layer's class, with its mechanism, and the position of an attention layer."""
    layer = case.make()
    if not isinstance(layer, layers.MultiHeadAttention):
        return [type(layer).__name__]
    name = type(layer).__name__ + ("" if layer.mechanism == "auto" else f", {layer.mechanism}")
    return [name, *([] if layer.position is None else [type(layer.position).__name__])]


def catalogue():
    """The rows of the first table: name -> cells."""
    rows = {}
    for name in layers.__all__:
        cls = getattr(layers, name)
        if isinstance(cls, type):
            doc = inspect.getdoc(cls)
            summary = " ".join(doc.split("\n\n")[0].split())
            papers = re.search(r"References?:\n((?:    .*\n?)+)", doc)
            papers = " ".join(papers.group(1).split()) if papers else "–"
            file = pathlib.Path(inspect.getfile(cls))
            link = f"[{file.name}](../{file.relative_to(pathlib.Path(__file__).parents[1]).as_posix()})"
            rows[name] = [f"`{name}`", summary.replace("|", "\\|"), papers, link]
    return rows


class _Writer:
    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.checks = collections.defaultdict(collections.Counter)
        self.peers = collections.Counter()
        self.exempt = {}
        self.failed = set()

    def pytest_runtest_logreport(self, report):
        if report.when != "call" or report.skipped:
            return
        for kind, value in report.user_properties:
            if kind == "exempt":
                self.exempt |= {(subject, check): why for subject, check, why in json.loads(value)}
                continue
            for entry in map(tuple, json.loads(value)):
                counts = self.peers if kind == "peers" else self.checks[entry[0]]
                counts[entry if kind == "peers" else entry[1]] += 1
                if report.failed:
                    self.failed.add(entry)

    def pytest_sessionfinish(self):
        text = HEAD + _table(["layer", "what it computes", "paper", "file"], catalogue().values()) + BETWEEN
        text += _table(["layer", *(check.replace("_", " ") for check in CHECKS)], map(self._row, sorted(self.checks)))
        reasons = collections.defaultdict(set)
        for (subject, check), why in self.exempt.items():
            reasons[check.replace("_", " "), why].add(f"`{subject}`")
        text += "\nExempt, in some or all cases:\n\n"
        for (check, why), names in sorted(reasons.items()):
            text += f"* {check}: {why} ({', '.join(sorted(names))})\n"
        rows = [
            [f"`{ours}`", f"`{theirs}`", "FAILED" if (ours, theirs) in self.failed else str(count)]
            for (ours, theirs), count in sorted(self.peers.items())
        ]
        partial = self.path.with_suffix(".partial")
        partial.write_text(text + PEERS + _table(["layer", "peer", "tests"], rows), encoding="utf-8")
        os.replace(partial, self.path)

    def _row(self, subject):
        def cell(check):
            if (subject, check) in self.failed:
                return "FAILED"
            exempt = (subject, "export" if check in FORMATS else check) in self.exempt
            return str(self.checks[subject][check] or ("exempt" if exempt else "–"))

        return [f"`{subject}`", *map(cell, CHECKS)]


def _table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
