"""A branch ends in its parent's bits, and a run that repeats another's changes in that run's."""

from dataclasses import replace
from pathlib import Path

import pytest

from fundamentallm.cli import main
from fundamentallm.run import events
from fundamentallm.run.commands import Command, Save, Set, Stop
from fundamentallm.run.history import read_history
from fundamentallm.run.locks import RunLock
from fundamentallm.run.spec import RunSpec
from fundamentallm.train.checkpoint import load
from tests.conftest import journal_events
from tests.engine.conftest import EPOCH, Ran, assert_same_end, run_here, same_tensors
from tests.engine.train.conftest import Small, Train, Trained


def changing(setting: str, value: object) -> Command:
    return Set(setting=setting, value=value, who="ann")


CHANGES: dict[int, list[Command]] = {
    3: [changing("learning_rate", 0.01)], 9: [changing("dropout", 0.4), changing("weight_decay", 0.0)],
    11: [changing("momentum", 1)],  # which is refused
    EPOCH: [changing("learning_rate", 0.002)],
    EPOCH + 1: [Set(setting="learning_rate", value=0.01, who="ann", undoes=True)],
    EPOCH + 5: [changing("gradient_clip", 0.5)],
}  # fmt: skip


def changes_of(folder: Path) -> tuple[events.Intervention, ...]:
    return tuple(read_history(folder, steps=False).changes_made())


def values_of(folder: Path) -> list[tuple[int, str, object]]:
    return [(change.step, change.setting, change.new) for change in journal_events(folder, events.Intervention)]


def same_bits(*folders: Path) -> bool:
    ours, theirs = (load(folder / "final_model.pt") for folder in folders)
    return same_tensors(ours.model, theirs.model) and same_tensors(ours.optimizer, theirs.optimizer)


def branch(parent: Path, folder: Path, step: int, *flags: str) -> int:
    return main(["branch", str(parent), f"--at-step={step}", f"--output-dir={folder}", "--quiet", *flags])


def test_a_branch_without_other_settings_ends_in_its_parents_bits(train: Train, tmp_path: Path) -> None:
    parent = train(script={7: [Save()]})
    before = {path.name: path.read_bytes() for path in parent.folder.iterdir()}
    for step, expected in (
        (7, "checkpoint_step_7.pt"),
        (EPOCH - 1, "checkpoint_step_7.pt"),
        (EPOCH, "checkpoint_epoch_1.pt"),
    ):
        folder = tmp_path / f"branch {step}"
        assert branch(parent.folder, folder, step) == 0
        [start] = journal_events(folder, events.RunStarted)
        assert (start.resumed_from, start.step) == (
            str(parent.folder / expected),
            min(step, 7 if step < EPOCH else step),
        )
        assert same_bits(parent.folder, folder)
    assert {path.name: path.read_bytes() for path in parent.folder.iterdir()} == before


def test_a_branch_takes_other_settings_and_the_first_free_name(
    train: Train, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parent = train(script={7: [Save()]})
    for number in (1, 2):
        assert main(["branch", "run", "--at-step=7", "--dropout=0.3", "--quiet"]) == 0
        [start] = journal_events(Path(f"runs/run-{number}"), events.RunStarted)
        assert (start.step, start.changes, start.config["dropout"]) == (7, {"dropout": 0.3}, 0.3)
    branched = run_here(
        RunSpec(parent.trainer.state.config, here / "by hand", parent.folder / "checkpoint_step_7.pt", {"dropout": 0.3})
    )
    assert same_bits(branched.folder, Path("runs/run-1"))
    capsys.readouterr()
    checkpoint = "run has no checkpoint of step 6 or before; its first is of step 7\n"
    own = "is the run to branch from, which stays as it is; name another folder\n"
    Path("link").symlink_to("run")
    shape = "--model-dim: cannot change on resume: the checkpoint has 16; leave it out\n"
    for words, said in (
        (["run", "--at-step=6"], checkpoint), (["run", "--at-step=7", "--model-dim=32"], shape),
        (["run", "--at-step=7", "--output-dir=run", "--resume=auto"], "--resume: no such option; "),
        (["nowhere", "--at-step=7"], "nowhere: no such run; "),
        (["run", "--at-step=7", "--output-dir=run"], f"run: {own}"),
        (["link", "--at-step=7", "--output-dir=run", "--overwrite"], f"run: {own}"),
        (["run", "--at-step=7", "--output-dir=./link", "--dry-run"], f"link: {own}"),
    ):  # fmt: skip
        assert main(["branch", *words]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and error.startswith(said)
    assert not Path("runs/run-3").exists() and len(journal_events(parent.folder, events.RunStarted)) == 1


def test_a_checkpoint_that_the_run_left_behind_is_no_place_to_branch_at(train: Train, tmp_path: Path) -> None:
    train(script={7: [Save()], 12: [Save()], 13: [Stop()]})
    train(resume_from=tmp_path / "run" / "checkpoint_step_7.pt", script={9: [Stop()]})
    for step, expected in ((12, 9), (8, 7)):
        assert branch(tmp_path / "run", tmp_path / f"branch {step}", step) == 0
        assert journal_events(tmp_path / f"branch {step}", events.RunStarted)[0].step == expected
    with RunLock(tmp_path / "run"):  # while a process writes the run, its last.pt of step 9 is soon another state
        assert branch(tmp_path / "run", tmp_path / "third", 12) == 0
    assert journal_events(tmp_path / "third", events.RunStarted)[0].step == 7


def test_a_run_that_repeats_the_changes_of_another_ends_in_its_bits(
    train: Train, small: Small, trained: Trained, tmp_path: Path
) -> None:
    original = train(name="original", script=dict(CHANGES))
    folder = tmp_path / "replay"
    planned = changes_of(original.folder)
    run_here(RunSpec(small(), folder, planned=planned))
    assert_same_end(folder, original.folder)
    assert values_of(folder) == values_of(original.folder) and len(values_of(folder)) == 6
    assert {change.who for change in journal_events(folder, events.Intervention)} == {"ann"}
    assert not same_tensors(original.weights, trained().weights)  # the changes matter


@pytest.mark.parametrize("at", [2, 9, 12, EPOCH + 4])
@pytest.mark.parametrize("auto", [True, False], ids=["auto", "from last.pt"])
def test_a_replay_that_was_stopped_makes_the_remaining_changes(
    train: Train, small: Small, tmp_path: Path, at: int, auto: bool
) -> None:
    original = train(name="original", script=dict(CHANGES))
    planned = changes_of(original.folder)
    folder = tmp_path / "replay"
    assert not run_here(RunSpec(small(), folder, planned=planned), script={at: [Stop()]}).warnings
    run_here(RunSpec(small(), folder, None if auto else folder / "last.pt", auto=auto))
    assert_same_end(folder, original.folder)
    made = changes_of(folder)
    assert [change.undoes for change in made] == [change.undoes for change in planned] and made[-2].undoes


def test_a_replay_that_goes_back_makes_the_changes_after_that_step_again(
    train: Train, small: Small, tmp_path: Path
) -> None:
    original, folder = train(name="original", script=dict(CHANGES)), tmp_path / "replay"
    planned = changes_of(original.folder)
    run_here(RunSpec(small(), folder, planned=planned), script={2: [Save()], 12: [Stop()]})
    run_here(RunSpec(small(), folder, folder / "last.pt"), script={14: [Stop()]})  # of step 12: what remains is less
    run_here(RunSpec(small(), folder, folder / "checkpoint_step_2.pt"))
    assert_same_end(folder, original.folder)


def test_a_change_that_this_run_cannot_make_is_said_and_the_run_goes_on(
    small: Small, train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(name="original", script={EPOCH + 2: [changing("epochs", 3)]})
    planned = changes_of(tmp_path / "original")
    unfit = events.Intervention(step=1, setting="optimizer", old="muon", new="adamw", who="ann")
    already = events.Intervention(step=2, setting="dropout", old=0.3, new=0.1, who="ann")
    late = events.Intervention(step=200, setting="dropout", old=0.1, new=0.3, who="ann")
    ran: Ran = run_here(RunSpec(small(), tmp_path / "replay", planned=(unfit, already, *planned, late)))
    refused = [event for event in ran.of(events.Answered) if not event.ok]
    assert [event.why.split(";")[0] for event in refused] == ["optimizer: cannot change during a run"]
    assert ran.result.step == 3 * EPOCH and values_of(ran.folder) == [(EPOCH + 2, "epochs", 3)]
    left_out = "left out 1 change of the other run, at step 200 or later"
    assert ran.warnings == [f"{left_out}: this run ended at step {3 * EPOCH}"]
    text = tmp_path / "text.txt"
    text.write_text("the sea")
    for journal, why in ((tmp_path / "nowhere.jsonl", "no such file or run; "), (text, "is a file in no run's folder")):
        capsys.readouterr()
        assert main(["train", "--apply-interventions", str(journal), str(text)]) == 2
        assert capsys.readouterr().err.startswith(f"{journal}: {why}")
    with (tmp_path / "original" / events.JOURNAL).open("a") as file:
        file.write(events.encode(replace(late, new="abc", seq=1000)) + "\n")
    main(["train", "--apply-interventions", str(tmp_path / "original"), str(text), "--dry-run"])
    left_out = "left out 1 damaged or unknown change, at step 200 or later"
    assert capsys.readouterr().err.startswith(f"{tmp_path / 'original'}: {left_out}\n")


def test_a_run_with_changes_and_two_rewinds_ends_as_its_replay(train: Train, small: Small, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train(script={6: [changing("dropout", 0.3), Save()], 11: [changing("learning_rate", 0.02)], 15: [Stop()]})
    later: dict[int, list[Command]] = {12: [changing("weight_decay", 0.5)], 16: [Save()], 20: [Stop()]}
    train(resume_from=folder / "checkpoint_step_6.pt", gradient_clip=0.3, script=later)
    last = {18: [changing("learning_rate", 0.004)], 25: [changing("epochs", 3)], 30: [changing("epochs", 2)]}
    train(resume_from=folder / "checkpoint_step_16.pt", script=last)
    planned = changes_of(folder)
    assert len(planned) == 1 + 1 + 1 + 3  # that of step 11 was left behind
    replay = run_here(RunSpec(small(), tmp_path / "replay", planned=planned))
    assert_same_end(replay.folder, folder)
