"""The folder of a run is deleted while it trains: the next save makes it again."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fundamentallm.process.session import AttachedRun
from fundamentallm.run import events
from fundamentallm.run.commands import Command, Pause, Resume, Save, Set, Stop
from fundamentallm.run.history import read_history
from fundamentallm.run.journal import read_journal
from fundamentallm.run.locks import is_held
from fundamentallm.run.summary import summarize
from fundamentallm.train.checkpoint import load
from fundamentallm.train.trainer import Trainer
from tests.conftest import as_a_user, delete_folder, file_contents
from tests.engine.conftest import EPOCH, files, notices, same_tensors
from tests.engine.train.conftest import Small, Train

AT = EPOCH + 4


def deleting(
    delete: Callable[[Path], Any], then: dict[int, list[Command]] | None = None, at: int = AT
) -> Callable[[Trainer], list[Command]]:
    """A script that calls `delete` with the run's folder after step `at`, and sends commands after other steps."""
    pending = dict(then or {})

    def script(run: Trainer) -> list[Command]:
        if run.state.step == at and is_held(run.spec.folder):
            delete(run.spec.folder)
        return pending.pop(run.state.step, [])

    return script


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


@pytest.mark.parametrize("delete", [delete_folder, empty], ids=["the folder", "all files in it"])
def test_the_next_save_makes_the_folder_again_and_says_so(
    train: Train, small: Small, delete: Callable[[Path], Any]
) -> None:
    held: list[bool] = []
    script = deleting(delete)

    def note(run: Trainer) -> list[Command]:
        if run.state.step == 2 * EPOCH + 1:
            held.append(is_held(run.spec.folder))
        return script(run)

    ran = train(small(epochs=3), script=note)
    assert ran.result.reason == "completed" and ran.result.unsaved == "" and held == [True]
    lost = f"earlier checkpoints and the losses before step {2 * EPOCH} are gone"
    assert notices(ran)[-1] == f"{ran.folder} was deleted and is made again: {lost}"
    assert {"config.yaml", "journal.jsonl", "lock", "tokenizer.json", "last.pt", "final_model.pt"} <= files(ran.folder)
    assert load(ran.folder / "final_model.pt").progress().step == 3 * EPOCH
    history = read_history(ran.folder)
    assert history.completed and history.steps[-1] == 3 * EPOCH
    assert [event.step for event in history.evaluations] == [EPOCH, 2 * EPOCH, 3 * EPOCH]
    assert [event.seq for event in read_journal(ran.folder)] == sorted({e.seq for e in read_journal(ran.folder)})
    best = summarize(ran.folder).best
    assert (best.val_loss if best else None) == ran.result.best_val_loss
    assert (ran.folder / "best.pt").exists() == (best is not None)


def test_a_run_whose_folder_was_made_again_resumes_to_the_same_bits_with_what_users_changed(
    train: Train, small: Small
) -> None:
    config = small(epochs=3, dropout=0.2)
    commands: dict[int, list[Command]] = {6: [Set(setting="learning_rate", value=0.01)]}
    reference = train(config, "reference", commands)
    # a refused command after the deletion: it must not seem to refuse the change that came before it
    later: dict[int, list[Command]] = {AT + 1: [Save(), Set(setting="model_dim", value=8)], 2 * EPOCH + 3: [Stop()]}
    folder = train(config, script=deleting(delete_folder, commands | later)).folder
    assert summarize(folder).config["learning_rate"] == 0.01
    resumed = train(config, auto=True)
    assert resumed.events[0].step == 2 * EPOCH + 3 and same_tensors(resumed.weights, reference.weights)


def test_a_paused_run_whose_folder_is_made_again_has_not_lost_the_console_that_watches_it(train: Train) -> None:
    consoles: list[AttachedRun] = []
    polls: list[int] = []

    def script(run: Trainer) -> list[Command]:
        if run.state.step == AT and not consoles:
            consoles.append(AttachedRun(run.spec.folder, stays=True))
            return [Pause(stays=True)]
        if run.control.paused:
            polls.append(AT)
            if len(polls) == 1:
                delete_folder(run.spec.folder)
                return [Save()]
            return [Resume()] * (len(polls) == 3)
        return []

    assert train(script=script).result.reason == "completed"


def test_a_folder_that_is_deleted_at_the_very_end_is_made_again(train: Train, small: Small) -> None:
    ran = train(small(), script=deleting(delete_folder, at=2 * EPOCH))
    assert ran.result.reason == "completed" and ran.result.unsaved == ""
    assert summarize(ran.folder).state == "finished" and {"last.pt", "final_model.pt"} <= files(ran.folder)


def test_another_run_that_took_the_place_is_left_alone(train: Train, small: Small, tmp_path: Path) -> None:
    other = train(small(epochs=1), "other").folder

    def replace(folder: Path) -> None:
        delete_folder(folder)
        shutil.copytree(other, folder)

    ran = train(small(), script=deleting(replace))
    assert file_contents(ran.folder) == file_contents(other)
    assert isinstance(ran.result, events.Finished) and "holds a run already" in ran.result.unsaved


@pytest.mark.parametrize("name", ["lock", "journal.jsonl"])
def test_a_folder_that_lacks_one_of_the_run_s_files_is_still_the_run_s(train: Train, small: Small, name: str) -> None:
    def take(run: Trainer) -> list[Command]:
        if run.state.step == AT:
            (run.spec.folder / name).rename(run.spec.folder / "taken")
        return []

    ran = train(small(), script=take)
    assert not ran.of(events.CheckpointFailed) and ran.step_of("final_model.pt") == 2 * EPOCH


@pytest.mark.parametrize("another", [True, False])
def test_a_folder_that_was_renamed_gets_what_is_missing_when_it_has_its_name_again(
    train: Train, small: Small, tmp_path: Path, another: bool
) -> None:
    """Meanwhile the name may be another run's, whose checkpoints must not be written over."""
    other, elsewhere, seen = train(small(epochs=1), "other").folder, tmp_path / "elsewhere", []

    def move(run: Trainer) -> list[Command]:
        folder = run.spec.folder
        if run.state.step == AT:
            folder.rename(elsewhere)
            if another:
                shutil.copytree(other, folder)
        if run.state.step == 2 * EPOCH + 1:
            if another:
                seen.append(file_contents(folder) == file_contents(other))
                shutil.rmtree(folder)
            elsewhere.rename(folder)
        return []

    ran = train(small(epochs=3), script=move)
    (failed,) = [event for event in ran.of(events.CheckpointFailed) if event.path == "last.pt"]
    assert failed.why == f"the run's folder is no longer at {ran.folder}; move it back"
    assert ran.result.unsaved == "" and load(ran.folder / "last.pt").progress().step == 3 * EPOCH
    assert seen == [True] * another


@as_a_user
def test_a_folder_that_may_no_longer_be_looked_into_is_a_reason_why_the_end_is_not_saved(
    train: Train, small: Small
) -> None:
    def lock(run: Trainer) -> list[Command]:
        if run.state.step == AT:
            run.spec.folder.chmod(0)
        return []

    ran = train(small(), script=lock)
    ran.folder.chmod(0o755)
    assert ran.result.reason == "completed" and ran.result.unsaved.endswith("Permission denied")
    assert ran.step_of("last.pt") == EPOCH
    assert train(small(), auto=True).result.unsaved == "", "the next process saves it"
