"""Finds a checkpoint: a folder, or a repository of the Hugging Face Hub."""

from __future__ import annotations

import os
import re
from pathlib import Path

# What a repository is read for; no code and no pickles are downloaded.
_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.spm", "*/config.json", "*/*.safetensors", "*.jinja"]
_REPOSITORY = re.compile(r"[\w.-]+(/[\w.-]+)?")


def checkpoint_path(folder: str | os.PathLike[str]) -> Path:
    """The folder itself, or where the repository of this name was downloaded to."""
    if not isinstance(folder, str | os.PathLike):
        raise ValueError(f"`folder` must be a folder or the id of a repository. Received: {folder!r}")
    path = Path(folder)
    if path.is_dir():
        return path
    reason = "install huggingface_hub to download one"
    if isinstance(folder, str) and _REPOSITORY.fullmatch(folder):
        try:
            from huggingface_hub import snapshot_download

            return Path(snapshot_download(folder, allow_patterns=_FILES))
        except ImportError:
            pass
        except (OSError, ValueError, RuntimeError) as error:
            reason = f"the Hub answered: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else error}"
    else:
        reason = "this is no such id"
    raise ValueError(
        f"`folder` must be a folder with config.json and model.safetensors, or the id of a repository on the Hugging "
        f"Face Hub ({reason}). Received: {os.fspath(folder)!r}"
    )
