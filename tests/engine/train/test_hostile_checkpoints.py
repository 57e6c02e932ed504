"""Checkpoints from strangers: one line says what is wrong, before anything is allocated for it, and nothing runs."""

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

from fundamentallm.config.config import Config
from fundamentallm.config.estimate import parameter_shapes
from fundamentallm.errors import UserError
from fundamentallm.model.transformer import Transformer
from fundamentallm.train import checkpoint as module
from fundamentallm.train.checkpoint import Checkpoint, load, save
from fundamentallm.train.optimizer import Optimizer, state_shapes
from fundamentallm.train.state import TrainState

HUGE = 10**12  # elements; four terabytes
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


@pytest.fixture
def state(build: Callable[..., TrainState]) -> Checkpoint:
    return build().checkpoint()


@pytest.fixture
def saved(state: Checkpoint, tmp_path: Path) -> Path:
    save(state, tmp_path, ["good.pt"])
    return tmp_path / "good.pt"


def refused(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        load(path)
    words = str(caught.value)
    assert words.startswith(f"{path}: ") and len(words.splitlines()) == 1 and len(words) < len(str(path)) + 300
    return words


def forge(state: Checkpoint, path: Path, **changes: Any) -> Path:
    torch.save({"format": module.FORMAT, **vars(state), **changes}, path)
    return path


def rezip(source: Path, path: Path, change: Callable[[str, bytes], bytes] = lambda _, raw: raw, **how: Any) -> Path:
    """The records of one archive in another."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w", **how) as new:
        for info in old.infolist():
            new.writestr(info.filename, change(info.filename, old.read(info)))
    return path


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize("changes", [{}, {"ff_dim": 24, "num_layers": 3}])
def test_the_shapes_that_a_checkpoint_must_have_are_those_of_model_and_optimizer(
    optimizer: str, changes: dict[str, Any], small: Callable[..., Config]
) -> None:
    config = small(optimizer=optimizer, **changes)
    model = Transformer(config, 11)
    told = parameter_shapes(config, 11)
    assert {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()} == told
    state = Optimizer(model, optimizer).state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == state_shapes(told, optimizer)


def test_bombs_are_refused_before_they_take_memory_or_time(state: Checkpoint, saved: Path, tmp_path: Path) -> None:
    """Each is small on the disk; believed, it would take gigabytes. A process of its own reads them."""
    bombs = {
        "compressed": rezip(
            saved, tmp_path / "zip.pt", lambda name, raw: raw + bytes(2**27 * ("pkl" in name)), compression=8
        )
    }
    wide = dict.fromkeys(state.model, torch.zeros(1).expand(HUGE))
    bombs["expanded"] = forge(state, tmp_path / "expanded.pt", model=wide)
    # a model of 1.3 TB whose tensors have the right parameter_shapes, and all share one number
    config = {**state.config, "model_dim": 16384, "num_heads": 2, "num_layers": 256, "ff_dim": None}
    known = parameter_shapes(Config(**{**config, "data": ()}), len(state.vocabulary))
    one = torch.tensor(0.0)
    bombs["shaped"] = forge(
        state, tmp_path / "shaped.pt", config=config, model={n: one.expand(s) for n, s in known.items()},
        optimizer={n: one.expand(s) for n, s in state_shapes(known, "muon").items()},
    )  # fmt: skip
    lists: list[Any] = ["x"]
    for _ in range(60):
        lists = [lists, lists]
    for n, name in enumerate(("data", "device", "epochs", "early_stopping", "augment")):
        bombs[f"lists in {name}"] = forge(state, tmp_path / f"l{n}.pt", config={**state.config, name: lists})
    bombs["settings"] = forge(
        state, tmp_path / "settings.pt", config={**state.config, **{f"epochs{n}": n for n in range(100_000)}}
    )
    bombs["vocabulary"] = forge(state, tmp_path / "v.pt", vocabulary="".join(map(chr, range(0x110000 - 0x801))) * 8)
    result = subprocess.run(
        [sys.executable, "-c", LOAD, *map(str, bombs.values())], capture_output=True, text=True, timeout=300, check=True
    )
    *lines, megabytes = result.stdout.splitlines()
    assert len(lines) == len(bombs) and result.stderr == ""
    for (name, path), line in zip(bombs.items(), lines, strict=True):
        assert line.startswith(f"{path}: "), (name, line[:300])
    assert int(megabytes) < 400
    assert "compressed" in lines[0]


def test_a_tensor_may_not_claim_more_than_its_record_holds(state: Checkpoint, saved: Path, tmp_path: Path) -> None:
    numel = next(iter(state.model.values())).numel()
    old = b"K" + bytes([numel]) if numel < 256 else b"M" + numel.to_bytes(2, "little")

    def inflate(name: str, raw: bytes) -> bytes:
        return raw.replace(old, b"J" + (10**9).to_bytes(4, "little")) if name.endswith("data.pkl") else raw

    with zipfile.ZipFile(saved) as archive:
        assert archive.read(archive.namelist()[0]).count(old) >= 1
    refused(rezip(saved, tmp_path / "claims.pt", inflate))


def test_an_archive_whose_records_share_a_name_or_a_place_is_refused(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "twice.pt"
    rezip(saved, path)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(archive.namelist()[0], b"another")
    assert "overlap" in refused(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", bytes(2**20))
        archive.filelist *= 50  # names differ, bytes do not
        archive.filelist = [_renamed(info, n) for n, info in enumerate(archive.filelist)]
    assert "overlap" in refused(path)


def _renamed(info: zipfile.ZipInfo, n: int) -> zipfile.ZipInfo:
    other = zipfile.ZipInfo(f"a/{n:07}l")  # as long as the name in the local header
    for name in ("header_offset", "file_size", "compress_size", "CRC", "create_system"):
        setattr(other, name, getattr(info, name))
    return other


WRONG_TENSORS: dict[str, Callable[[torch.Tensor], Any]] = {
    "double": lambda t: t.double(),
    "half": lambda t: t.half(),
    "complex": lambda t: torch.complex(t, t),
    "whole": lambda t: t.int(),
    "quantised": lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8),
    "sparse": lambda t: t.to_sparse(),
    "compressed sparse": lambda t: t.to_sparse_csr() if t.ndim == 2 else t.to_sparse(),
    "turned": lambda t: t.T.contiguous() if t.ndim == 2 and t.shape[0] != t.shape[1] else t[None],
    "flat": lambda t: t.flatten()[:, None],
    "wants a gradient": lambda t: t.clone().requires_grad_(),
    "parameter": torch.nn.Parameter,
    "number": lambda t: 3.0,
    "nothing": lambda t: None,
    "list": lambda t: t.tolist(),
}


@pytest.mark.parametrize("part", ["model", "optimizer"])
@pytest.mark.parametrize("kind", WRONG_TENSORS)
def test_tensors_of_another_kind_or_shape_are_refused(
    part: str, kind: str, state: Checkpoint, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    tensors = getattr(state, part)
    for name in (next(iter(tensors)), next(reversed(tensors))):
        path = forge(state, tmp_path / "x.pt", **{part: {**tensors, name: WRONG_TENSORS[kind](tensors[name])}})
        refused(path)
    for wrong in ({}, {**tensors, "more": torch.zeros(1)}, {**tensors, 7: torch.zeros(1)}):
        assert "do not fit" in refused(forge(state, tmp_path / "x.pt", **{part: wrong}))


NONSENSE = (-1, 10**30, 1.5, True, "1", None, float("nan"), float("inf"), -float("inf"), [1], {"a": 1}, "", -0.5)


def test_counters_that_no_run_has_are_refused(state: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    for name in ("step", "tokens", "epoch_tokens", "epochs_without_gain"):
        for value in (-1, 10**30, 1.5, "1", None, float("nan")):
            refused(forge(state, path, counters={**state.counters, name: value}))
    for name in ("seconds", "epoch_loss"):
        for value in (-1.0, float("nan"), float("inf"), 1e300, "1", None):
            refused(forge(state, path, counters={**state.counters, name: value}))
    for name, value in (("best_step", -1), ("best_epoch", 2**60), ("gained", 1), ("best_val_loss", "low")):
        refused(forge(state, path, counters={**state.counters, name: value}))
    refused(forge(state, path, counters={**state.counters, 7: 1}))
    nan = {"train_loss": float("nan"), "val_loss": float("nan"), "best_val_loss": float("nan")}
    load(forge(state, path, counters={**state.counters, **nan}))  # this a run can come to


def test_texts_that_no_run_writes_are_refused(state: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    for changes in (
        {"device": "cpu\x1b[2J" * 100}, {"torch": "2" * 10_000}, {"fingerprint": "f" * 10_000}, {"threads": 0},
        {"threads": -4}, {"threads": 10**30}, {"vocabulary": ""}, {"vocabulary": "aa"}, {"vocabulary": "\ud800"},
    ):  # fmt: skip
        refused(forge(state, path, **changes))


def tiny(config: dict[Any, Any]) -> Checkpoint:
    """A state of two characters and the smallest model, whatever its configuration says."""
    known = parameter_shapes(Config(model_dim=4, num_layers=1, num_heads=2), 2)
    model = {name: torch.zeros(shape) for name, shape in known.items()}
    optimizer = {name: torch.zeros(shape) for name, shape in state_shapes(known, "muon").items()}
    return Checkpoint(model, optimizer, {}, config, "ab", "", 1, "2", "cpu", False)


@given(
    name=st.sampled_from([*vars(Config()), "strange", 7, None, ("a",)]), value=st.sampled_from([*NONSENSE, -7, 10**9])
)
def test_a_configuration_of_nonsense_is_one_line_or_a_configuration(
    name: Any, value: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    config = {"model_dim": 4, "num_layers": 1, "num_heads": 2, name: value}
    state = tiny(config)
    path = forge(state, tmp_path_factory.mktemp("x") / "x.pt")
    try:
        load(path)
    except UserError as error:
        assert str(error).startswith(f"{path}: ") and len(str(error).splitlines()) == 1


@given(data=st.data())
def test_a_pickle_with_changed_bytes_never_gets_further_than_a_line(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The CRCs are right: a stranger writes what they like."""
    state = tiny({"model_dim": 4, "num_layers": 1, "num_heads": 2})
    folder = tmp_path_factory.mktemp("x")
    source = forge(state, folder / "source.pt")

    def spoil(name: str, raw: bytes) -> bytes:
        if not name.endswith("data.pkl"):
            return raw
        changed = bytearray(raw)
        for _ in range(data.draw(st.integers(1, 3))):
            changed[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
        return bytes(changed)

    path = rezip(source, folder / "x.pt", spoil)
    try:
        found = load(path)
    except UserError as error:
        assert str(error).startswith(f"{path}: ") and len(str(error).splitlines()) == 1
    else:
        assert found.settings().model_dim == 4 and isinstance(found.progress().step, int)


def test_other_kinds_of_objects_in_a_checkpoint_are_refused_unopened(state: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    for value in (Path("x"), torch.nn.Linear(1, 1), replace, OrderedDict(a=print)):
        assert "holds code" in refused(forge(state, path, torch=value))
