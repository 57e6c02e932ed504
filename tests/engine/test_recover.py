"""What a run goes on with after a kill."""

from pathlib import Path
from typing import Any

from fundamentallm.events import Intervention, RunStarted
from fundamentallm.recover import interventions_after
from fundamentallm.run import Journal


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
