"""Which checkpoint a run resumes from after a kill."""

import os
from collections.abc import Callable
from typing import Any

from fundamentallm.config.config import Config
from fundamentallm.run.commands import Stop
from fundamentallm.train.checkpoint import load
from fundamentallm.train.checkpoints import latest_valid_checkpoint


def test_the_newest_checkpoint_is_the_one_with_the_most_journal_behind_it(
    train: Callable[..., Any], small: Callable[..., Config]
) -> None:
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


def test_a_run_whose_journal_was_removed_goes_on_from_its_newest_state(
    train: Callable[..., Any], small: Callable[..., Config]
) -> None:
    run = train(small(epochs=3), script={40: [Stop()]})
    (run.folder / "journal.jsonl").unlink()
    train(small(), resume_from=run.folder / "last.pt", script={45: [Stop()]})
    assert latest_valid_checkpoint(run.folder) == (run.folder / "last.pt", [])
    assert load(run.folder / "last.pt").progress().step == 45
