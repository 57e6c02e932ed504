"""What a run goes on with after a kill."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fundamentallm.config.config import Config
from fundamentallm.errors import UserError
from fundamentallm.run.commands import Stop
from fundamentallm.run.events import Answered, Intervention, RunStarted
from fundamentallm.run.journal import Journal
from fundamentallm.run.spec import changed_flags
from fundamentallm.train.checkpoint import load
from fundamentallm.train.recover import changes_after, interventions_after, latest_valid_checkpoint


def start(step: int, recovered: bool = False) -> RunStarted:
    return RunStarted(
        step=step, version="", config={}, parameters=1, vocab_size=1, steps_per_epoch=9, total_steps=90, device="cpu",
        threads=1, torch="", pid=1, host="", resumed_from="last.pt" if step else None, recovered=recovered,
    )  # fmt: skip


def change(step: int, new: Any) -> Intervention:
    return Intervention(step=step, setting="eval_every", old=None, new=new, who="ada")


def planned(folder: Path, step: int, *said: Any) -> list[tuple[int, Any]]:
    journal = Journal(folder)
    for event in said:
        journal.say(event)
    journal.close()
    return [(event.step, event.new) for event in interventions_after(folder, step)]


def test_interventions_come_back_in_order_and_once_however_often_a_run_is_killed(tmp_path: Path) -> None:
    there_and_back = [change(5, 1), change(5, 2), change(5, 1)]
    wanted = [(5, 1), (5, 2), (5, 1)]
    assert planned(tmp_path, 0, start(0), *there_and_back) == wanted
    assert planned(tmp_path, 0, start(0, True), change(5, 1)) == wanted  # killed in the midst of making them again
    assert planned(tmp_path, 0, start(0, True), *there_and_back, change(7, 3)) == [*wanted, (7, 3)]
    assert planned(tmp_path, 6) == [(7, 3)]


def test_a_run_that_a_person_took_back_leaves_later_interventions_behind(tmp_path: Path) -> None:
    assert planned(tmp_path, 0, start(0), change(3, 1), change(8, 2), start(5)) == [(3, 1)]


def test_a_change_that_was_refused_is_not_made_by_the_one_who_goes_on(tmp_path: Path) -> None:
    def answer(ok: bool) -> Answered:
        return Answered(step=3, id="1", command="set", ok=ok)

    said = [start(0), change(3, 1), answer(True), change(3, 2), answer(False), answer(False), change(4, 3)]
    assert planned(tmp_path, 0, *said) == [(3, 1), (4, 3)]  # the last had no time for an answer
    assert planned(tmp_path, 0, start(0, True), change(3, 1), answer(False)) == [
        (3, 1),
        (4, 3),
    ]  # made again: no answer


def test_a_run_whose_journal_cannot_be_read_does_not_go_on(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").mkdir()
    with pytest.raises(UserError, match="journal.jsonl: cannot be read"):
        interventions_after(tmp_path, 0)
    with pytest.raises(UserError, match="journal.jsonl: cannot be read"):
        changed_flags(tmp_path, {"epochs": 3})


def test_the_newest_checkpoint_is_the_one_with_the_most_journal_behind_it(
    train: Callable[..., Any], small: Callable[..., Config], tmp_path: Path
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


def test_flags_that_are_typed_again_do_not_undo_what_was_set_since(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    assert changed_flags(tmp_path, {"epochs": 3}) == {"epochs": 3}  # nothing was asked for yet
    journal.say(replace(start(0), config={"learning_rate": 0.001, "epochs": 2}))
    assert changed_flags(tmp_path, {"learning_rate": 0.001, "epochs": 3}) == {"epochs": 3}
    journal.say(replace(start(5, recovered=True), changes={"learning_rate": 0.0005}))
    journal.say(change(6, 0.0002))
    assert changed_flags(tmp_path, {"learning_rate": 0.0005}) == {}
    assert changed_flags(tmp_path, {"learning_rate": 0.001}) == {"learning_rate": 0.001}
    journal.close()


def test_what_was_typed_stands_also_where_a_kill_came_before_it_was_saved(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.say(start(0))
    for step, changes in ((4, {"eval_every": 3}), (4, {"learning_rate": 0.5}), (4, {"eval_every": 7})):
        journal.say(replace(start(step, recovered=True), changes=changes))
    assert changes_after(tmp_path, 1) == {"eval_every": 7, "learning_rate": 0.5}
    assert changes_after(tmp_path, 2) == {"eval_every": 7, "learning_rate": 0.5}
    assert changes_after(tmp_path, 3) == {"eval_every": 7}
    journal.say(replace(start(2), changes={"epochs": 9}))  # by hand, from another state: the others are left behind
    assert changes_after(tmp_path, 1) == {"epochs": 9} and changes_after(tmp_path, 5) == {}
    journal.close()


def test_a_setting_that_is_typed_undoes_what_persons_made_of_it_before_and_not_after(tmp_path: Path) -> None:
    typed = replace(start(2, recovered=True), changes={"eval_every": 5})
    assert planned(tmp_path, 0, start(0), change(3, 1), typed) == []
    assert planned(tmp_path, 0, change(4, 2)) == [(4, 2)]


def test_a_run_whose_journal_was_removed_goes_on_from_its_newest_state(
    train: Callable[..., Any], small: Callable[..., Config]
) -> None:
    run = train(small(epochs=3), script={40: [Stop()]})
    (run.folder / "journal.jsonl").unlink()
    train(small(), resume_from=run.folder / "last.pt", script={45: [Stop()]})
    assert latest_valid_checkpoint(run.folder) == (run.folder / "last.pt", [])
    assert load(run.folder / "last.pt").progress().step == 45
