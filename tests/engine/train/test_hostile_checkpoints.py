"""Checkpoints from someone else: one line says what is wrong, nothing large is allocated for it, and nothing runs."""

import os
import pickle
import subprocess
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pytest import MonkeyPatch, TempPathFactory
from torch import Tensor

from fundamentallm.config.config import Config
from fundamentallm.config.estimate import parameter_shapes
from fundamentallm.errors import UserError
from fundamentallm.train.checkpoint import FORMAT, Checkpoint, load
from fundamentallm.train.optimizer import state_shapes
from tests.engine.train.conftest import Forge, refusal

LOAD = """
import resource, sys
from pathlib import Path
from fundamentallm.train.checkpoint import load
from fundamentallm.errors import UserError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name in sys.argv[1:]:
    try:
        load(Path(name))
        print("read", name)
    except UserError as error:
        print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def rezip(source: Path, path: Path, change: Callable[[str, bytes], bytes] = lambda _, raw: raw, **how: Any) -> Path:
    """Write the records of one archive into another, with changes and their right CRCs."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w", **how) as new:
        for info in old.infolist():
            new.writestr(info.filename, change(info.filename, old.read(info)))
    return path


def test_bombs_are_refused_before_they_take_memory_or_time(state: Checkpoint, forge: Forge, tmp_path: Path) -> None:
    """Each is small on the disk; believed, it would take gigabytes. A process of its own reads them."""
    # a model of 1.3 TB whose tensors have the right shapes, and all share one number
    config = {**state.config, "model_dim": 16384, "num_heads": 2, "num_layers": 256, "ff_dim": None}
    shapes = parameter_shapes(Config(**{**config, "data": ()}), len(state.vocabulary))
    one = torch.tensor(0.0)
    nested: list[Any] = ["x"]
    for _ in range(60):
        nested = [nested, nested]

    def inflate(name: str, raw: bytes) -> bytes:
        return raw + bytes(2**27 * ("pkl" in name))

    bombs = {
        "compressed": rezip(forge(), tmp_path / "zip.pt", inflate, compression=8),
        "expanded": forge("expanded.pt", model=dict.fromkeys(state.model, torch.zeros(1).expand(10**12))),
        "shaped": forge(
            "shaped.pt",
            config=config,
            model={name: one.expand(shape) for name, shape in shapes.items()},
            optimizer={name: one.expand(shape) for name, shape in state_shapes(shapes, "muon").items()},
        ),
        "settings": forge("settings.pt", config={**state.config, **{f"epochs{n}": n for n in range(100_000)}}),
        "vocabulary": forge("v.pt", vocabulary="".join(map(chr, range(0x110000 - 0x801))) * 8),
    }
    for name in ("data", "device", "epochs", "early_stopping", "augment"):
        bombs[f"lists in {name}"] = forge(f"{name}.pt", config={**state.config, name: nested})
    command = [sys.executable, "-c", LOAD, *map(str, bombs.values())]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    *lines, megabytes = result.stdout.splitlines()
    assert len(lines) == len(bombs) and result.stderr == ""
    for (name, path), line in zip(bombs.items(), lines, strict=True):
        assert line.startswith(f"{path}: "), (name, line[:300])
    assert int(megabytes) < 400
    assert "compressed" in lines[0]


def test_a_tensor_may_not_claim_more_than_its_record_holds(state: Checkpoint, forge: Forge, tmp_path: Path) -> None:
    numel = next(iter(state.model.values())).numel()
    old = b"K" + bytes([numel]) if numel < 256 else b"M" + numel.to_bytes(2, "little")
    found: list[int] = []

    def inflate(name: str, raw: bytes) -> bytes:
        found.append(raw.count(old))
        return raw.replace(old, b"J" + (10**9).to_bytes(4, "little")) if name.endswith("data.pkl") else raw

    refusal(rezip(forge(), tmp_path / "claims.pt", inflate))
    assert found[0] >= 1  # data.pkl comes first


def renamed(info: zipfile.ZipInfo, n: int) -> zipfile.ZipInfo:
    other = zipfile.ZipInfo(f"a/{n:07}l")  # as long as the name in the local header
    for name in ("header_offset", "file_size", "compress_size", "CRC", "create_system"):
        setattr(other, name, getattr(info, name))
    return other


def test_an_archive_whose_records_share_a_name_or_a_place_is_refused(forge: Forge, tmp_path: Path) -> None:
    path = rezip(forge(), tmp_path / "twice.pt")
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(archive.namelist()[0], b"another")
    assert "overlap" in refusal(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", bytes(2**20))
        archive.filelist = [renamed(archive.filelist[0], n) for n in range(50)]  # names differ, bytes do not
    assert "overlap" in refusal(path)


class Bomb:
    def __reduce__(self) -> Any:
        return os.mkdir, (os.environ["BOMB"],)


def test_pickled_objects_are_refused_and_never_run(forge: Forge, tmp_path: Path, monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setenv("BOMB", str(tmp_path / "ran"))
    for value in (Bomb(), Path("x"), torch.nn.Linear(1, 1), replace, OrderedDict(a=print)):
        path = forge(torch=value)
        assert "holds code" in refusal(path), value
    path.write_bytes(pickle.dumps(Bomb()))
    refusal(path)
    torch.save(Bomb(), path, _use_new_zipfile_serialization=False)
    refusal(path)
    assert not (tmp_path / "ran").exists()


WRONG_TENSORS: dict[str, Callable[[Tensor], Any]] = {
    "double": lambda t: t.double(),
    "half": lambda t: t.half(),
    "complex": lambda t: torch.complex(t, t),
    "integer": lambda t: t.int(),
    "quantised": lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8),
    "sparse": lambda t: t.to_sparse(),
    "compressed sparse": lambda t: t.to_sparse_csr() if t.ndim == 2 else t.to_sparse(),
    "turned": lambda t: t.T.contiguous() if t.ndim == 2 and t.shape[0] != t.shape[1] else t[None],
    "flat": lambda t: t.flatten()[:, None],
    "wants a gradient": lambda t: t.clone().requires_grad_(),
    "parameter": torch.nn.Parameter,
    "number": lambda t: 3.0,
    "none": lambda t: None,
    "list": lambda t: t.tolist(),
}


@pytest.mark.parametrize("part", ["model", "optimizer"])
@pytest.mark.filterwarnings("ignore")
def test_tensors_of_another_kind_name_or_shape_are_refused(part: str, state: Checkpoint, forge: Forge) -> None:
    tensors = getattr(state, part)
    first, last = next(iter(tensors)), next(reversed(tensors))
    for change in WRONG_TENSORS.values():
        refusal(forge(**{part: {**tensors, first: change(tensors[first])}}))
        refusal(forge(**{part: {**tensors, last: change(tensors[last])}}))
    renamed = {name.replace("embedding", "em.bedding"): tensor for name, tensor in tensors.items()}
    for wrong in ({}, renamed, {**tensors, "more": torch.zeros(1)}, {**tensors, 7: torch.zeros(1)}):
        assert "do not fit" in refusal(forge(**{part: wrong}))


NAN, INF = float("nan"), float("inf")
NO_COUNT = (-1, 10**30, 1.5, "1", None, NAN)
NO_SUM = (-1.0, NAN, INF, 1e300, "1", None)
WRONG_COUNTERS: dict[Any, tuple[Any, ...]] = {
    **dict.fromkeys(("step", "tokens", "epoch_tokens", "epochs_without_gain"), NO_COUNT),
    **dict.fromkeys(("seconds", "epoch_loss"), NO_SUM),
    "best_step": (-1,), "best_epoch": (2**60,), "gained": (1,), "best_val_loss": ("low",), 7: (1,),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_COUNTERS)
def test_counters_that_no_run_has_are_refused(name: Any, state: Checkpoint, forge: Forge) -> None:
    for value in WRONG_COUNTERS[name]:
        refusal(forge(counters={**state.counters, name: value}))


def test_losses_that_are_not_finite_are_read_as_a_run_can_have_them(state: Checkpoint, forge: Forge) -> None:
    load(forge(counters={**state.counters, "train_loss": NAN, "val_loss": NAN, "best_val_loss": NAN}))


@pytest.mark.parametrize(
    "changes",
    [
        {"device": "cpu\x1b[2J" * 100}, {"torch": "2" * 201}, {"fingerprint": "f" * 10_000}, {"threads": 0},
        {"threads": -4}, {"threads": 10**30}, {"vocabulary": ""}, {"vocabulary": "aa"}, {"vocabulary": "\ud800"},
        *({"attention_scale": value} for value in (0.0, 101.0, float("nan"))),
        *({"momentum": value} for value in (-0.1, 1.0, float("nan"))), {"processes": 0},
        {"version": "\x1b[2J" * 10**5, "mood": 1}, {"version": [7], "mood\n\x1b[2J" * 10**5: 1},
    ],
)  # fmt: skip
def test_texts_and_numbers_that_no_run_writes_are_refused(changes: dict[str, Any], forge: Forge) -> None:
    assert "\x1b" not in refusal(forge(**changes))


def tiny(path: Path, config: dict[Any, Any]) -> Path:
    """A file with a state of two characters and the smallest model, whatever its configuration says."""
    shapes = parameter_shapes(Config(model_dim=4, num_layers=1, num_heads=2), 2)
    model = {name: torch.zeros(shape) for name, shape in shapes.items()}
    optimizer = {name: torch.zeros(shape) for name, shape in state_shapes(shapes, "muon", normuon=False).items()}
    state = Checkpoint(model, optimizer, {}, config, "ab", "", 1, "2", "cpu", False)
    torch.save({"format": FORMAT, **vars(state)}, path)
    return path


def load_or_refuse_in_a_line(path: Path) -> Checkpoint | None:
    try:
        return load(path)
    except UserError as error:
        assert str(error).startswith(f"{path}: ") and len(str(error).splitlines()) == 1
        return None


@given(
    name=st.sampled_from([*vars(Config()), "strange", 7, None, ("a",)]),
    value=st.sampled_from([*NO_COUNT, *NO_SUM, True, -INF, [1], {"a": 1}, "", -0.5, -7, 10**9]),
)
def test_nonsense_settings_are_read_or_refused(name: Any, value: Any, tmp_path_factory: TempPathFactory) -> None:
    config = {"model_dim": 4, "num_layers": 1, "num_heads": 2, name: value}
    load_or_refuse_in_a_line(tiny(tmp_path_factory.mktemp("x") / "x.pt", config))


@given(data=st.data())
def test_a_pickle_of_changed_bytes_is_read_or_refused(data: st.DataObject, tmp_path_factory: TempPathFactory) -> None:
    """The CRCs are right: someone else writes what they like."""
    folder = tmp_path_factory.mktemp("x")

    def spoil(name: str, raw: bytes) -> bytes:
        if not name.endswith("data.pkl"):
            return raw
        changed = bytearray(raw)
        for _ in range(data.draw(st.integers(1, 3))):
            changed[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
        return bytes(changed)

    source = tiny(folder / "source.pt", {"model_dim": 4, "num_layers": 1, "num_heads": 2})
    found = load_or_refuse_in_a_line(rezip(source, folder / "x.pt", spoil))
    if found is not None:
        assert found.settings().model_dim == 4 and isinstance(found.progress().step, int)
