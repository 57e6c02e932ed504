"""Back to a checkpoint: from the crosshair or the list of runs, to sample, to resume, or to branch."""

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from textual.widgets import OptionList, Static

from fundamentallm.errors import UserError
from fundamentallm.process.session import WorkerRun
from fundamentallm.run.commands import Stop
from fundamentallm.run.events import Finished, RunStarted
from fundamentallm.run.history import RunHistory, read_history
from fundamentallm.run.summary import summarize
from fundamentallm.train.checkpoint import load
from fundamentallm_tui.dialogs import Entry, Question
from fundamentallm_tui.screens.help import TOPICS
from tests.conftest import file_contents, journal_events
from tests.tui.others import SMALL, alive, to


async def reads(seen: Any, text: str) -> None:
    """Wait until a text is on the screen, or in a dialog, which may have wrapped it."""

    def shown() -> str:
        screen = seen.app.screen
        options = [option.prompt for each in screen.query(OptionList) for option in each.options]
        return " ".join([seen.screen, *(str(each.render()) for each in screen.query(Static)), *map(str, options)])

    await seen.until(lambda: text in shown(), text)


async def crosshair_before(seen: Any, step: int) -> None:
    """Put the crosshair of the loss chart before a step, and press enter."""
    await seen.press("3", "c")
    await seen.press_until("left", lambda: seen.main.loss.view.crosshair < step)
    assert "enter rewind" in seen.keys
    await seen.press("enter")
    await seen.until(lambda: isinstance(seen.app.screen, Question))


async def with_checkpoints(seen: Any, workshop: Any) -> Any:
    """Start a run that has trained 200 steps, with checkpoints of 80 and 160 that stay, and last.pt of 180."""
    run = await seen.started()
    run.folder.mkdir(parents=True)
    kinds = {"checkpoint_epoch_1.pt": (80, "epoch"), "checkpoint_step_160.pt": (160, "hand"), "last.pt": (180, "last")}
    for name in (*kinds, "journal.jsonl"):
        (run.folder / name).touch()
    run.say(workshop.progress(1, 200), *(workshop.saved(step, name, kind) for name, (step, kind) in kinds.items()))
    await seen.until(lambda: len(seen.main.store.history.saved) == 3)
    return run


async def test_a_branch_without_other_settings_ends_in_its_parents_bits(workshop: Any, processes: None) -> None:
    async with workshop.console(start=WorkerRun, epochs=2, **SMALL) as seen:
        await seen.press("f5")
        await seen.status_is("FINISHED")
        parent, epoch = seen.run.folder, seen.main.store.history.started.steps_per_epoch
        before = file_contents(parent)
        await crosshair_before(seen, 2 * epoch - 2)
        await reads(seen, f"is checkpoint_epoch_1.pt, of step {epoch}.")
        await seen.press("b")
        await reads(seen, f"It starts {parent}-1")
        await seen.press("enter")
        await seen.until(lambda: len(seen.runs) == 2)
        await seen.status_is("FINISHED")
        folder = seen.run.folder
        assert folder == Path(f"{parent}-1") and seen.main.store.folder == folder
        [start] = journal_events(folder, RunStarted)
        assert (start.resumed_from, start.step) == (str(parent / "checkpoint_epoch_1.pt"), epoch)
        ours, theirs = (load(each / "final_model.pt") for each in (folder, parent))
        for one, other in ((ours.model, theirs.model), (ours.optimizer, theirs.optimizer)):
            assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
        assert file_contents(parent) == before
        await seen.until(lambda: [run.folder for run in seen.main.loss.beside()] == [parent])
        assert seen.main.loss.extent == (0.0, 2 * epoch), "all of its parent's curve"
        assert seen.main.store.train.start == epoch + 1, "its own from where it parts"
        runs = await seen.open_list(2)
        rows = [row for row in seen.screen.splitlines() if "finished" in row]
        assert [row.split("runs/")[1].split()[0] for row in rows] == [parent.name, folder.name]
        assert "└ runs/" in rows[1] and "└" not in rows[0]
        assert summarize(runs.list.runs[1].folder).parent == str(parent / "checkpoint_epoch_1.pt")


async def test_a_rewind_stops_and_saves_a_run_under_way_and_supersedes_what_followed(
    workshop: Any, processes: None
) -> None:
    async with workshop.console(start=WorkerRun, epochs=400, **SMALL) as seen:
        await seen.press("f5")
        await seen.until(lambda: seen.main.store.epoch == 3)
        folder, first, epoch = seen.run.folder, seen.run, seen.main.store.history.started.steps_per_epoch
        await seen.press("f6")
        await seen.status_is("PAUSED")
        await crosshair_before(seen, 2 * epoch)
        await reads(seen, "Stop and save the run, then resume from it")
        await seen.press("r")
        await seen.until(lambda: len(seen.runs) == 2 and seen.main.store.loaded)
        await seen.status_is("TRAINING")
        assert seen.main.store.train.until(epoch) == (epoch, seen.main.store.train.at(epoch)[1])
        await seen.press("f8")
        await seen.status_is("STOPPED")
        assert not first.alive or first.wait(60)
        starts, ends = journal_events(folder, RunStarted), journal_events(folder, Finished)
        assert [start.step for start in starts] == [0, epoch] and ends[0].reason == "stopped" and ends[0].step > epoch
        assert starts[1].resumed_from == str(folder / "checkpoint_epoch_1.pt")


async def test_the_checkpoint_at_the_crosshair_is_sampled(workshop: Any) -> None:
    async with workshop.console((80, 24)) as seen:
        run = await with_checkpoints(seen, workshop)
        await crosshair_before(seen, 150)
        await seen.press("s")
        await reads(seen, "enter lets checkpoint_epoch_1.pt")
        await seen.press("H", "enter")
        await seen.until(lambda: seen.samplers and seen.samplers[-1].sent)
        assert seen.samplers[-1].checkpoint == run.folder / "checkpoint_epoch_1.pt" and run.sent == []
        run.finish(200, "stopped")
        await seen.until(lambda: not seen.main.store.under_way)
        await seen.press("escape", "f5")
        await seen.until(lambda: len(seen.runs) == 2)
        assert seen.main.sampler.chosen is None, "another run, or the same resumed, has another newest state"


async def test_of_a_run_under_way_only_checkpoints_that_stay_are_offered(workshop: Any, seen: Any) -> None:
    run = await with_checkpoints(seen, workshop)
    await crosshair_before(seen, 201)
    await reads(seen, "at or before step 200 is checkpoint_step_160.pt, of step 160.")
    await seen.press("escape")
    run.finish(200, "stopped")
    await seen.status_is("STOPPED")
    await seen.press("enter")
    await reads(seen, "at or before step 200 is last.pt, of step 180.")
    await reads(seen, "Resume this run from it")
    await seen.press("r")
    await seen.until(lambda: len(seen.runs) == 2)
    spec = seen.run.job
    assert (spec.folder, spec.resume_from, spec.changes) == (run.folder, run.folder / "last.pt", {})


async def test_f1_explains_going_back(workshop: Any, seen: Any) -> None:
    await with_checkpoints(seen, workshop)
    await crosshair_before(seen, 150)
    await seen.press("f1")
    await reads(seen, "Going back")
    await reads(seen, TOPICS["rewind"])


async def test_without_a_checkpoint_before_the_step_the_first_is_named(workshop: Any, seen: Any) -> None:
    await with_checkpoints(seen, workshop)
    await crosshair_before(seen, 50)
    await reads(seen, "No checkpoint to go back to")
    await reads(seen, "or before; its first is of step 80. Each epoch leaves one, and so does F7.")
    await seen.press("r", "b")
    assert isinstance(seen.app.screen, Question), "there is nothing but to close it"


@pytest.mark.parametrize("end", ["ends", "cannot"])
async def test_a_rewind_that_is_no_longer_possible_is_said(workshop: Any, seen: Any, end: str) -> None:
    run = await with_checkpoints(seen, workshop)
    await crosshair_before(seen, 150)
    if end == "ends":
        run.finish(200, "stopped")
        await seen.until(lambda: not seen.main.store.under_way)
    (run.folder / "checkpoint_epoch_1.pt").unlink()
    await seen.press("r")
    if end == "cannot":
        assert isinstance(run.sent[-1], Stop)
        run.finish(200, "stopped")
    await seen.until(lambda: "checkpoint_epoch_1.pt is gone: the run was not resumed." in seen.log)
    assert len(seen.runs) == 1


async def test_a_branch_takes_other_settings_and_leaves_a_run_under_way_to_itself(workshop: Any, seen: Any) -> None:
    run = await with_checkpoints(seen, workshop)
    await crosshair_before(seen, 150)
    await seen.press("b")
    for text, said in (
        ("dropout=2", "dropout: 2 is out of bounds"), ("dropuot=0.2", "did you mean dropout?"),
        ("dropout", "dropout: write name=value"), ("model_dim=32", "model_dim: cannot change on resume"),
        ("data='a", "a quotation mark"), (f"output_dir={run.folder}", "is the run to branch from"),
    ):  # fmt: skip
        await seen.press("ctrl+u", *text, "enter")
        await reads(seen, said)
    await seen.press("ctrl+u", *"dropout=0.3 learning_rate=0.0005", "enter")
    await seen.until(lambda: len(seen.runs) == 2)
    spec = seen.run.job
    assert (spec.folder, spec.resume_from) == (Path(f"{run.folder}-1"), run.folder / "checkpoint_epoch_1.pt")
    assert spec.changes == {"dropout": 0.3, "learning_rate": 0.0005} and not spec.continues
    assert seen.cells["dropout"].value == "0.3" and seen.main.store.folder == spec.folder
    await seen.until(lambda: f"{run.folder} runs on by itself." in seen.log)
    assert run.left and not any(isinstance(command, Stop) for command in run.sent)


async def test_a_paused_run_is_left_for_a_branch_only_after_a_question(workshop: Any, seen: Any) -> None:
    run = await with_checkpoints(seen, workshop)
    await seen.press("f6")
    await crosshair_before(seen, 150)
    await seen.press("b", "enter")
    await reads(seen, "is paused; if it was paused from a console, it saves and exits.")
    await seen.press("c")
    assert len(seen.runs) == 1 and seen.main.store.folder == run.folder
    await seen.press("enter", "b", "enter", "l")
    await seen.until(lambda: len(seen.runs) == 2)


async def test_a_run_in_the_list_is_branched_at_its_newest_checkpoint_or_a_step(workshop: Any, make: Any) -> None:
    early = workshop.saved(20, "checkpoint_step_20.pt", "hand")
    folder = make("old", early, workshop.finished(40), dropout=0.25)
    (folder / "checkpoint_step_20.pt").write_bytes(b"weights")
    make("other")
    (workshop.folder / "runs" / "other" / "last.pt").unlink()
    async with workshop.console((80, 24), toasts=True) as seen:
        runs = await seen.open_list(2)
        await to(seen, runs, "other")
        await seen.press("b", *"20")
        await reads(seen, "has no checkpoint to")
        await seen.press("escape")
        for typed, checkpoint in ((), "last.pt"), (("ctrl+u", *"39"), "checkpoint_step_20.pt"):
            runs = seen.app.screen if seen.app.screen is runs else await seen.open_list(2)
            await to(seen, runs, "old")
            await seen.press("b")
            await seen.until(lambda: isinstance(seen.app.screen, Entry))
            await reads(seen, "Saved at step 20, 40.")
            await seen.press("ctrl+u", *"x", "enter")
            await reads(seen, "write a number of steps")
            await seen.press("ctrl+u", *"19", "enter")
            await reads(seen, "or before; its first")
            await seen.press("ctrl+u", *"40", *typed, "enter")
            await reads(seen, f"from {checkpoint}.")
            await seen.press("escape")
            assert seen.app.screen is seen.main and seen.runs == []
        runs = await seen.open_list(2)
        await to(seen, runs, "old")
        await seen.press("b")
        await reads(seen, "Saved at step 20, 40.")
        await seen.press("enter", *"epochs=9", "enter")
        await seen.until(lambda: seen.runs)
        spec = seen.run.job
        assert (spec.folder, spec.resume_from, spec.changes) == (Path("runs/old-1"), folder / "last.pt", {"epochs": 9})
        assert seen.cells["dropout"].value == "0.25" and seen.cells["epochs"].value == "9", "its parent's, but for that"


async def test_a_step_can_be_typed_while_the_journal_is_still_read(
    workshop: Any, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make("old", workshop.saved(20, "checkpoint_step_20.pt", "hand"), workshop.finished(40))
    (folder / "checkpoint_step_20.pt").write_bytes(b"weights")
    read = threading.Event()

    def slowly(*arguments: Any, **options: Any) -> RunHistory:
        read.wait(10)
        return read_history(*arguments, **options)

    monkeypatch.setattr("fundamentallm_tui.screens.runs.read_history", slowly)
    async with workshop.console((80, 24)) as seen:
        await seen.open_list(1)
        await seen.press("b", *"30", "enter")
        await reads(seen, "its journal is still being read; press enter again")
        read.set()
        await reads(seen, "Saved at step 20, 40.")
        await seen.press("enter")
        await reads(seen, "from checkpoint_step_20.pt.")


async def test_a_journal_that_cannot_be_read_is_said_after_enter_too(
    workshop: Any, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    make("old", workshop.finished(40))

    def unreadable(*_: Any, **__: Any) -> None:
        raise UserError("its disk is gone")

    monkeypatch.setattr("fundamentallm_tui.screens.runs.read_history", unreadable)
    async with workshop.console((80, 24)) as seen:
        await seen.open_list(1)
        await seen.press("b")
        await reads(seen, "its disk is gone")
        await seen.press("x", "enter")
        await reads(seen, "write a number of steps")
        await seen.press("ctrl+u", *"30", "enter")
        await reads(seen, "its disk is gone")


async def test_of_a_live_run_in_the_list_only_checkpoints_that_stay_are_branched(workshop: Any, make: Any) -> None:
    folder = make("live")
    async with workshop.console(toasts=True) as seen:
        with alive(folder):
            await seen.open_list(1)
            await seen.press("b")
            await reads(seen, "has no checkpoint to")
