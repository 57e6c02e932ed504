"""Which checkpoints are kept, under what name, and when they are written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fundamentallm.config.config import Config
from fundamentallm.run import events
from fundamentallm.run.commands import Save
from fundamentallm.train.checkpoint import load
from tests.engine.seen import files

Train = Callable[..., Any]
Small = Callable[..., Config]


def test_only_the_newest_epochs_are_kept_and_what_a_person_saved(train: Train, small: Small) -> None:
    ran = train(small(epochs=5, keep_checkpoints=2), script={3: [Save()], 40: [Save()]})
    assert {name for name in files(ran.folder) if name.startswith("checkpoint")} == {
        "checkpoint_epoch_4.pt", "checkpoint_epoch_5.pt", "checkpoint_step_3.pt", "checkpoint_step_40.pt",
    }  # fmt: skip
    assert load(ran.folder / "checkpoint_step_40.pt").progress().step == 40


def test_a_run_that_went_back_keeps_what_it_has_just_saved(train: Train, small: Small) -> None:
    ran = train(small(epochs=4))
    train(small(), resume_from=ran.folder / "checkpoint_epoch_1.pt", epochs=2, keep_checkpoints=1)
    assert {name for name in files(ran.folder) if name.startswith("checkpoint")} == {
        "checkpoint_epoch_2.pt", "checkpoint_epoch_3.pt", "checkpoint_epoch_4.pt",
    }  # fmt: skip
    assert load(ran.folder / "checkpoint_epoch_2.pt").settings().epochs == 2


def test_files_of_others_are_not_cleaned_away(train: Train, small: Small, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for name in (".notes.tmp", ".last.pt.4711.tmp", ".best.pt.4711.link.tmp"):
        (tmp_path / "run" / name).touch()
    train(small(epochs=1))
    assert [path.name for path in (tmp_path / "run").glob(".*")] == [".notes.tmp"]


def test_last_is_saved_every_so_many_steps(train: Train, small: Small) -> None:
    ran = train(small(save_every=5))
    saved = [event.step for event in ran.of(events.CheckpointSaved) if event.kind == "last" and event.step]
    assert saved == [5, 10, 15, 18, 20, 25, 30, 35, 36]


def test_last_is_saved_also_where_an_evaluation_falls_on_the_same_step(train: Train, small: Small) -> None:
    ran = train(small(save_every=5, eval_every=5, learning_rate=1e-9))
    saved = [event.step for event in ran.of(events.CheckpointSaved) if event.kind == "last" and event.step]
    assert saved == [5, 10, 15, 18, 20, 25, 30, 35, 36]


def test_a_save_says_name_kind_and_size(train: Train, small: Small) -> None:
    ran = train(small(), script={3: [Save()]})
    for event in ran.of(events.CheckpointSaved):
        kinds = {"last.pt": "last", "best.pt": "best", "final_model.pt": "final"}
        kind = kinds.get(event.path) or ("hand" if "step" in event.path else "epoch")
        assert event.kind == kind and event.bytes > 1000
    assert ran.of(events.CheckpointSaved)[-1].bytes == (ran.folder / "final_model.pt").stat().st_size
    assert not ran.of(events.CheckpointFailed)
