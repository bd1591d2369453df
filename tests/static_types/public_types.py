"""Fails where a public name of this package has a type that pyright cannot tell; run by `make check`.

`pyright --verifytypes` takes every module without an underscore for public. What users meet are the names in the
`__all__` of the packages below, so these alone count here.
"""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

# What this package itself leaves out. Keras and TensorFlow tell no types of their own, so what derives from their
# classes is never known altogether.
OWN = re.compile(r"annotation (for parameter \S+ )?is missing|\[.*Unknown|Type argument")

ROOT = Path(__file__).parents[2]
PACKAGES = [
    *("keras_attn", "keras_attn.ops", "keras_attn.layers", "keras_attn.models", "keras_attn.text", "keras_attn.export"),
    *("keras_attn.generation", "keras_attn.generation.processors"),
    *("keras_attn.training", "keras_attn.training.data", "keras_attn.training.text_metrics"),
]
# Packages of functions, whose `__init__` has no `__all__` of theirs.
MODULES = ["keras_attn.ops.cache", "keras_attn.plot"]


def public_names():
    """Where each public name is defined, as `keras_attn.ops.rotary.rotary`, and the modules of functions."""
    names = {f"{module}." for module in MODULES}
    for package in PACKAGES:
        tree = ast.parse((ROOT / package.replace(".", "/") / "__init__.py").read_text(encoding="utf-8"))
        homes = {
            alias.name: node.module
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module.startswith("keras_attn")
            for alias in node.names
        }
        (listed,) = (x.value for x in tree.body if isinstance(x, ast.Assign) and ast.unparse(x.targets[0]) == "__all__")
        names |= {f"{homes[name]}.{name}" for name in ast.literal_eval(listed)}
    return names - set(PACKAGES + MODULES)


def main():
    command = [sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable]
    # pyright follows no import hook, as by which an editable installation is found.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    usage = subprocess.run([*command, str(Path(__file__).parent / "usage.py")], cwd=ROOT, env=environment)
    verify = [*command, "--verifytypes", "keras_attn", "--ignoreexternal", "--outputjson"]
    verified = subprocess.run(verify, cwd=ROOT, env=environment, capture_output=True, text=True)
    report = json.loads(verified.stdout)["typeCompleteness"]
    public = public_names()
    symbols = [
        symbol
        for symbol in report["symbols"]
        if any(symbol["name"] == name or symbol["name"].startswith(name.rstrip(".") + ".") for name in public)
    ]
    unknown = 0
    for symbol in symbols:
        messages = [x["message"] for x in symbol["diagnostics"] if OWN.search(x["message"])]
        unknown += bool(messages)
        for message in messages:
            print(f"{symbol['name']}: {message}")
    print(f"{len(symbols) - unknown} of {len(symbols)} public functions, methods and attributes have known types")
    return 1 if usage.returncode or unknown or len(symbols) < len(public) else 0


if __name__ == "__main__":
    sys.exit(main())
