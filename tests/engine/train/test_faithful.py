"""What a resumed run says where its bits cannot be those of the run before, and what it says of the disk."""

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from fundamentallm.config.config import Config
from fundamentallm.run import events
from fundamentallm.run.commands import Stop
from fundamentallm.train.checkpoint import load, save
from fundamentallm.train.device import hardware

Train = Callable[..., Any]
Small = Callable[..., Config]
NOW = torch.__version__
HERE = hardware(torch.device("cpu"))


def notices(ran: Any) -> list[str]:
    return [event.text for event in ran.of(events.Notice) if "windows of" not in event.text]


@pytest.fixture
def stopped(train: Train, small: Small) -> Path:
    """A checkpoint of step 5."""
    path: Path = train(small(), script={5: [Stop()]}).folder / "last.pt"
    return path


def other(path: Path, **then: Any) -> Path:
    """The checkpoint as it would be, had it been written elsewhere."""
    save(replace(load(path), **then), path.parent, [path.name])
    return path


# ---- the same bits, or a word about it ----


def test_where_all_is_as_it_was_nothing_is_said(train: Train, small: Small, stopped: Path) -> None:
    assert notices(train(small(), resume_from=stopped)) == []


@pytest.mark.parametrize(
    ("then", "words"),
    [
        ({"torch": "2.5.0+cu121"}, f"torch 2.5.0+cu121 then, {NOW} now"),
        ({"device": "cuda"}, f"device cuda then, {HERE} now"),
        ({"threads": 4711}, "threads 4711 then, 1 now"),
        (
            {"torch": "2.5.0", "device": "mps", "threads": 4711},
            f"torch 2.5.0 then, {NOW} now; device mps then, {HERE} now; threads 4711 then, 1 now",
        ),
    ],
    ids=["torch", "device", "threads", "all"],
)
def test_what_differs_is_said_then_and_now_before_the_first_step(
    train: Train, small: Small, stopped: Path, then: dict[str, Any], words: str
) -> None:
    ran = train(small(), resume_from=other(stopped, **then))
    assert notices(ran) == [f"the run resumes, but not to the same bits: {words}"]
    kinds = [type(event) for event in ran.said]
    assert kinds.index(events.Notice) < kinds.index(events.Progress)
    assert ran.result.reason == "completed" and sorted(ran.losses) == list(range(6, 37))


def test_threads_are_restored_where_there_are_so_many_cores(
    train: Train, small: Small, stopped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    ran = train(small(), resume_from=other(stopped, threads=3))
    assert notices(ran) == [] and ran.said[0].threads == torch.get_num_threads() == 3
    assert load(ran.folder / "final_model.pt").threads == 3
    torch.set_num_threads(1)
    ran = train(small(), resume_from=other(ran.folder / "checkpoint_epoch_1.pt", threads=4))
    assert notices(ran) == ["the run resumes, but not to the same bits: threads 4 then, 1 now"]
    assert ran.said[0].threads == 1 and load(ran.folder / "final_model.pt").threads == 1


def test_what_is_said_once_is_not_said_again(train: Train, small: Small, stopped: Path) -> None:
    """From its next checkpoint on, the run is of here."""
    first = train(small(epochs=4), resume_from=other(stopped, torch="2.5.0"), script={9: [Stop()]})
    assert len(notices(first)) == 1
    assert notices(train(small(), resume_from=first.folder / "last.pt")) == []


def test_a_dry_run_says_it_too(train: Train, small: Small, stopped: Path) -> None:
    from fundamentallm.cli.preview import lines
    from fundamentallm.run.spec import RunSpec

    told = lines(RunSpec(small(), stopped.parent, other(stopped, torch="2.5.0")), overwrite=False)
    assert f"the run resumes, but not to the same bits: torch 2.5.0 then, {NOW} now" in told


# ---- the disk ----


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Leaves so many bytes free."""
    return lambda free: monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**12, 10**12 - free, free))


def on_disk(folder: Path) -> int:
    """Bytes of the checkpoints, names of one file counted once."""
    return sum({path.stat().st_ino: path.stat().st_size for path in folder.glob("*.pt")}.values())


def warnings(ran: Any) -> list[Any]:
    return [event for event in ran.of(events.Notice) if event.level == "warning"]


def test_too_little_room_is_said_before_the_first_step_and_enough_is_not(
    train: Train, small: Small, room: Callable[[int], None]
) -> None:
    room(10**9)
    assert warnings(train(small(), "plain")) == []
    room(2_000)
    ran = train(small())
    (warning,) = warnings(ran)
    assert warning.text.startswith("the checkpoints of this run will need about ") and " are free; " in warning.text
    assert warning.text.endswith("--keep-checkpoints 1 keeps only the newest epoch's")
    kinds = [type(event) for event in ran.said]
    assert ran.said.index(warning) < min(kinds.index(events.CheckpointSaved), kinds.index(events.Progress))
    assert ran.result.reason == "completed"


def test_the_numbers_of_the_warning_are_those_of_the_disk(
    train: Train, small: Small, room: Callable[[int], None]
) -> None:
    room(20_000)
    ran = train(small())
    found = re.search(r"about ([\d.]+) (\w+) and ([\d.]+) (\w+) are free", warnings(ran)[0].text)
    assert found is not None
    units = {"B": 1, "kB": 1e3, "KiB": 2**10, "MB": 1e6, "MiB": 2**20, "GB": 1e9, "GiB": 2**30}
    needed, free = float(found[1]) * units[found[2]], float(found[3]) * units[found[4]]
    assert free == pytest.approx(20_000, rel=0.05)
    assert on_disk(ran.folder) / 2 < needed < 3 * on_disk(ran.folder)


def test_what_is_advised_is_not_what_was_done(train: Train, small: Small, room: Callable[[int], None]) -> None:
    room(2_000)
    assert "--keep-checkpoints 1" not in warnings(train(small(keep_checkpoints=1)))[0].text


def test_the_room_that_is_asked_for_is_the_room_that_is_used(
    train: Train, small: Small, room: Callable[[int], None]
) -> None:
    """Enough for the worst: each name another state, and one more being written."""
    used = on_disk(train(small(model_dim=64, num_heads=4, epochs=3), "plain").folder)

    def warned(free: int, name: str, **changes: Any) -> bool:
        room(free)
        ran = train(small(model_dim=64, num_heads=4, epochs=3, **changes), name, script={1: [Stop()]})
        return bool(warnings(ran))

    assert warned(used, "a") and not warned(3 * used, "b")
    assert not warned(int(1.5 * used), "c", keep_checkpoints=1)
