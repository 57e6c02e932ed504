"""`--resume auto`: the same command, typed again after whatever happened, goes on as if nothing had."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fundamentallm.run import events
from fundamentallm.run.history import read_history
from fundamentallm.train.checkpoint import load
from tests.conftest import journal_events

Run = Callable[..., Any]
EPOCH = 11  # steps

# Kills its process before a step is taken, counted from 0; `send_command` reaches the run between two steps.
AT_STEPS = """
import os, signal
from pathlib import Path
from fundamentallm.run.commands import Set, Stop
from fundamentallm.run.journal import send_command
from fundamentallm.train.step import TrainStep
from tests.conftest import journal_events
take = TrainStep.__call__
def stumble(self, step, *rest):
    taken = take(self, step, *rest)
    {0}
    return taken
TrainStep.__call__ = stumble
"""
KILL = "os.kill(os.getpid(), signal.SIGKILL)"
SET = "send_command(Path('run'), Set(setting='learning_rate', value={value}, who='ada'))"


def at(plan: dict[int, str]) -> str:
    """What a process does after it took a step and before anybody heard of it; steps are counted from 1."""
    return AT_STEPS.format("\n    ".join(f"if step == {step - 1}: {act}" for step, act in plan.items()))


def assert_same_end(a: Path, b: Path) -> None:
    ours, theirs = load(a / "final_model.pt"), load(b / "final_model.pt")
    for part in ("model", "optimizer"):
        x, y = getattr(ours, part), getattr(theirs, part)
        assert x.keys() == y.keys() and all(x[name].equal(y[name]) for name in x), part
    assert {**ours.counters, "seconds": 0, "said": 0} == {**theirs.counters, "seconds": 0, "said": 0}
    one, two = read_history(a), read_history(b)
    assert list(one.steps) == list(two.steps) and list(one.train_loss) == list(two.train_loss)
    assert list(one.learning_rate) == list(two.learning_rate)
    assert [(e.step, e.val_loss) for e in one.evaluations] == [(e.step, e.val_loss) for e in two.evaluations]


# ---- the command ----


def test_it_starts_afresh_goes_on_and_is_content_at_the_end(run: Run, tiny: list[str], tmp_path: Path) -> None:
    assert run(*tiny, "--output-dir=whole", "--epochs=2", "--save-every=4").status == 0
    again = [*tiny, "--output-dir=run", "--epochs=2", "--save-every=4", "--resume=auto"]
    first = run(*again, prepare=at({15: KILL}))
    assert first.status == -9 and "writing to run\n" in first.err
    second = run(*again)
    assert second.status == 0, second.err
    assert "writing to run\nresumed from run/last.pt at step 12 of " in second.err
    assert_same_end(tmp_path / "run", tmp_path / "whole")
    starts = journal_events(tmp_path / "run", events.RunStarted)
    assert [(start.step, start.recovered) for start in starts] == [(0, True), (12, True)]
    assert starts[0].config == starts[1].config

    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    for _ in range(2):
        ended = run(*again)
        assert (ended.status, ended.out) == (0, "")
        assert ended.err.count("\n") == 1 and "epoch 2 of 2 is done; give a larger total with --epochs" in ended.err
        assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before

    longer = run(*again, "--epochs=3")  # typed later: it wins
    assert longer.status == 0, longer.err
    assert run(*tiny, "--output-dir=three", "--epochs=3", "--save-every=4").status == 0
    assert load(tmp_path / "run" / "final_model.pt").progress().step == 3 * EPOCH
    assert list(read_history(tmp_path / "run").steps) == list(range(1, 3 * EPOCH + 1))
    assert run(*again, "--epochs=3").status == 0  # and is no news the second time


def test_what_was_typed_is_not_lost_by_a_kill_before_it_was_saved(run: Run, tiny: list[str], tmp_path: Path) -> None:
    again = [*tiny, "--output-dir=run", "--epochs=2", "--save-every=4", "--resume=auto"]
    assert run(*again, prepare=at({6: SET.format(value=0.001), 7: KILL})).status == -9  # set after step 4 was saved
    assert run(*again, "--weight-decay=0.05", "--learning-rate=0.002", prepare=at({7: KILL})).status == -9
    assert run(*again, "--weight-decay=0.05", "--learning-rate=0.002").status == 0
    config = load(tmp_path / "run" / "final_model.pt").settings()
    assert (config.weight_decay, config.learning_rate) == (0.05, 0.002)


def test_a_flag_that_differs_from_the_starts_is_obeyed_and_the_others_are_not_typed(
    run: Run, tiny: list[str], tmp_path: Path
) -> None:
    """A learning rate that somebody changed during the run is not undone by the flags of the start."""
    again = [*tiny, "--output-dir=run", "--epochs=2", "--save-every=4", "--resume=auto"]
    assert run(*again, prepare=at({6: SET.format(value=0.001), 15: KILL})).status == -9
    assert run(*again, "--epochs=4", "--weight-decay=0.05", "--eval-every=5").status == 0
    config = load(tmp_path / "run" / "final_model.pt").settings()
    assert (config.epochs, config.weight_decay, config.eval_every, config.learning_rate) == (4, 0.05, 5, 0.001)
    assert load(tmp_path / "run" / "final_model.pt").progress().step == 4 * EPOCH
    assert [event.step for event in journal_events(tmp_path / "run", events.Evaluated)] == [
        11,
        15,
        20,
        22,
        25,
        30,
        33,
        35,
        40,
        44,
    ]


def test_the_newest_whole_checkpoint_is_used_and_a_damaged_one_named(run: Run, tiny: list[str], tmp_path: Path) -> None:
    assert run(*tiny, "--output-dir=whole", "--epochs=2").status == 0
    again = [*tiny, "--output-dir=run", "--epochs=2", "--save-every=4", "--resume=auto"]
    assert run(*again, prepare=at({18: KILL})).status == -9
    last = tmp_path / "run" / "last.pt"  # of step 16; before it, the end of epoch 1
    last.write_bytes(last.read_bytes()[:-100])
    second = run(*again)
    assert second.status == 0 and "run/last.pt: is damaged" in second.err and "at step 11 of 22" in second.err
    assert_same_end(tmp_path / "run", tmp_path / "whole")


def test_a_folder_whose_checkpoints_are_all_gone_starts_afresh(run: Run, tiny: list[str], tmp_path: Path) -> None:
    assert run(*tiny, "--output-dir=whole", "--epochs=1").status == 0
    again = [*tiny, "--output-dir=run", "--epochs=1", "--resume=auto"]
    assert run(*again, prepare=at({7: KILL})).status == -9
    for path in (tmp_path / "run").glob("*.pt"):
        path.unlink()
    second = run(*again)
    assert second.status == 0 and "writing to run\n" in second.err
    assert_same_end(tmp_path / "run", tmp_path / "whole")


def test_what_cannot_be_is_one_line(run: Run, tiny: list[str], tmp_path: Path) -> None:
    needs = "--resume auto: needs --output-dir, and neither --resume-from nor --overwrite\n"
    folder = "--output-dir=run"
    for wrong in ([], [folder, "--overwrite"], [folder, "--resume-from=run/last.pt"], ["--preset=tiny"]):
        refused = run(*tiny, "--resume=auto", *wrong)
        assert (refused.status, refused.out, refused.err) == (2, "", needs), wrong
    assert run(*tiny, folder, "--resume=now").err.count("\n") == 1
    assert run(*tiny, folder, "--resume=auto", "--epochs=0").err.startswith("--epochs: 0 is out of bounds")
    assert not (tmp_path / "run").exists()

    assert run(*tiny, folder, "--resume=auto", "--epochs=1").status == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    (tmp_path / "text.txt").write_text("Another text. " * 200)
    other = run(*tiny, folder, "--resume=auto", "--epochs=2")
    assert (other.status, other.out) == (2, "")
    assert other.err == (
        "text.txt: is not the text that run/last.pt was trained on; restore the text, or start a new run\n"
    )
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def test_a_dry_run_of_it_looks_at_the_run_that_would_go_on(run: Run, tiny: list[str], tmp_path: Path) -> None:
    again = [*tiny, "--output-dir=run", "--epochs=2", "--save-every=4", "--resume=auto"]
    assert run(*again, prepare=at({15: KILL})).status == -9
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    looked = run(*again, "--dry-run")
    assert (looked.status, looked.err) == (0, ""), looked.err
    assert "2 epochs, 22 steps, 10 left\n" in looked.out
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def test_last_pt_is_written_every_n_steps_and_at_the_ends_of_epochs_across_a_kill(
    run: Run, tiny: list[str], tmp_path: Path
) -> None:
    again = [*tiny, "--output-dir=run", "--epochs=3", "--save-every=4", "--resume=auto"]
    assert run(*again, prepare=at({18: KILL})).status == -9
    assert run(*again).status == 0
    saved = [
        event.step for event in journal_events(tmp_path / "run", events.CheckpointSaved) if event.path == "last.pt"
    ]
    assert saved == [0, 4, 8, 11, 12, 16, 20, 22, 24, 28, 32, 33]  # 0: the start


# ---- interventions ----

CHANGES = {6: SET.format(value=0.02), 20: f"{SET.format(value=0.001)}; {SET.format(value=0.004)}"}
BEFORE_THE_NEXT_STEP = """
from fundamentallm.run.journal import Journal
from tests.conftest import journal_events
sync = Journal.sync
def once(self):
    sync(self)
    if b'"intervention"' in Path("run/journal.jsonl").read_bytes(): os.kill(os.getpid(), signal.SIGKILL)
Journal.sync = once
"""


@pytest.mark.parametrize("kills", [(9, 17), (7, 22), (20, 21), ("fsync", 23)], ids=str)
def test_what_a_person_changed_is_made_again_after_every_kill(
    run: Run, tiny: list[str], tmp_path: Path, kills: tuple[int | str, int]
) -> None:
    """Saved every 5 steps, changed after 6 and 20: killed before and after saves, in the change itself."""
    again = [*tiny, "--output-dir=run", "--epochs=3", "--save-every=5", "--resume=auto"]
    assert run(*again, prepare=at(CHANGES)).status == 0
    (tmp_path / "run").rename(tmp_path / "whole")
    assert load(tmp_path / "whole" / "final_model.pt").settings().learning_rate == 0.004
    pending = dict(CHANGES)
    for kill in kills:
        if kill == "fsync":
            plan, prepare = pending, at(pending) + BEFORE_THE_NEXT_STEP
            pending = {step: act for step, act in pending.items() if step > 6}
        else:
            plan = {step: act for step, act in pending.items() if step < int(kill)}
            pending = {step: act for step, act in pending.items() if step > int(kill)}
            # a person who gives an order in the very instant of the kill gives it again
            pending |= {int(kill): CHANGES[int(kill)]} if kill in CHANGES else {}
            prepare = at({**plan, int(kill): KILL})
        killed = run(*again, prepare=prepare)
        assert killed.status == -9, killed.err
    ended = run(*again, prepare=at(pending))
    assert ended.status == 0, ended.err
    assert_same_end(tmp_path / "run", tmp_path / "whole")
    story = [(event.step, event.new, event.who) for event in read_history(tmp_path / "run").interventions_from(0)]
    assert story == [(6, 0.02, "ada"), (20, 0.001, "ada"), (20, 0.004, "ada")]


@pytest.fixture
def taken_back(run: Run, tiny: list[str], tmp_path: Path) -> list[str]:
    """A run that was changed after 3 and 6 steps, taken back to 4 by hand, and killed; the command it began with."""
    again = [*tiny, "--output-dir=run", "--epochs=2", "--save-every=4", "--resume=auto"]
    assert run(*again, prepare=at({3: SET.format(value=0.02), 6: SET.format(value=0.001), 7: KILL})).status == -9
    assert load(tmp_path / "run" / "last.pt").progress().step == 4
    assert run("train", "--resume-from", "run/last.pt", prepare=at({17: KILL})).status == -9
    assert load(tmp_path / "run" / "last.pt").progress().step == 16
    return again


def test_resume_from_by_hand_leaves_later_changes_behind(
    run: Run, tiny: list[str], tmp_path: Path, taken_back: list[str]
) -> None:
    # neither do they come back through a later recovery
    assert run(*(word for word in taken_back if "learning-rate" not in word)).status == 0
    assert load(tmp_path / "run" / "final_model.pt").settings().learning_rate == 0.02
    assert [(event.step, event.new) for event in read_history(tmp_path / "run").interventions_from(0)] == [(3, 0.02)]
    rates = read_history(tmp_path / "run").learning_rate
    assert run(*tiny, "--output-dir=plain", "--epochs=2", "--learning-rate=0.02").status == 0
    assert list(rates)[3:] == list(read_history(tmp_path / "plain").learning_rate)[3:]


def test_the_flags_of_the_start_change_nothing_also_after_a_resume_by_hand(
    run: Run, tmp_path: Path, taken_back: list[str]
) -> None:
    assert run(*taken_back).status == 0
    assert load(tmp_path / "run" / "final_model.pt").settings().learning_rate == 0.02


def test_the_advice_of_stop_and_watch_can_be_typed_as_it_stands(run: Run, tiny: list[str], tmp_path: Path) -> None:
    assert run(*tiny, "--epochs=4", "--output-dir=run", "--keep-checkpoints=1", prepare=at({7: KILL})).status != 0
    for words in (["stop", "run"], ["watch", "run"]):
        refused = run(*words)
        assert refused.status in (1, 2) and refused.err.endswith("train --resume auto --output-dir run\n")
    ended = run("train", "--resume=auto", "--output-dir=run")
    assert ended.status == 0 and load(tmp_path / "run/final_model.pt").progress().step == 4 * 11


def test_a_preset_that_says_otherwise_is_not_passed_over_in_silence(run: Run, tiny: list[str], tmp_path: Path) -> None:
    assert run(*tiny, "--epochs=1", "--output-dir=run").status == 0
    data = next(word for word in tiny if word.endswith(".txt"))
    ended = run("train", data, "--preset=tiny", "--epochs=2", "--output-dir=run", "--resume=auto")
    assert ended.status == 0 and "run keeps its own max_seq_len" in ended.err
    assert load(tmp_path / "run/last.pt").settings().model_dim == 16
