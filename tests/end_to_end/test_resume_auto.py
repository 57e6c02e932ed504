"""`--resume auto`: the same command, typed again after whatever happened, continues the run.

That it reaches the same bits however a run ended is the matter of tests/engine/train/test_resume.py and of the torture.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fundamentallm.run import events
from fundamentallm.run.history import read_history
from fundamentallm.train.checkpoint import load
from tests.compare_runs import difference
from tests.conftest import file_contents, journal_events
from tests.end_to_end.conftest import EPOCH

Run = Callable[..., Any]

# Runs the lines of {0} in the process of a run after it took a step and before it reported it.
AFTER_STEPS = """
import os, signal
from pathlib import Path
from fundamentallm.run.commands import Set
from fundamentallm.run.journal import send_command
from fundamentallm.train.step import TrainStep
take = TrainStep.__call__
def take_step(self, step, *rest):
    taken = take(self, step, *rest)
    {0}
    return taken
TrainStep.__call__ = take_step
"""
KILL = "os.kill(os.getpid(), signal.SIGKILL)"


def set_rate(value: float) -> str:
    return f"send_command(Path('run'), Set(setting='learning_rate', value={value}, who='ada'))"


def after(plan: dict[int, str]) -> str:
    """What a process does after so many steps."""
    return AFTER_STEPS.format("\n    ".join(f"if step == {step - 1}: {act}" for step, act in plan.items()))


@pytest.fixture
def again(tiny: list[str]) -> list[str]:
    """The command that starts the run and continues it."""
    return [*tiny, "--output-dir=run", "--epochs=2", "--save-every=4", "--resume=auto"]


def test_it_starts_a_run_resumes_it_and_does_nothing_at_its_end(
    run: Run, tiny: list[str], again: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    assert run(*tiny, "--output-dir=whole", "--epochs=2", "--save-every=4").status == 0
    first = run(*again, prepare=after({15: KILL}))
    assert first.status == -9 and "writing to run\n" in first.err
    before = file_contents(folder)
    dry = run(*again, "--dry-run")
    assert (dry.status, dry.err) == (0, "") and "2 epochs, 22 steps, 10 left\n" in dry.out
    assert file_contents(folder) == before
    second = run(*again)
    assert second.status == 0 and "resumed from run/last.pt at step 12 of 22\n" in second.err, second.err
    assert difference(folder, tmp_path / "whole") == ""
    starts = journal_events(folder, events.RunStarted)
    assert [(start.step, start.recovered) for start in starts] == [(0, True), (12, True)]
    assert starts[0].config == starts[1].config

    before = file_contents(folder)
    for _ in range(2):
        ended = run(*again)
        assert (ended.status, ended.out) == (0, "")
        assert ended.err.count("\n") == 1 and "epoch 2 of 2 is done; give a larger total with --epochs" in ended.err
        assert file_contents(folder) == before
    assert run(*again, "--epochs=3").status == 0
    assert list(read_history(folder).steps) == list(range(1, 3 * EPOCH + 1))
    assert run(*again, "--epochs=3").status == 0  # and is at its end again


def test_flags_that_were_added_are_obeyed_and_the_others_do_not_undo_what_was_set_meanwhile(
    run: Run, again: list[str], tmp_path: Path
) -> None:
    more = ["--epochs=4", "--weight-decay=0.05", "--eval-every=5"]
    last = tmp_path / "run" / "last.pt"
    assert run(*again, prepare=after({6: set_rate(0.001), 7: KILL})).status == -9
    assert run(*again, *more, prepare=after({7: KILL})).status == -9  # before the flags were saved
    assert run(*again, *more, prepare=after({14: KILL})).status == -9
    config = load(last).settings()
    assert (config.epochs, config.weight_decay, config.eval_every, config.learning_rate) == (4, 0.05, 5, 0.001)
    assert run(*again, *more, "--learning-rate=0.002").status == 0
    assert load(last).settings().learning_rate == 0.002 and load(last).progress().step == 4 * EPOCH
    steps = [event.step for event in journal_events(tmp_path / "run", events.Evaluated)]
    assert steps == [5, 10, 11, 15, 20, 22, 25, 30, 33, 35, 40, 44]


def test_what_is_refused_is_one_line_and_changes_nothing(run: Run, tiny: list[str], tmp_path: Path) -> None:
    needs = "--resume auto: needs --output-dir, and neither --resume-from nor --overwrite\n"
    folder = "--output-dir=run"
    for wrong in ([], [folder, "--overwrite"], [folder, "--resume-from=run/last.pt"], ["--preset=tiny"]):
        refused = run(*tiny, "--resume=auto", *wrong)
        assert (refused.status, refused.out, refused.err) == (2, "", needs), wrong
    assert run(*tiny, folder, "--resume=now").err.count("\n") == 1
    assert run(*tiny, folder, "--resume=auto", "--epochs=0").err.startswith("--epochs: 0 is out of bounds")
    assert not (tmp_path / "run").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "best.pt").write_text("mine")
    other = run(*tiny, "--output-dir=mine", "--resume=auto")
    assert (other.status, other.err.count("\n")) == (2, 1) and "holds a best.pt that belongs to no run" in other.err
    assert (tmp_path / "mine" / "best.pt").read_text() == "mine"

    assert run(*tiny, folder, "--resume=auto", "--epochs=1").status == 0
    before = file_contents(tmp_path / "run")
    (tmp_path / "text.txt").write_text("Another text. " * 200)
    other = run(*tiny, folder, "--resume=auto", "--epochs=2")
    assert (other.status, other.out) == (2, "")
    assert other.err == (
        "text.txt: is not the text that run/last.pt was trained on; restore the text, or start a new run\n"
    )
    assert file_contents(tmp_path / "run") == before


def test_resuming_by_hand_leaves_later_changes_behind_for_good(
    run: Run, tiny: list[str], again: list[str], tmp_path: Path
) -> None:
    """Changed after 3 and 6 steps, taken back to 4 by hand, killed, and recovered by the first command."""
    folder = tmp_path / "run"
    assert run(*again, prepare=after({3: set_rate(0.02), 6: set_rate(0.001), 7: KILL})).status == -9
    assert load(folder / "last.pt").progress().step == 4
    assert run("train", "--resume-from", "run/last.pt", prepare=after({17: KILL})).status == -9
    assert load(folder / "last.pt").progress().step == 16
    assert run(*again).status == 0  # its own --learning-rate, typed at the start, changes nothing
    assert load(folder / "final_model.pt").settings().learning_rate == 0.02
    assert [(event.step, event.new) for event in read_history(folder).interventions_from(0)] == [(3, 0.02)]
    assert run(*tiny, "--output-dir=plain", "--epochs=2", "--learning-rate=0.02").status == 0
    rates, plain = (read_history(tmp_path / name).learning_rate for name in ("run", "plain"))
    assert list(rates)[3:] == list(plain)[3:]


def test_a_killed_run_is_resumed_by_its_folder_and_by_the_advice_of_stop_and_watch(
    run: Run, again: list[str], tmp_path: Path
) -> None:
    assert run(*again, prepare=after({7: KILL})).status == -9
    by_folder = run("train", "--resume-from", "run", prepare=after({10: KILL}))  # the folder stands for its last.pt
    assert by_folder.status == -9 and "resumed from run/last.pt at step 4 of 22\n" in by_folder.err
    for words in (["stop", "run"], ["watch", "run"]):
        refused = run(*words)
        assert refused.status in (1, 2) and refused.err.endswith("train --resume auto --output-dir run\n")
    assert run("train", "--resume=auto", "--output-dir=run").status == 0
    assert load(tmp_path / "run/final_model.pt").progress().step == 2 * EPOCH


def test_a_preset_that_differs_from_the_run_is_reported(run: Run, tiny: list[str], tmp_path: Path) -> None:
    assert run(*tiny, "--epochs=1", "--output-dir=run").status == 0
    ended = run("train", "text.txt", "--preset=tiny", "--epochs=2", "--output-dir=run", "--resume=auto")
    assert ended.status == 0 and "run keeps its own max_seq_len" in ended.err
    assert load(tmp_path / "run/last.pt").settings().model_dim == 16
