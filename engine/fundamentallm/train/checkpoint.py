"""Checkpoints: complete, atomic, checked.

- One file holds everything: weights, optimizer, counters, config, vocabulary. Tensors and plain types only.
- A file is written beside its place, flushed to the disk, read back, and only then renamed: at any moment the old one
  or the new one is there, whole. Equal states under several names are hard links of one file.
- Reading checks every record's CRC and never runs code.
"""

import os
import pickle
import shutil
import warnings
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fundamentallm.config.config import SETTINGS, Config, ConfigError, Layer, resolve
from fundamentallm.config.estimate import parameter_shapes
from fundamentallm.data.tokenizer import Tokenizer
from fundamentallm.errors import UserError
from fundamentallm.run.folder import sync_folder
from fundamentallm.train.optimizer import state_shapes
from fundamentallm.untrusted import MAX_INTEGER, from_values

FORMAT = "fundamentallm checkpoint 1"
LONGEST = 200  # characters of what is told of the machine; it is shown to people


@dataclass
class Counters:
    """How far a run is. Losses are None until they were measured; sums are over the epoch under way."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    epoch_loss: float = 0.0
    epoch_tokens: int = 0
    train_loss: float | None = None
    val_loss: float | None = None
    best_val_loss: float | None = None
    best_step: int | None = None
    best_epoch: int | None = None
    gained: bool = False  # a new best since the epoch began
    epochs_without_gain: int = 0
    said: int = 0  # events of the journal when the state was saved: tells which of two files is newer


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds. `fingerprint` is the SHA-256 of the corpus; `device` names the hardware, not the setting."""

    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    counters: dict[str, Any]
    config: dict[str, Any]
    vocabulary: str
    fingerprint: str
    threads: int
    torch: str
    device: str
    compiled: bool

    def settings(self) -> Config:
        return resolve(Layer(self.config))

    def tokenizer(self) -> Tokenizer:
        return Tokenizer(self.vocabulary)

    def progress(self) -> Counters:
        return Counters(**self.counters)


def save(checkpoint: Checkpoint, folder: Path, names: list[str]) -> tuple[int, dict[str, str]]:
    """Write one state under each of `names`.

    Returns:
        Its size in bytes, and the names that could not be given to it, with why: something is in the way there.

    Raises:
        OSError: it could not be written, or what was read back is damaged. Files of these names are as they were, or
            already new and whole.
    """
    refused: dict[str, str] = {}
    temporary = folder / f".{names[0]}.{os.getpid()}.tmp"
    links = [folder / f".{name}.{os.getpid()}.link.tmp" for name in names[1:]]
    try:
        with temporary.open("wb") as file:
            try:
                torch.save({"format": FORMAT, **vars(checkpoint)}, file)
            except RuntimeError as error:  # what torch makes of a write that the disk refused
                raise error.__context__ if isinstance(error.__context__, OSError) else OSError(str(error)) from None
            file.flush()
            os.fsync(file.fileno())
        damaged = _damage(temporary)
        if damaged:
            raise OSError(f"what was written cannot be read back: {damaged}")
        size = temporary.stat().st_size
        for link in links:
            _link(temporary, link)
        for path, name in zip([temporary, *links], names, strict=True):
            try:
                os.replace(path, folder / name)
            except OSError as error:
                refused[name] = error.strerror or str(error)
        sync_folder(folder)
        return size, refused
    finally:
        for path in (temporary, *links):
            with suppress(OSError):  # what is left is cleaned away by the next start; the save itself is done, or not
                path.unlink(missing_ok=True)


def load(path: Path) -> Checkpoint:
    """The state in a file, on the CPU.

    Raises:
        UserError: the file is missing, damaged, of another kind, or holds code; says which.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint")
    damaged = _damage(path)
    if damaged:
        raise UserError(f"{path}: {damaged}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a stranger's file: what is wrong with it is said below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(
            f"{path}: holds code (pickled objects) and was not opened; only plain tensors are read"
        ) from None
    except Exception as error:  # torch raises many kinds for a malformed archive; none is a bug of ours
        raise UserError(f"{path}: is not a checkpoint of this program ({type(error).__name__})") from None
    checkpoint = _checked(path, content, path.stat().st_size)
    if broken := next((name for name, tensor in checkpoint.model.items() if not tensor.isfinite().all()), None):
        raise UserError(f"{path}: its weights are not finite ({broken})")
    return checkpoint


def peek(path: Path) -> Counters | None:
    """The counters of a file, without reading its tensors; None where they cannot be told."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return from_values(Counters, content["counters"])
    except Exception:  # damaged, or somebody else's: `load` says what is wrong with it
        return None


def _checked(path: Path, content: Any, size: int) -> Checkpoint:
    """A checkpoint whose parts have the types and parameter_shapes that its configuration says.

    The file may be a stranger's: nothing that it asks for may be larger than itself, `size` bytes.
    """
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        raise UserError(f"{path}: is not a checkpoint of this program")
    kinds: dict[str, type] = {
        "model": dict,
        "optimizer": dict,
        "counters": dict,
        "config": dict,
        "vocabulary": str,
        "fingerprint": str,
    }
    kinds |= {"threads": int, "torch": str, "device": str, "compiled": bool}
    if content.keys() != kinds.keys() or any(not isinstance(content[name], kind) for name, kind in kinds.items()):
        raise UserError(f"{path}: lacks parts of a checkpoint; it was made by another version or changed by hand")
    checkpoint = Checkpoint(**content)
    try:
        if not checkpoint.config.keys() <= SETTINGS.keys():
            raise UserError(f"it has settings that this version does not know: {_names(checkpoint.config)}")
        config = checkpoint.settings()
    except UserError as error:
        first = error.problems[0] if isinstance(error, ConfigError) else error
        raise UserError(f"{path}: its configuration is not valid: {first}") from None
    words = (checkpoint.fingerprint, checkpoint.torch, checkpoint.device)
    if (
        not 1 <= checkpoint.threads <= MAX_INTEGER
        or max(map(len, words)) > LONGEST
        or not _is_vocabulary(checkpoint.vocabulary)
        or not _are_counters(checkpoint.counters)
        or not _fit(checkpoint, config, size)
    ):
        raise UserError(f"{path}: its weights do not fit its configuration; it was changed by hand")
    return checkpoint


def _names(config: dict[Any, Any]) -> str:
    return ", ".join(str(name)[:40] for name in config if isinstance(name, str) and name not in SETTINGS)[:100]


def _is_vocabulary(text: str) -> bool:
    """Sorted and different characters; halves of a surrogate pair are none."""
    characters = 0 < len(text) <= 0x110000 and list(text) == sorted(set(text))
    return characters and not any("\ud800" <= character <= "\udfff" for character in text)


def _are_counters(values: dict[str, Any]) -> bool:
    counters = from_values(Counters, values)
    if counters is None or not values.keys() <= vars(counters).keys():
        return False
    numbers = [value for value in vars(counters).values() if isinstance(value, int)]
    sums = (counters.seconds, counters.epoch_loss)
    return all(number >= 0 for number in numbers) and all(0 <= number < MAX_INTEGER for number in sums)


def _fit(checkpoint: Checkpoint, config: Config, size: int) -> bool:
    """Whether the tensors are those of such a model and its optimizer, and their bytes are in the file."""
    tensors = [*checkpoint.model.values(), *checkpoint.optimizer.values()]
    if not all(type(tensor) is Tensor and tensor.layout == torch.strided for tensor in tensors):
        return False
    if any(tensor.dtype != torch.float32 or tensor.requires_grad for tensor in tensors):
        return False
    if sum(4 * tensor.numel() for tensor in tensors) > size:
        return False
    model = parameter_shapes(config, len(checkpoint.vocabulary))
    found = (
        {name: tuple(tensor.shape) for name, tensor in part.items()}
        for part in (checkpoint.model, checkpoint.optimizer)
    )
    return [*found] == [model, state_shapes(model, config.optimizer)]


def _damage(path: Path) -> str:
    """What is wrong with the file itself; empty when every record has the CRC it was written with."""
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
            if any(info.compress_type or info.file_size != info.compress_size for info in records):
                return "is no checkpoint of this program: its records are compressed"
            if (
                len({info.filename for info in records}) < len(records)
                or sum(i.file_size for i in records) > path.stat().st_size
            ):
                return "is damaged: its records overlap"
            bad = archive.testzip()
            return f"is damaged: the record {ascii(bad)[:100]} is not as it was written" if bad else ""
    except zipfile.BadZipFile:
        return "is damaged, cut off, or not a checkpoint at all"
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    except Exception as error:  # zlib's, struct's, zipfile's: a flipped bit in the archive's tables raises many kinds
        return f"is damaged: {ascii(str(error))[:100]}"


def _link(source: Path, target: Path) -> None:
    """A second name for a file; a copy where the file system has no hard links."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
        with target.open("rb+") as file:
            os.fsync(file.fileno())
