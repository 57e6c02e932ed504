"""Datasets of Hugging Face, by its library `datasets` where that is installed: `fundamentallm data get hf:NAME`."""

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from fundamentallm.errors import UserError, describe_error, system_errors

PREFIX = "hf:"
FOLDER = Path("data/raw")


def fetch(name: str) -> dict[Path, list[str]]:
    """Write each split of a dataset into a file of JSON lines below data/raw; what is there already stays as it is.

    Args:
        name: "hf:OWNER/NAME", or "hf:" and a folder of this machine; ":" and a configuration may follow.

    Returns:
        The files, and the columns of each.

    Raises:
        UserError: the library is not installed, there is no such dataset, or the disk refuses; nothing was written.
    """
    dataset, _, configuration = name.removeprefix(PREFIX).partition(":")
    parts = [part for part in (*Path(dataset).parts, configuration) if part not in ("", ".", "..", "/", "~")]
    if not parts:
        raise UserError(f"{name}: names no dataset; write hf:OWNER/NAME, such as hf:roneneldan/TinyStories")
    try:
        import datasets
    except ImportError:
        raise UserError(f"{name}: datasets are read by another program; install it: pip install datasets") from None
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    try:
        splits = datasets.load_dataset(dataset, configuration or None)
    except Exception as error:  # it raises dozens of kinds
        raise UserError(f"{name}: cannot be fetched: {describe_error(error)}") from None
    folder = FOLDER.joinpath(*parts)
    with system_errors(f"{folder}: cannot be written to"):
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".download-", dir=folder) as temporary:
            names = {f"{split}.jsonl": rows for split, rows in splits.items()}
            missing = [file for file in names if not (folder / file).exists()]
            for file in missing:
                names[file].to_json(Path(temporary, file), force_ascii=False)
            for file in missing:
                os.replace(Path(temporary, file), folder / file)
    return {folder / file: list(rows.column_names) for file, rows in names.items()}
