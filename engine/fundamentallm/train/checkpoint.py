"""Checkpoints: complete, atomic, checked.

- One file holds all that a run needs to resume to the same bits: weights, optimizer state, counters, configuration,
  vocabulary. It holds no state of a generator: random numbers depend on (seed, step) or (seed, epoch) alone.
- A file is written beside its place, flushed to the disk, read back, and only then renamed: at any moment the old one
  or the new one is there, valid. Equal states under several names are hard links of one file.
- A file may be someone else's. Reading it checks every record's CRC, never runs code, and takes no more memory than the
  file's own size.
- The format may gain parts and never lose any: a file that lacks a part which later versions added gets its default,
  and one that has parts of a later version is refused with that version's number.
"""

import os
import pickle
import re
import shutil
import warnings
import zipfile
from collections.abc import Collection
from contextlib import suppress
from dataclasses import MISSING, dataclass, field, fields
from math import inf
from pathlib import Path
from string import digits
from typing import Any, get_origin, get_type_hints

import torch
from torch import Tensor

from fundamentallm import __version__
from fundamentallm.config.config import BYTES, CHAR, SETTINGS, Config, ConfigError, Layer, resolve
from fundamentallm.config.estimate import parameter_shapes
from fundamentallm.config.format import format_count, format_names
from fundamentallm.data.tokenizer import MAX_FILE_BYTES, Tokenizer, restore
from fundamentallm.errors import UserError, describe_error
from fundamentallm.model.transformer import Transformer
from fundamentallm.run.folder import LAST, sync_folder, synced_file, temporary_path
from fundamentallm.run.history import read_history
from fundamentallm.run.notes import renamed_hint
from fundamentallm.train.device import BFLOAT16_ON_CPU, same_hardware
from fundamentallm.train.optimizer import state_shapes
from fundamentallm.untrusted import MAX_INTEGER, from_values

FORMAT = "fundamentallm checkpoint 1"
MAX_SCALE = 100.0  # of attention
MAX_MACHINE_CHARS = 200  # of what a file says of the machine it was made on; it is shown to the user


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
    evaluated: int = 0  # the step of the last evaluation
    gained: bool = False  # a new best since the epoch began
    epochs_without_gain: int = 0
    said: int = 0  # events in the journal when the state was saved: shows which of two checkpoints is newer


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds. `fingerprint` is the SHA-256 of the corpus; `device` names the hardware, not the setting.

    `threads` to `precision` are set again at a resume, as far as the machine can, so that it reaches the same bits.
    They have defaults, as does what comes after them, for files without them.
    """

    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    counters: dict[str, Any]
    config: dict[str, Any]
    vocabulary: str
    fingerprint: str
    threads: int = field(default_factory=torch.get_num_threads)
    torch: str = "unknown"
    device: str = "unknown"
    compiled: bool = False
    processes: int = 1
    precision: str = ""  # the number format of the forward pass, such as "bfloat16"; older files do not name it
    tokenizer_json: str = ""  # of a tokenizer that is neither characters nor bytes
    attention_scale: float = 1.0  # see `Transformer`; older files do not name it
    normuon: bool = False  # see `Optimizer`; older files do not name it
    momentum: float = 0.95  # of Muon; older files do not name it
    halves: bool = False  # see `TrainState`; older files do not name it

    def settings(self) -> Config:
        clip = self.config.get("gradient_clip")
        unclipped = {"gradient_clip": 0.0} if isinstance(clip, float) and clip == inf else {}  # 0.1.0 took that
        return resolve(Layer({**self.config, **unclipped}))

    @property
    def mixed_precision(self) -> bool:
        """Whether this was computed in 16 bits, or was to be, if the user said that."""
        asked: bool | None = self.settings().mixed_precision
        return self.precision not in ("", "float32") if asked is None else asked

    def tokenizer(self) -> Tokenizer:
        return restore(self.config.get("tokenizer", CHAR), self.vocabulary, self.tokenizer_json)

    def progress(self) -> Counters:
        return Counters(**self.counters)

    def differences(self, now: "Checkpoint") -> list[str]:
        """Say what the process that saved this had otherwise than `now`, as far as the bits of a step depend on it."""
        other = [
            f"{name} {then} then, {getattr(now, name)} now"
            for name in ("torch", "device", "threads", "processes", "precision", "compiled")
            if (then := getattr(self, name)) not in ("", getattr(now, name))
            and not (name == "device" and same_hardware(then, now.device))
        ]
        if not self.precision and self.mixed_precision and now.precision == BFLOAT16_ON_CPU:
            other.append("attention bfloat16 then, float32 now")
        return other


PARTS: dict[str, type] = {name: get_origin(hint) or hint for name, hint in get_type_hints(Checkpoint).items()}
REQUIRED = {part.name for part in fields(Checkpoint) if part.default is MISSING and part.default_factory is MISSING}
COUNTERS = {counter.name for counter in fields(Counters)}


def save(checkpoint: Checkpoint, folder: Path, names: list[str]) -> tuple[int, dict[str, str]]:
    """Write one state under each of `names`.

    Returns the file's size in bytes, and the names that it could not get, with the reason: something is in the way
    there. After an OSError every name has its old file, or the new one.
    """
    refused: dict[str, str] = {}
    temporary = {name: temporary_path(folder / name) for name in names}
    first, *others = temporary.values()
    try:
        with synced_file(first) as file:
            try:
                torch.save({"format": FORMAT, "version": __version__, **vars(checkpoint)}, file)
            except RuntimeError as error:  # torch hides the OSError of a write that the disk refused in one
                raise error.__context__ if isinstance(error.__context__, OSError) else OSError(str(error)) from None
        if damaged := _damage(first):
            raise OSError(f"what was written cannot be read back: {damaged}")
        size = first.stat().st_size
        for path in others:
            _link(first, path)
        for name, path in temporary.items():
            try:
                os.replace(path, folder / name)
            except OSError as error:
                refused[name] = describe_error(error)
        sync_folder(folder)
        return size, refused
    finally:
        for path in temporary.values():
            with suppress(OSError):  # the next start removes what is left
                path.unlink(missing_ok=True)


def load(path: Path) -> Checkpoint:
    """Read the state in a file, onto the CPU; a UserError says what is wrong with the file."""
    if not path.is_file():
        last = path.with_name(LAST)
        hint = f"; {last} is there" if path != last and last.is_file() else renamed_hint(path.parent)
        raise UserError(f"{path}: no such checkpoint{hint}")
    if damaged := _damage(path):
        raise UserError(f"{path}: {damaged}")
    try:
        content = _read(path)
    except pickle.UnpicklingError:
        why = "holds code (pickled objects) and was not opened; only plain tensors are read"
        raise UserError(f"{path}: {why}") from None
    except Exception as error:  # torch raises many kinds for a malformed archive; none is a bug of ours
        raise UserError(f"{path}: is not a checkpoint of this program ({type(error).__name__})") from None
    checkpoint = _checked(path, content, path.stat().st_size)
    if broken := next((name for name, tensor in checkpoint.model.items() if not tensor.isfinite().all()), None):
        raise UserError(f"{path}: its weights are not finite ({broken})")
    return checkpoint


def peek(path: Path) -> Counters | None:
    """Read the counters of a file but not its tensors; None where it has no valid ones."""
    try:
        return from_values(Counters, _read(path, mmap=True)["counters"])
    except Exception:  # torch raises many kinds for a damaged file: `load` says what is wrong with it
        return None


def _read(path: Path, mmap: bool = False) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of odd files; `load` says what is wrong with this one
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)


def latest_valid_checkpoint(folder: Path) -> tuple[Path | None, Checkpoint | None, list[str]]:
    """Find and load the checkpoint of a folder that was written last and is valid, and say which were passed over.

    The number of events in the journal when it was saved shows which is newer: a copy of a folder may have lost the
    files' times. States that the user left behind, by resuming from an earlier one, come last.
    """
    history = read_history(folder, steps=False)

    def rank(path: Path) -> tuple[bool, float, int]:
        """The newest has the highest. A damaged file may be the newest of all, and must be named: it comes first."""
        counters, modified = peek(path), path.stat().st_mtime_ns
        if counters is None:
            return True, inf, modified
        return not history.left_behind(counters.step, counters.said), counters.said, modified

    damaged = []
    paths = [path for path in folder.glob("*.pt") if path.is_file()]
    for path in sorted(paths, key=lambda path: (rank(path), path.name), reverse=True):
        try:
            checkpoint = load(path)
        except UserError as error:
            damaged.append(str(error))
            continue
        return path, checkpoint, [f"{error}; {path.name} is used" for error in damaged]
    if damaged:
        return None, None, [*damaged, "no checkpoint is valid: the run begins anew"]
    lost = f"no checkpoint is left in {folder}: the run begins anew; {format_count(history.step, 'step')} are lost"
    return None, None, [lost] if history.step else []


def refuse_newer(folder: Path) -> None:
    """Refuse a folder with a checkpoint of a later version: a run that resumes there would write over it.

    A damaged one may seem to be that, by a letter that changed in a name.
    """
    for path in sorted(folder.glob("*.pt")):
        why = ""
        with suppress(Exception):  # torch raises many kinds for a damaged file, which is none of a later version
            content = _read(path, mmap=True)
            kind, version = content.pop("format"), content.pop("version", None)
            why = _why_newer(content, kind, version) if kind.rstrip(digits) == FORMAT.rstrip(digits) else ""
        if why and not _damage(path):
            raise UserError(f"{path}: {why}")


def take_weights(model: Transformer, tokenizer: Tokenizer, source: Checkpoint, path: Path) -> str:
    """Give a new model a checkpoint's weights, the embedding's by character; returns a sentence about it.

    Characters that the checkpoint lacks keep their first weights.
    """
    weights = dict(source.model)
    known = tokenizer.encode(source.vocabulary) if source.vocabulary else range(len(tokenizer))
    rows = torch.tensor(known, device=model.embedding.weight.device)
    with torch.no_grad():
        model.embedding.weight[rows] = weights.pop("embedding.weight").to(rows.device)
    model.load_state_dict(weights, strict=False)
    new = [repr(character) for character in tokenizer.vocabulary if character not in source.vocabulary]
    text = f"the model begins with the weights of {path}, which has done {format_count(source.progress().step, 'step')}"
    return f"{text}; new characters, {len(new)}: {format_names(new, 12)}" if new else text


def _checked(path: Path, content: Any, size: int) -> Checkpoint:
    """Make a checkpoint of a file's content, whose parts must have the types and shapes that its configuration says.

    The file may be someone else's: nothing that it asks for may be larger than itself, `size` bytes.
    """
    kind = content.pop("format", None) if isinstance(content, dict) else None
    if not isinstance(kind, str) or kind.rstrip(digits) != FORMAT.rstrip(digits):
        raise UserError(f"{path}: is not a checkpoint of this program")
    if why := _why_newer(content, kind, content.pop("version", None)):
        raise UserError(f"{path}: {why}")
    if not content.keys() >= REQUIRED or any(not isinstance(part, PARTS[name]) for name, part in content.items()):
        raise UserError(f"{path}: lacks parts of a checkpoint, or has other things in their place")
    checkpoint = Checkpoint(**content)
    try:
        config = checkpoint.settings()
    except ConfigError as error:
        raise UserError(f"{path}: its configuration is not valid: {error.problems[0]}") from None
    machine = (checkpoint.fingerprint, checkpoint.torch, checkpoint.device, checkpoint.precision)
    if not 1 <= checkpoint.threads <= MAX_INTEGER:
        wrong = "its number of threads is not possible"
    elif not 1 <= checkpoint.processes <= MAX_INTEGER:
        wrong = "its number of processes is not possible"
    elif not 0 < checkpoint.attention_scale <= MAX_SCALE:
        wrong = "its scale of attention is not possible"
    elif not 0 <= checkpoint.momentum < 1:
        wrong = "its momentum is not possible"
    elif max(map(len, machine)) > MAX_MACHINE_CHARS:
        wrong = "its fingerprint, or what it says of torch, device or precision, is too long"
    elif wrong := _wrong_tokenizer(checkpoint, config.tokenizer):
        pass
    elif not _are_counters(checkpoint.counters):
        wrong = "its counters are not those of a run"
    elif not _fit(checkpoint, config, size):
        wrong = "its weights do not fit its configuration"
    else:
        return checkpoint
    raise UserError(f"{path}: {wrong}; it was changed by hand")


def _why_newer(content: dict[Any, Any], kind: str, version: Any) -> str:
    """Say what a file has that only a later version can have written: another kind, or unknown parts; or nothing."""
    is_version = isinstance(version, str) and re.fullmatch(r"[0-9A-Za-z.+-]{1,40}", version)
    writer = f"fundamentallm {version}" if is_version else "a newer fundamentallm"
    tables: list[tuple[str, Any, Collection[str]]] = [
        ("parts", content, PARTS),
        ("settings", content.get("config"), SETTINGS),
        ("counters", content.get("counters"), COUNTERS),
    ]
    if kind != FORMAT:
        return f"is a {kind[:40]}; {writer} wrote it, upgrade fundamentallm"
    for name, found, known in tables:
        unknown = [ascii(each)[:40] for each in found if each not in known] if isinstance(found, dict) else []
        if unknown:
            has = f"has {name} that this version ({__version__}) does not know: {', '.join(unknown[:3])}"
            return f"{has}; {writer} wrote it, upgrade fundamentallm"
    return ""


def _wrong_tokenizer(checkpoint: Checkpoint, kind: str) -> str:
    """Say what is wrong with the tokenizer of a checkpoint; empty if nothing is."""
    vocabulary, file = checkpoint.vocabulary, checkpoint.tokenizer_json
    if kind == CHAR:
        return "" if _is_vocabulary(vocabulary) else "its vocabulary is not a sorted list of different characters"
    if vocabulary or (kind == BYTES and file) or len(file) > MAX_FILE_BYTES:
        return "its tokenizer is not that of its configuration"
    try:
        checkpoint.tokenizer()
    except UserError as error:
        return f"its tokenizer cannot be used: {error}"
    return ""


def _is_vocabulary(text: str) -> bool:
    """Check that the characters are sorted, all different, and can be written as UTF-8: surrogates cannot."""
    if not 0 < len(text) <= 0x110000 or list(text) != sorted(set(text)):
        return False
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _are_counters(values: dict[str, Any]) -> bool:
    counters = from_values(Counters, values)
    if counters is None:
        return False
    numbers = [value for value in vars(counters).values() if isinstance(value, int)]
    sums = (counters.seconds, counters.epoch_loss)
    return all(number >= 0 for number in numbers) and all(0 <= number < MAX_INTEGER for number in sums)


def _fit(checkpoint: Checkpoint, config: Config, size: int) -> bool:
    """Check that the tensors are those of such a model and its optimizer, and that their bytes are in the file."""
    tensors = [*checkpoint.model.values(), *checkpoint.optimizer.values()]
    if not all(type(tensor) is Tensor and tensor.layout == torch.strided for tensor in tensors):
        return False
    if any(tensor.dtype != torch.float32 or tensor.requires_grad for tensor in tensors):
        return False
    if sum(4 * tensor.numel() for tensor in tensors) > size:  # expanded views of less
        return False
    shapes = parameter_shapes(config, len(checkpoint.tokenizer()))
    state = state_shapes(shapes, config.optimizer, checkpoint.normuon)
    return _shapes(checkpoint.model) == shapes and _shapes(checkpoint.optimizer) == state


def _shapes(tensors: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _damage(path: Path) -> str:
    """Say what is wrong with the file itself; empty when every record has the CRC that it was written with."""
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
            if any(record.compress_type or record.file_size != record.compress_size for record in records):
                return "is not a checkpoint of this program: its records are compressed"
            names = {record.filename for record in records}
            if len(names) < len(records) or sum(record.file_size for record in records) > path.stat().st_size:
                return "is damaged: its records overlap"
            bad = archive.testzip()
            return f"is damaged: the record {ascii(bad)[:100]} is not as it was written" if bad else ""
    except zipfile.BadZipFile:
        return "is damaged, cut off, or not a checkpoint at all"
    except OSError as error:
        return f"cannot be read: {describe_error(error)}"
    except Exception as error:  # zlib's, struct's, zipfile's: a flipped bit in the archive's tables raises many kinds
        return f"is damaged: {ascii(str(error))[:100]}"


def _link(source: Path, target: Path) -> None:
    """Give a file a second name; copy it where the file system has no hard links."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        with source.open("rb") as old, synced_file(target) as new:
            shutil.copyfileobj(old, new)
