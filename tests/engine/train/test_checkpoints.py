"""Names under which a run is saved and when, what is kept, which file is the newest, the best state, and the disk."""

import os
import re
import shutil
from itertools import takewhile
from math import inf, nan
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pytest import MonkeyPatch

from fundamentallm.run import events
from fundamentallm.run.commands import Save, Stop
from fundamentallm.train import checkpoints
from fundamentallm.train.checkpoint import Checkpoint, latest_valid_checkpoint, load, save
from tests.conftest import journal_events
from tests.engine.conftest import EPOCH, notices
from tests.engine.train.conftest import Breaks, Build, Judged, Small, Train, Trained


def numbered(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("checkpoint*")}


def test_only_the_newest_epochs_are_kept_and_what_the_user_saved(train: Train) -> None:
    ran = train(epochs=5, keep_checkpoints=2, script={3: [Save()], 40: [Save()]})
    assert numbered(ran.folder) == {
        "checkpoint_epoch_4.pt", "checkpoint_epoch_5.pt", "checkpoint_step_3.pt", "checkpoint_step_40.pt",
    }  # fmt: skip
    assert ran.step_of("checkpoint_step_40.pt") == 40


def test_a_run_that_went_back_keeps_what_it_has_just_saved(train: Train) -> None:
    ran = train(epochs=4)
    train(resume_from=ran.folder / "checkpoint_epoch_1.pt", epochs=2, keep_checkpoints=1)
    assert numbered(ran.folder) == {f"checkpoint_epoch_{epoch}.pt" for epoch in (2, 3, 4)}
    assert load(ran.folder / "checkpoint_epoch_2.pt").settings().epochs == 2


def test_only_temporary_checkpoints_are_cleaned_away(train: Train, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for name in (
        ".notes.tmp",
        ".thesis.tex.12.tmp",
        ".last.pt.4711.tmp",
        ".checkpoint_epoch_3.pt.4711.tmp",
        ".best.pt.4711.link.tmp",
    ):
        (tmp_path / "run" / name).touch()
    train(epochs=1)
    assert {path.name for path in (tmp_path / "run").glob(".*")} == {".notes.tmp", ".thesis.tex.12.tmp"}


@pytest.mark.parametrize("changes", [{}, {"eval_every": 5, "learning_rate": 1e-9}], ids=["", "evaluated just then"])
def test_last_is_saved_every_so_many_steps(train: Train, changes: dict[str, Any]) -> None:
    saved = train(save_every=5, **changes).of(events.CheckpointSaved)
    steps = [event.step for event in saved if event.kind == "last" and event.step]
    assert steps == [5, 10, 15, 18, 20, 25, 30, 35, 36]


def test_an_event_of_a_save_has_name_kind_and_size(train: Train) -> None:
    ran = train(script={3: [Save()]})
    kinds = {
        "last.pt": "last", "best.pt": "best", "final_model.pt": "final", "checkpoint_step_3.pt": "hand",
        "checkpoint_epoch_1.pt": "epoch", "checkpoint_epoch_2.pt": "epoch",
    }  # fmt: skip
    saved = ran.of(events.CheckpointSaved)
    assert {event.path: event.kind for event in saved} == kinds and all(event.bytes > 1000 for event in saved)
    assert saved[-1].bytes == (ran.folder / "final_model.pt").stat().st_size
    assert not ran.of(events.CheckpointFailed)


def test_what_could_not_be_saved_after_the_last_step_is_saved_at_the_end_once(train: Train, breaks: Breaks) -> None:
    breaks(checkpoints, "save", 2, OSError(28, "No space left on device"))
    saved = [event.path for event in train(epochs=1).of(events.CheckpointSaved) if event.step]
    assert sorted(saved) == ["best.pt", "checkpoint_epoch_1.pt", "final_model.pt", "last.pt"]


# ---- the newest ----


def newest(folder: Path) -> tuple[Path | None, list[str]]:
    path, checkpoint, problems = latest_valid_checkpoint(folder)
    assert path is not None and checkpoint is not None and checkpoint.counters == load(path).counters
    return path, problems


def test_the_newest_checkpoint_is_the_one_with_the_most_journal_behind_it(train: Train) -> None:
    run = train(epochs=3, script={40: [Stop()]})
    for age, path in enumerate(sorted(run.folder.glob("*.pt"), key=lambda path: path.name != "last.pt")):
        os.utime(path, (age, age))  # last.pt seems the oldest, as in a copy of the folder
    assert newest(run.folder) == (run.last, [])
    again = train(resume_from=run.folder / "checkpoint_epoch_1.pt", script={19: [Stop()]})
    assert again.result.step == run.step_of("last.pt") == 19
    assert newest(run.folder) == (run.last, [])
    run.last.write_bytes(b"not a checkpoint")
    found, damaged = newest(run.folder)
    # not of epoch 2, which that run left behind
    assert found == run.folder / "checkpoint_epoch_1.pt" and len(damaged) == 1
    assert "last.pt" in damaged[0] and damaged[0].endswith("; checkpoint_epoch_1.pt is used")
    found.unlink()
    assert newest(run.folder)[0] == run.folder / "checkpoint_epoch_2.pt"  # better than nothing


def test_the_newest_checkpoint_is_found_where_the_journal_was_deleted(train: Train) -> None:
    run = train(epochs=3, script={40: [Stop()]})
    (run.folder / "journal.jsonl").unlink()
    train(resume_from=run.last, script={45: [Stop()]})
    assert newest(run.folder) == (run.last, []) and run.step_of("last.pt") == 45


# ---- the best, and patience ----


def test_a_best_that_a_kill_kept_from_its_name_gets_it_and_keeps_it(train: Train, small: Small, judged: Judged) -> None:
    judged([3.0, 2.0, 2.5])
    run = train(epochs=3, script={2 * EPOCH: [Stop()]})
    (run.folder / "best.pt").unlink()
    shutil.copy(run.folder / "checkpoint_epoch_1.pt", run.folder / "best.pt")  # as before it was renamed
    assert train(small(epochs=3), auto=True).result.step == 3 * EPOCH
    assert run.step_of("best.pt") == 2 * EPOCH


def test_a_best_that_was_not_saved_is_made_up_for_later(train: Train, judged: Judged, monkeypatch: MonkeyPatch) -> None:
    judged([3, 1, 2, 2.5])

    def save_but_once(checkpoint: Checkpoint, folder: Path, names: list[str]) -> Any:
        if checkpoint.counters["step"] == 2 * EPOCH:
            raise OSError(28, "No space left on device")
        return save(checkpoint, folder, names)

    monkeypatch.setattr(checkpoints, "save", save_but_once)
    ran = train(epochs=4)
    assert ran.step_of("best.pt") == 3 * EPOCH  # 2 is the lowest loss whose state the disk took
    assert ran.step_of("last.pt") == 4 * EPOCH


@pytest.mark.parametrize("damage", [b"not a checkpoint", None])
def test_a_best_that_is_damaged_or_missing_is_replaced_at_the_next_evaluation(
    train: Train, judged: Judged, damage: bytes | None
) -> None:
    judged([1.0, 3.0, 2.0])
    first = train(script={EPOCH + 5: [Stop()]})
    best = first.folder / "best.pt"
    best.unlink()
    if damage is not None:
        best.write_bytes(damage)
    second = train(resume_from=first.last)
    assert first.step_of("best.pt") == 2 * EPOCH  # of loss 3: the state with loss 1 is lost
    assert (second.result.best_val_loss, second.result.best_step) == (3.0, 2 * EPOCH)
    third = train(resume_from=first.last, epochs=3)
    assert first.step_of("best.pt") == 3 * EPOCH and third.result.best_val_loss == 2.0


def test_a_loss_that_is_not_finite_is_never_the_best(train: Train, judged: Judged, build: Build) -> None:
    judged([nan, 3, inf, 2.5])
    ran = train(epochs=4)
    assert [event.best for event in ran.of(events.Evaluated)] == [False, True, False, True]
    saved = [event.step for event in ran.of(events.CheckpointSaved) if event.path == "best.pt"]
    assert saved == [2 * EPOCH, 4 * EPOCH]
    state = build()
    state.counters.best_val_loss, state.counters.epoch_tokens = nan, 1  # as versions before this rule saved it
    assert state.count_evaluation(5.0)


@pytest.mark.parametrize("every", [0, 4])
def test_best_is_the_lowest_validation_loss_ever_logged_whatever_is_resumed(train: Train, every: int) -> None:
    first = train(epochs=3, eval_every=every)
    start, best = first.folder / "checkpoint_epoch_1.pt", (first.folder / "best.pt").read_bytes()
    worse = train(resume_from=start, learning_rate=1e-6)  # hardly learns
    assert worse.result.val_loss > first.result.val_loss and (first.folder / "best.pt").read_bytes() == best
    better = train(resume_from=worse.last, epochs=8, learning_rate=0.003)
    assert better.result.val_loss < first.result.val_loss
    lowest = min(journal_events(first.folder, events.Evaluated), key=lambda event: event.val_loss)
    found = load(first.folder / "best.pt").progress()
    assert (found.best_val_loss, found.step) == (lowest.val_loss, lowest.step)


def test_patience_ends_a_run_after_so_many_epochs_without_gain(train: Train, judged: Judged) -> None:
    losses = [3, 2, 2, 2.5, 1.9, 2, 2.1, 2.2, 9]
    judged(losses)
    assert train(epochs=9, patience=1, name="patient").result.reason == "completed"  # nobody asked for it
    judged(losses)
    ran = train(epochs=9, early_stopping=True, patience=3)
    assert (ran.result.reason, ran.result.epoch, ran.result.step) == ("patience", 8, 8 * EPOCH)
    assert [event.best for event in ran.of(events.Evaluated)] == [True, True, False, False, True, False, False, False]
    assert (ran.result.best_val_loss, ran.result.best_epoch, ran.result.best_step) == (1.9, 5, 5 * EPOCH)
    assert (ran.step_of("best.pt"), ran.step_of("final_model.pt")) == (5 * EPOCH, 8 * EPOCH)
    assert load(ran.last).progress().epochs_without_gain == 3
    assert [text for text in notices(ran) if "stopped early" in text] == ["stopped early: no improvement in 3 epochs"]
    assert len(ran.of(events.Finished)) == 1


def test_a_gain_in_the_middle_of_an_epoch_is_a_gain(train: Train, judged: Judged) -> None:
    judged([3.0, 4, 2.9, 4, 5, 5])  # at 10, 18 (end), 20, 30, 36 (end)
    ran = train(eval_every=10, early_stopping=True, patience=1)
    assert [(event.step, event.best, event.epoch_ended) for event in ran.of(events.Evaluated)] == [
        (10, True, False), (18, False, True), (20, True, False), (30, False, False), (36, False, True),
    ]  # fmt: skip
    assert ran.result.reason == "completed" and ran.step_of("best.pt") == 20


# ---- the disk ----


def test_a_disk_that_is_too_small_is_warned_of_at_once(
    train: Train, trained: Trained, monkeypatch: MonkeyPatch
) -> None:
    """The room is that of all names and one more file being written."""
    shape = {"model_dim": 64, "num_heads": 4, "epochs": 3}
    plain = trained(**shape)
    used = sum({path.stat().st_ino: path.stat().st_size for path in plain.folder.glob("*.pt")}.values())  # each once

    def warnings(free: float, **changes: Any) -> list[str]:
        """What is said before anything is saved or trained."""
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=int(free)))
        ran = train(**shape, **changes, name=f"{free} {changes}", script={1: [Stop()]})
        before = takewhile(lambda event: not isinstance(event, (events.CheckpointSaved, events.Progress)), ran.events)
        return [event.text for event in before if isinstance(event, events.Notice) and event.level == "warning"]

    (warning,) = warnings(used)
    found = re.fullmatch(
        r"the checkpoints of this run will need about ([\d.]+) MB and ([\d.]+) MB are free; "
        r"--keep-checkpoints 1 keeps only the newest epoch's",
        warning,
    )
    assert found is not None, warning
    assert float(found[2]) * 1e6 == pytest.approx(used, rel=0.05) and used / 2 < float(found[1]) * 1e6 < 3 * used
    assert warnings(used, keep_checkpoints=10**20) == [warning]  # more than there will be
    assert plain.warnings == warnings(3 * used) == warnings(1.5 * used, keep_checkpoints=1) == []
    assert "--keep-checkpoints" not in warnings(1, keep_checkpoints=1)[0]
