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
    reason = "huggingface_hub, which downloads a repository, is not installed"
    if isinstance(folder, str) and _REPOSITORY.fullmatch(folder):
        try:
            from huggingface_hub import snapshot_download

            return Path(snapshot_download(folder, allow_patterns=_FILES))
        except ImportError:
            pass
        except (OSError, ValueError, RuntimeError) as error:
            answer = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else error}"
            reason = f"the Hub did not give it ({answer}); without a network, download its files and pass their folder"
    else:
        reason = "it is no id such as owner/name"
    raise ValueError(
        "`folder` must be a folder with config.json and model.safetensors, or the id of a repository on the Hugging "
        f"Face Hub. No such folder exists, and {reason}. Received: {os.fspath(folder)!r}"
    )
