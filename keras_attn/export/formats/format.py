"""What the formats have in common."""

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
    """Base of the formats: each writes artefacts for one runtime. Register a format of your own with `register_format`.

    A subclass has `name`, `file_name`, `write` and `client`; the rest has defaults.

    Attributes:
        name: what `export(format=...)` calls it.
        runtime: `"saved_model"`, `"tflite"` or `"onnx"` if the artefact is read by one of these, which `signatures`
            and tokenizers ask for; else a name of its own.
        file_name: name of the artefact, a file or a folder, which all tasks share.
        requires: `(module, extra)` pairs that writing and running need; `extra` as in `pip install keras_attn[extra]`.
        text_requires: the same for tasks with a tokenizer.
        precisions: the names in `export.precisions.PRECISIONS` that `write` knows.
        selective: those of them in which some weights may stay in float32.
        int8_levels: the largest integer of a quantised weight.

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
        """Name of the artefact of a task, relative to the export folder."""
        return suffixed(self.file_name, precision)

    def check_names(self, task: Task) -> None:
        """Raises a ValueError if a `Task` has names of inputs or outputs that the format cannot show."""

    def convert(self, tasks: list[Task], workplace: Path) -> Any:
        """What `write` makes each precision of.

        Args:
            tasks: list of `Task`.
            workplace: folder for temporary files.
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
        """Writes the artefacts into `folder`, under the names of `path`.

        Args:
            converted: what `convert` returned.
            folder: a `pathlib.Path`.
            precision: one of `precisions`.
            keep: Keras variables that stay in float32.
            calibration: dict from task name to cases, for precisions that need activations.

        Raises:
            ExportError: the format cannot express the model.
        """
        raise NotImplementedError

    def client(self) -> Path:
        """The script that runs artefacts: `python client.py ARTEFACT --task NAME --cases IN.npz --out OUT.npz`.

        As `export/README.md` says, it reads arrays named `inputs/<case>/<name>`, and writes `outputs/<case>/<name>`,
        `ms` and `peak_bytes`. It must not import keras_attn.

        Raises:
            FileNotFoundError: it is not there.
        """
        name = f"run_{self.runtime}.py"
        # In the clone beside the package, else where the wheel put it.
        clone = Path(__file__).resolve().parents[3] / "export" / name
        installed = Path(sysconfig.get_path("data")) / "share" / "keras_attn" / "export" / name
        for path in (clone, installed):
            if path.is_file():
                return path
        raise FileNotFoundError(f"the client {name} is neither at {clone} nor at {installed}")

    def slow_import(self, path: Path) -> str | None:
        """Name of a module that the client of the artefact at `path` imports, and that takes seconds, or `None`."""
        return None

    def attach(self, path: Path, files: dict[str, str], requests: dict[str, dict[str, Array]]) -> None:
        """Puts texts into the artefact at `path`, where its format keeps such things.

        Args:
            path: the artefact.
            files: file name -> text: vocabulary, and names of classes.
            requests: task name -> arrays of a first request.
        """

    def attached(self, path: Path) -> dict[str, str]:
        """The texts that `attach` put there: file name -> text."""
        return {}

    def operators(self, path: Path) -> collections.Counter[str]:
        """`collections.Counter` of the names of the artefact's operators."""
        return collections.Counter()

    def reads(self, path: Path) -> bool:
        """Whether a path, of no known export, looks like an artefact of the format."""
        return False

    def contents(self, path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """`(signatures, weights)` of the artefact, for `inspect`.

        Returns:
            Task name -> `{"inputs": [...], "outputs": [...]}`, with dicts of `name`, `shape` and `dtype`; and a list of
            dicts of `name`, `shape`, `dtype` and `bytes`.
        """
        return {}, []
