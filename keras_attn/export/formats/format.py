"""Base class of the formats."""

from __future__ import annotations

import collections
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_attn.export.precisions import suffixed

if TYPE_CHECKING:
    import keras

    from keras_attn.export.tasks.task import Task
    from keras_attn.typing import Array


class Format:
    """Base class of export formats, each of which writes artefacts for one runtime.

    A subclass must define `name`, `file_name`, `write` and `client`; everything else has defaults. Register it with
    `register_format`.

    Attributes:
        name: Name for `export(format=...)`.
        runtime: `"saved_model"`, `"tflite"` or `"onnx"` if the artefact is read by one of these, which `signatures` and
            tokenizers depend on; else any other name.
        file_name: Name of the artefact, a file or folder that all tasks share.
        requires: `(module, extra)` pairs needed to write and run; `extra` as in `pip install keras_attn[extra]`.
        text_requires: The same for tasks with a tokenizer.
        precisions: The names in `export.precisions.TABLE` that `write` supports.
        selective: The precisions in which some weights may stay in float32.
        int8_levels: The largest integer of a quantised weight.

    Example:

    >>> from keras_attn.export import registry
    >>> writer = registry.load("formats", "tflite")()
    >>> writer.path("generate", "float16")
    'model.float16.tflite'
    """

    name: str
    runtime: str
    file_name: str
    requires: tuple[tuple[str, str], ...] = ()
    text_requires: tuple[tuple[str, str], ...] = ()
    precisions: tuple[str, ...] = ("float32",)
    selective: tuple[str, ...] = ()
    int8_levels: int = 127

    def path(self, task_name: str, precision: str = "float32") -> str:
        """Path of the artefact of a task, relative to the export folder."""
        return suffixed(self.file_name, precision)

    def check_names(self, task: Task) -> None:
        """Raises a ValueError if the format does not support a name of an input or output of a `Task`."""

    def convert(self, tasks: list[Task], workspace: Path) -> Any:
        """Converts tasks to the form from which `write` derives each precision.

        Args:
            tasks: List of `Task`.
            workspace: Folder for temporary files.
        """
        return tasks

    def write(
        self,
        converted: Any,
        folder: Path,
        precision: str = "float32",
        keep: Sequence[keras.Variable] = (),
        calibration: dict[str, list[dict[str, Array]]] | None = None,
    ) -> None:
        """Writes the artefacts to `folder`, under the names that `path` returns.

        Args:
            converted: The result of `convert`.
            folder: A `pathlib.Path`.
            precision: One of `precisions`.
            keep: Keras variables that stay in float32.
            calibration: Dict from task name to cases, for precisions that quantise activations.

        Raises:
            ExportError: If the format cannot represent the model.
        """
        raise NotImplementedError

    def client(self) -> Path:
        """The script that runs artefacts: `python client.py ARTEFACT --task NAME --cases IN.npz --out OUT.npz`.

        It reads arrays named `inputs/<case>/<name>`, and writes `outputs/<case>/<name>`, `ms` and `peak_bytes`, see
        `export/README.md`. It must not import keras_attn.

        Raises:
            FileNotFoundError: If it does not exist.
        """
        name = f"run_{self.runtime}.py"
        # In a clone it is next to the package, else in the data files of the wheel.
        clone = Path(__file__).resolve().parents[3] / "export" / name
        installed = Path(sysconfig.get_path("data")) / "share" / "keras_attn" / "export" / name
        for path in (clone, installed):
            if path.is_file():
                return path
        raise FileNotFoundError(f"the client {name} is neither in {clone} nor in {installed}")

    def slow_import(self, path: Path) -> str | None:
        """Name of a module that the client of the artefact imports and that is slow to import, or `None`."""
        return None

    def attach(self, path: Path, files: dict[str, str], requests: dict[str, dict[str, Array]]) -> None:
        """Attaches texts to the artefact at `path`.

        Args:
            path: The artefact.
            files: Dict from file name to text: the vocabulary and the class names.
            requests: Dict from task name to the arrays of a warm-up request.
        """

    def attached(self, path: Path) -> dict[str, str]:
        """The texts stored by `attach`, by file name."""
        return {}

    def operators(self, path: Path) -> collections.Counter[str]:
        """A `collections.Counter` of the operators in the artefact."""
        return collections.Counter()

    def reads(self, path: Path) -> bool:
        """Whether a path looks like an artefact of the format."""
        return False

    def contents(self, path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """`(signatures, weights)` of the artefact, for `inspect`.

        Returns:
            A dict from task name to `{"inputs": [...], "outputs": [...]}`, with dicts of `name`, `shape` and `dtype`;
            and a list of dicts of `name`, `shape`, `dtype` and `bytes`.
        """
        return {}, []
