"""Datasets of Hugging Face, by its library `datasets` where that is installed: `fundamentallm data get hf:NAME`."""

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from fundamentallm.errors import UserError, describe_error

PREFIX = "hf:"
FOLDER = Path("data/raw")


def fetch(name: str) -> dict[Path, list[str]]:
    """Write each split of a dataset into a file of JSON lines below data/raw, all or none.

    Args:
        name: "hf:OWNER/NAME", or "hf:" and a folder of this machine; ":" and a configuration may follow.

    Returns:
        The files, and the columns of each.

    Raises:
        UserError: the library is not installed, there is no such dataset, its files are there already, or the disk
            refuses.
    """
    dataset, _, configuration = name.removeprefix(PREFIX).partition(":")
    parts = [part for part in (*Path(dataset).parts, *Path(configuration).parts) if part not in ("..", "/")]
    if not parts:
        raise UserError(f"{name}: names no dataset; write hf:OWNER/NAME, such as hf:roneneldan/TinyStories")
    folder = FOLDER.joinpath(*parts)
    if there := sorted(map(str, folder.glob("*.jsonl"))):
        raise UserError(f"{name}: is there already: {', '.join(there)}; to fetch it again, move that away")
    try:
        import datasets
    except ImportError:
        raise UserError(f"{name}: datasets are read by another program; install it: pip install datasets") from None
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    try:
        splits = datasets.load_dataset(dataset, configuration or None)
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".download-", dir=folder) as temporary:
            for split, rows in splits.items():
                rows.to_json(Path(temporary, f"{split}.jsonl"), force_ascii=False)
            for split in splits:
                os.replace(Path(temporary, f"{split}.jsonl"), folder / f"{split}.jsonl")
    except Exception as error:  # the library raises dozens of kinds
        raise UserError(f"{name}: cannot be fetched: {describe_error(error)}") from None
    return {folder / f"{split}.jsonl": list(rows.column_names) for split, rows in splits.items()}
