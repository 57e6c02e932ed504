"""Under which names a run is saved and when, what is kept, which file is the newest, and whether the disk suffices."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fundamentallm.config.config import Config
from fundamentallm.run import events
from fundamentallm.run.commands import Save, Stop
from fundamentallm.train.checkpoint import latest_valid_checkpoint, load

Train = Callable[..., Any]
Small = Callable[..., Config]


def numbered(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("checkpoint*")}


def test_only_the_newest_epochs_are_kept_and_what_the_user_saved(train: Train, small: Small) -> None:
    ran = train(small(epochs=5, keep_checkpoints=2), script={3: [Save()], 40: [Save()]})
    assert numbered(ran.folder) == {
        "checkpoint_epoch_4.pt", "checkpoint_epoch_5.pt", "checkpoint_step_3.pt", "checkpoint_step_40.pt",
    }  # fmt: skip
    assert load(ran.folder / "checkpoint_step_40.pt").progress().step == 40


def test_a_run_that_went_back_keeps_what_it_has_just_saved(train: Train, small: Small) -> None:
    ran = train(small(epochs=4))
    train(small(), resume_from=ran.folder / "checkpoint_epoch_1.pt", epochs=2, keep_checkpoints=1)
    assert numbered(ran.folder) == {f"checkpoint_epoch_{epoch}.pt" for epoch in (2, 3, 4)}
    assert load(ran.folder / "checkpoint_epoch_2.pt").settings().epochs == 2


def test_only_temporary_checkpoints_are_cleaned_away(train: Train, small: Small, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for name in (".notes.tmp", ".last.pt.4711.tmp", ".best.pt.4711.link.tmp"):
        (tmp_path / "run" / name).touch()
    train(small(epochs=1))
    assert [path.name for path in (tmp_path / "run").glob(".*")] == [".notes.tmp"]


@pytest.mark.parametrize("changes", [{}, {"eval_every": 5, "learning_rate": 1e-9}], ids=["", "evaluated just then"])
def test_last_is_saved_every_so_many_steps(train: Train, small: Small, changes: dict[str, Any]) -> None:
    ran = train(small(save_every=5, **changes))
    saved = [event.step for event in ran.of(events.CheckpointSaved) if event.kind == "last" and event.step]
    assert saved == [5, 10, 15, 18, 20, 25, 30, 35, 36]


def test_an_event_of_a_save_has_name_kind_and_size(train: Train, small: Small) -> None:
    ran = train(small(), script={3: [Save()]})
    kinds = {
        "last.pt": "last", "best.pt": "best", "final_model.pt": "final", "checkpoint_step_3.pt": "hand",
        "checkpoint_epoch_1.pt": "epoch", "checkpoint_epoch_2.pt": "epoch",
    }  # fmt: skip
    saved = ran.of(events.CheckpointSaved)
    assert {event.path: event.kind for event in saved} == kinds and all(event.bytes > 1000 for event in saved)
    assert saved[-1].bytes == (ran.folder / "final_model.pt").stat().st_size
    assert not ran.of(events.CheckpointFailed)


# ---- the newest ----


def test_the_newest_checkpoint_is_the_one_with_the_most_journal_behind_it(train: Train, small: Small) -> None:
    run = train(small(epochs=3), script={40: [Stop()]})
    for age, path in enumerate(sorted(run.folder.glob("*.pt"), key=lambda path: path.name != "last.pt")):
        os.utime(path, (age, age))  # last.pt seems the oldest, as in a copy of the folder
    assert latest_valid_checkpoint(run.folder) == (run.folder / "last.pt", [])
    again = train(small(), resume_from=run.folder / "checkpoint_epoch_1.pt", script={19: [Stop()]})
    assert (again.result.step, load(run.folder / "last.pt").progress().step) == (19, 19)
    assert latest_valid_checkpoint(run.folder) == (run.folder / "last.pt", [])
    (run.folder / "last.pt").write_bytes(b"not a checkpoint")
    found, damaged = latest_valid_checkpoint(run.folder)
    # not of epoch 2, which that run left behind
    assert found == run.folder / "checkpoint_epoch_1.pt" and len(damaged) == 1 and "last.pt" in damaged[0]
    found.unlink()
    assert latest_valid_checkpoint(run.folder)[0] == run.folder / "checkpoint_epoch_2.pt"  # better than nothing


def test_the_newest_checkpoint_is_found_where_the_journal_was_deleted(train: Train, small: Small) -> None:
    run = train(small(epochs=3), script={40: [Stop()]})
    (run.folder / "journal.jsonl").unlink()
    train(small(), resume_from=run.folder / "last.pt", script={45: [Stop()]})
    assert latest_valid_checkpoint(run.folder) == (run.folder / "last.pt", [])
    assert load(run.folder / "last.pt").progress().step == 45


# ---- the disk ----


@pytest.fixture
def free_space(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes the disk say that so many bytes are free."""
    return lambda free: monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))


def warnings(ran: Any) -> list[Any]:
    return [event for event in ran.of(events.Notice) if event.level == "warning"]


def size_on_disk(folder: Path) -> int:
    """Bytes of the checkpoints; several names of one file count once."""
    return sum({path.stat().st_ino: path.stat().st_size for path in folder.glob("*.pt")}.values())


def test_a_disk_that_is_too_small_is_warned_of_before_the_first_step(
    train: Train, small: Small, free_space: Callable[[int], None]
) -> None:
    free_space(10**9)
    assert warnings(train(small(), "plain")) == []
    free_space(20_000)
    ran = train(small())
    (warning,) = warnings(ran)
    found = re.fullmatch(
        r"the checkpoints of this run will need about ([\d.]+) kB and ([\d.]+) kB are free; "
        r"--keep-checkpoints 1 keeps only the newest epoch's",
        warning.text,
    )
    assert found is not None, warning.text
    needed, free = float(found[1]) * 1e3, float(found[2]) * 1e3
    assert free == pytest.approx(20_000, rel=0.05)
    assert size_on_disk(ran.folder) / 2 < needed < 3 * size_on_disk(ran.folder)
    kinds = [type(event) for event in ran.said]
    assert ran.said.index(warning) < min(kinds.index(events.CheckpointSaved), kinds.index(events.Progress))
    assert ran.result.reason == "completed"
    assert "--keep-checkpoints 1" not in warnings(train(small(keep_checkpoints=1), "one"))[0].text


def test_the_warning_counts_the_room_for_all_names_and_one_more_being_written(
    train: Train, small: Small, free_space: Callable[[int], None]
) -> None:
    shape = {"model_dim": 64, "num_heads": 4, "epochs": 3}
    used = size_on_disk(train(small(**shape), "plain").folder)

    def warned(free: float, name: str, **changes: Any) -> bool:
        free_space(int(free))
        return bool(warnings(train(small(**shape, **changes), name, script={1: [Stop()]})))

    assert warned(used, "a") and not warned(3 * used, "b")
    assert not warned(1.5 * used, "c", keep_checkpoints=1)
