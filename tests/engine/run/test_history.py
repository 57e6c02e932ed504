"""What a journal means: each step once, what a resume supersedes, and how the run stands."""

import re
from collections.abc import Callable
from dataclasses import replace
from math import nan
from pathlib import Path
from typing import Any

import pytest

from fundamentallm.cli import main
from fundamentallm.errors import UserError
from fundamentallm.paths import resume_command
from fundamentallm.run.describe import describe_best
from fundamentallm.run.events import (
    JOURNAL,
    Answered,
    CheckpointFailed,
    Event,
    Failed,
    Intervention,
    Phase,
    RunStarted,
    Sampled,
)
from fundamentallm.run.history import RECENT_SPEEDS, RECENT_STEPS, RunHistory, read_history
from fundamentallm.run.locks import RunLock
from fundamentallm.run.spec import changed_flags
from fundamentallm.run.summary import changed_from_defaults, find_run, find_runs, summarize
from fundamentallm_tui.charts.palette import RunStyle
from fundamentallm_tui.charts.runs import run_entry
from tests.engine.run.conftest import CONFIG, evaluated, finished, progress, saved, started, write_journal

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Appends events to the journal of a run; returns its folder."""
    monkeypatch.chdir(tmp_path)
    return lambda name, *events: write_journal(Path(name), *events).parent


REWOUND = (
    started(), progress(1, 10), evaluated(10, 2.0), progress(11, 20), evaluated(20, 1.5), saved(20), progress(21, 27),
    started(20), progress(21, 30, loss=7.0), evaluated(30, 1.6),
    started(10), progress(11, 15, loss=8.0), progress(16, 20, loss=8.0), evaluated(20, 1.7), progress(21, 23, loss=8.0),
)  # fmt: skip


def test_no_step_appears_twice_however_often_a_run_went_back(write: Write) -> None:
    history = read_history(write("runs/a", *REWOUND))
    assert list(history.steps) == list(range(1, 24))
    assert list(history.train_loss) == [n / 100 for n in range(1, 11)] + [8 + n / 100 for n in range(11, 24)]
    assert list(history.learning_rate) == [n / 1e4 for n in range(1, 24)]
    assert list(history.grad_norm) == list(range(1, 24))
    assert [(event.step, event.val_loss) for event in history.evaluations] == [(10, 2.0), (20, 1.7)]
    assert [history.epoch_of(step) for step in (1, 10, 11, 23)] == [1, 1, 2, 3]


def test_a_summary_says_where_the_run_is_and_what_was_best(write: Write) -> None:
    summary = summarize(write("runs/a", *REWOUND))
    assert (summary.steps, summary.total_steps, summary.epoch, summary.epochs) == (23, 40, 3, 4)
    assert (summary.parameters, summary.data, summary.train_loss, summary.val_loss) == (
        1234,
        "sea.txt",
        1.0,
        1.7,
    )  # both of the last evaluation
    assert summary.best is not None  # of best.pt, which the run that went back never replaces by a worse one
    assert (summary.best.val_loss, summary.best.epoch, summary.best.step) == (1.5, 2, 20)
    assert describe_best(summary.best, summary.best_left_behind) == "1.500 left behind"
    before = summarize(write("runs/b", *REWOUND[:10]))
    assert describe_best(before.best, before.best_left_behind) == "1.500 in epoch 2"
    assert 0 < summary.started <= summary.last_event
    summary = summarize(write("runs/a", started(5)))  # what was measured later is not the last
    assert (summary.steps, summary.train_loss, summary.val_loss) == (5, None, None)


STATES = {
    "finished": (started(), progress(1, 40), finished(40)),
    "finished by patience": (started(), progress(1, 9), finished(9, "patience")),
    "stopped": (started(), progress(1, 9), finished(9, "stopped")),
    "failed": (started(), progress(1, 9), Failed(step=9, error="out of memory")),
    "interrupted": (started(), progress(1, 9), Phase(step=9, phase="paused")),
    "interrupted again": (started(), progress(1, 9), finished(9, "stopped"), started(9), progress(10, 12)),
}


def test_a_run_says_how_it_ended(write: Write) -> None:
    for state, events in STATES.items():
        summary = summarize(write(f"runs/{state}", *events))
        assert (summary.state, summary.why) == (state.split()[0], "out of memory" if state == "failed" else "")


def test_a_run_whose_lock_is_held_is_training_or_paused(write: Write) -> None:
    events = {"training": Phase(step=9, phase="training"), "paused": Phase(step=9, phase="paused")}
    folder = write("runs/a", started(), progress(1, 9))
    with RunLock(folder):
        for state, event in (*events.items(), ("finished", finished(9)), ("training", started(9))):
            write("runs/a", event)
            assert summarize(folder).state == state
    assert summarize(folder).state == "interrupted"
    RunLock(folder).release()  # a summary takes no lock


def test_a_pause_lasts_until_the_run_trains_again(write: Write) -> None:
    folder = write("runs/a", started(), progress(1, 9))
    for phases, paused in (
        ("training", False),
        ("paused", True),
        ("sampling saving stopping", True),
        ("training", False),
    ):
        write("runs/a", *(Phase(step=9, phase=phase) for phase in phases.split()))
        assert (read_history(folder).paused_at > 0) == paused


def test_a_truncated_or_unknown_line_is_skipped(write: Write) -> None:
    folder = write("runs/a", started(), progress(1, 5))
    with (folder / JOURNAL).open("ab") as file:
        file.write(b'{"event":"progress","st\n\xff\n[1]\n{"event":"progress","step":"x"}\n{"event":"new"}\n{"eve')
    assert summarize(folder).steps == 5
    assert list(read_history(folder).steps) == [1, 2, 3, 4, 5]


def test_what_is_not_finite_is_never_the_best(write: Write) -> None:
    folder = write("runs/a", started(), evaluated(1, nan), saved(1), evaluated(5, 3.0), saved(5), evaluated(9, nan))
    best = summarize(folder).best
    assert best is not None and best.val_loss == 3.0
    assert summarize(write("runs/b", started(), evaluated(1, nan), saved(1))).best is None


def test_the_best_is_the_one_that_a_file_holds(write: Write) -> None:
    failed = CheckpointFailed(step=20, path="best.pt", kind="best", why="disk full")
    events: list[Event] = [evaluated(10, 2.0), saved(10), evaluated(20, 1.0), saved(20, "last.pt"), failed, started(15)]
    events += [evaluated(20, 1.9), evaluated(25, 1.5), saved(25), saved(25, "last.pt"), started(20)]
    history, found = RunHistory(), []
    for event in (started(), *events):
        history.apply(event)
        found.append(history.best.val_loss if history.best else None)
    assert found == [None, None, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 1.5, 1.5, 1.5]  # resumed at 20: 1.5 still stands


def test_an_end_that_could_not_be_saved_is_part_of_the_state(write: Write) -> None:
    cases = (("finished", "completed", "disk full"), ("finished", "completed", ""), ("stopped", "stopped", "disk full"))
    for state, reason, unsaved in cases:
        summary = summarize(write(f"runs/{state}{unsaved}", started(), finished(9, reason, unsaved=unsaved)))
        assert (summary.state, summary.unsaved, summary.resumable) == (state, unsaved, bool(unsaved))
        assert summary.state_text == (f"{state}, NOT saved: disk full" if unsaved else state)
    resumed = summarize(write("runs/finisheddisk full", started(5)))
    assert (resumed.state, resumed.unsaved) == ("interrupted", "")


def test_runs_are_found_below_a_folder_the_newest_first(write: Write, tmp_path: Path) -> None:
    for name in ("runs/old", "runs/deep/er/new", "here", "runs/.hidden/x", "elsewhere/far"):
        write(name, started())
    write("runs/old/inner", started())
    write("runs/foreign", Sampled(step=1, id="a", prompt="", text=""))
    Path("runs/empty").mkdir()
    Path("runs/empty/journal.jsonl").write_text("")
    clock = {"runs/old": 3, "runs/deep/er/new": 5, "here": 4, "elsewhere/far": 1}
    for name, time in clock.items():
        path = Path(name, JOURNAL)
        path.write_text(path.read_text().replace('"time":', f'"time":{time},"ignored":', 1))
    assert [str(run.folder) for run in find_runs()] == ["runs/deep/er/new", "here", "runs/old"]
    assert [str(run.folder) for run in find_runs(Path("elsewhere"))] == ["elsewhere/far"]
    assert [str(run.folder) for run in find_runs(Path("here"))] == ["here"]
    assert find_runs(tmp_path / "none") == []


def test_a_run_is_found_by_folder_by_name_and_by_a_file_in_it(write: Write) -> None:
    folder = write("runs/tiny-1", started())
    (folder / "best.pt").write_text("")
    assert {find_run(name) for name in ("runs/tiny-1", "tiny-1", "runs/tiny-1/best.pt")} == {folder}
    with pytest.raises(UserError, match="tiny-2: no such run; did you mean runs/tiny-1?"):
        find_run("tiny-2")
    for name in ("qqqqqq", "a\0b", "~nobody-of-that-name/x", "y" * 5000):
        with pytest.raises(UserError, match="no such run"):
            find_run(name)


def test_a_folder_without_a_run_has_an_empty_history_and_an_unreadable_journal_is_an_error(tmp_path: Path) -> None:
    for content in (None, "{}\n"):
        if content is not None:
            (tmp_path / JOURNAL).write_text(content)
        with pytest.raises(UserError, match="holds no run"):
            summarize(tmp_path)
        (tmp_path / "last.pt").touch()
        why = f"{tmp_path}: its journal is empty or damaged; {resume_command(tmp_path)} resumes it"
        told: list[str] = []
        with pytest.raises(UserError, match=re.escape(why)):
            summarize(tmp_path)
        assert find_runs(tmp_path, unread=told.append) == [] and told == [why] * (content is not None)
        (tmp_path / "last.pt").unlink()
        history = read_history(tmp_path)
        assert (history.started, history.step, history.requested, len(history.steps)) == (None, 0, {}, 0)
    (tmp_path / JOURNAL).unlink()
    (tmp_path / JOURNAL).mkdir()
    for read in (read_history, lambda folder: changed_flags(folder, {"epochs": 3})):
        with pytest.raises(UserError, match="journal.jsonl: cannot be read"):
            read(tmp_path)


def test_the_history_is_the_same_without_its_steps(write: Write) -> None:
    folder = write("runs/a", *REWOUND, Sampled(step=23, id="a", prompt="", text=""), finished(23))
    whole, brief = read_history(folder), read_history(folder, steps=False)
    assert not brief.steps and whole.steps
    for name in ("started", "starts", "end", "evaluations", "best", "progress", "step", "epoch", "completed"):
        assert getattr(brief, name) == getattr(whole, name), name


def test_a_history_without_all_steps_keeps_the_last_ones(write: Write) -> None:
    whole, last = RunHistory(), RunHistory(RECENT_STEPS)
    for first in range(1, 5 * RECENT_STEPS, 1000):
        for history in (whole, last):
            history.apply(replace(progress(first, first + 999), time=5.0 * first))
    count = len(last.steps)
    assert RECENT_STEPS <= count <= 2 * RECENT_STEPS < len(whole.steps)
    for column in ("steps", "train_loss", "learning_rate", "grad_norm"):
        assert getattr(last, column) == getattr(whole, column)[-count:]
    assert len(whole.speeds) == min(RECENT_SPEEDS, 5 * RECENT_STEPS // 1000 + 1)
    resumed = read_history(write("runs/a", started(), progress(1, 30), started(10)))
    resumed.keep = RECENT_STEPS
    assert list(resumed.steps) == list(range(1, 11)) and not resumed.speeds


def test_going_back_is_answered_with_the_step_also_where_the_start_is_missing() -> None:
    history = RunHistory()
    backs = [history.apply(event) for event in REWOUND]
    assert [(number, back) for number, back in enumerate(backs) if back is not None] == [(7, 20), (10, 10)]
    assert history.apply(progress(20, 21)) == 19 and list(history.steps) == list(range(1, 22))
    history.apply(evaluated(15, 3.0))
    assert [event.step for event in history.evaluations] == [10, 15]


def test_only_settings_that_differ_from_the_defaults_are_listed() -> None:
    assert changed_from_defaults(CONFIG) == {"data": ["texts/sea.txt"], "epochs": 4, "learning_rate": 0.002}
    assert changed_from_defaults({"epochs": 10, "unknown": 1}) == {}


def test_a_live_change_is_in_the_settings_until_it_is_refused_and_the_first_preset_stays() -> None:
    history = RunHistory()
    for event in (started(preset="tiny"), change(3, 5, "epochs", old=4), started(3, recovered=True)):
        history.apply(event)
    assert (history.epochs, history.started and history.started.preset) == (4, "tiny")
    history.apply(change(3, 5, "epochs", old=4))
    assert (history.epochs, history.started and history.started.total_steps) == (5, 50)
    history.apply(change(4, 0.5, "dropout", old=0.1))
    assert history.config["dropout"] == 0.5
    history.apply(answer(False))
    assert history.config["dropout"] == 0.1 and history.epochs == 5


IMPOSSIBLE = [
    ("output_dir", "/tmp/x"), ("model_dim", 8), ("seed", 1), ("__class__", "x"), ("unknown", 1), ("x" * 50, 1),
    ("learning_rate", "0.5"), ("learning_rate", 7.0), ("learning_rate", None), ("epochs", -3), ("epochs", "abc"),
    ("epochs", True), ("epochs", 10**30), ("dropout", [0.1]), ("wandb", True), ("log_dir", "/tmp"),
]  # fmt: skip


def test_a_change_that_no_run_makes_changes_nothing_and_is_not_repeated() -> None:
    """The journal may be someone else's."""
    history = RunHistory()
    for event in (started(), *(change(1, new, name) for name, new in IMPOSSIBLE)):
        history.apply(event)
    assert history.started == started() and history.interventions_from(0) == []


# ---- what a recovering run repeats ----


def change(step: int, new: Any, setting: str = "eval_every", old: Any = 0) -> Intervention:
    return Intervention(step=step, setting=setting, old=old, new=new, who="ada")


def answer(ok: bool) -> Answered:
    return Answered(step=3, id="1", command="set", ok=ok)


def recovered(step: int, **changes: Any) -> RunStarted:
    return started(step, recovered=True, resumed_from="last.pt" if step else None, changes=changes)


def resumed(step: int, **changes: Any) -> RunStarted:
    return started(step, resumed_from="last.pt", changes=changes)


THERE_AND_BACK = (change(5, 1), change(5, 2), change(5, 1))
REFUSED = (started(), change(3, 1), answer(True), change(3, 2), answer(False), answer(False), change(4, 3))
REPEATED = {
    "once, in order": ((started(), *THERE_AND_BACK), [(5, 1), (5, 2), (5, 1)]),
    "however often it is killed": (
        (started(), *THERE_AND_BACK, recovered(0), change(5, 1), recovered(0), *THERE_AND_BACK, change(7, 3)),
        [(5, 1), (5, 2), (5, 1), (7, 3)],
    ),
    "not what a resume by hand left behind": ((started(), change(3, 1), change(8, 2), resumed(5)), [(3, 1)]),
    "not what was refused": (REFUSED, [(3, 1), (4, 3)]),  # the last had no time for an answer
    "a repeated one has no answer": ((*REFUSED, recovered(0), change(3, 1), answer(False)), [(3, 1), (4, 3)]),
    "not what a later command set": ((started(), change(3, 1), recovered(2, eval_every=5)), []),
    "what was set after the command": ((started(), change(3, 1), recovered(2, eval_every=5), change(4, 2)), [(4, 2)]),
}


@pytest.mark.parametrize("case", REPEATED)
def test_a_recovering_run_repeats_what_users_changed(write: Write, case: str) -> None:
    events, wanted = REPEATED[case]
    history = read_history(write("runs/a", *events), steps=False)
    assert [(event.step, event.new) for event in history.interventions_from(0)] == wanted
    assert [event.step for event in history.interventions_from(6)] == [step for step, _ in wanted if step >= 6]


def test_flags_that_are_typed_again_do_not_undo_what_was_set_since(write: Write) -> None:
    assert changed_flags(Path(), {"epochs": 3}) == {"epochs": 3}  # nothing was requested yet
    folder = write("runs/a", started(config={"learning_rate": 0.001, "epochs": 2}))
    assert changed_flags(folder, {"learning_rate": 0.001, "epochs": 3}) == {"epochs": 3}
    write("runs/a", recovered(5, learning_rate=0.0005), change(6, 0.0002, "learning_rate"))
    assert changed_flags(folder, {"learning_rate": 0.0005}) == {}
    assert changed_flags(folder, {"learning_rate": 0.001}) == {"learning_rate": 0.001}


def test_what_was_typed_stands_also_where_a_kill_came_before_it_was_saved(write: Write) -> None:
    commands = (recovered(4, eval_every=3), recovered(4, learning_rate=0.5), recovered(4, eval_every=7))
    folder = write("runs/a", started(), *commands)
    history = read_history(folder)
    assert history.changes_since(1) == history.changes_since(2) == {"eval_every": 7, "learning_rate": 0.5}
    assert history.changes_since(3) == {"eval_every": 7}
    history = read_history(write("runs/a", resumed(2, epochs=9)))  # from another state: the others are left behind
    assert history.changes_since(1) == {"epochs": 9} and history.changes_since(5) == {}


def test_a_state_after_the_step_that_a_run_went_back_to_is_left_behind(write: Write) -> None:
    history = read_history(write("runs/a", started(), progress(1, 10), resumed(5)))
    assert history.left_behind(10, seq=2) and not history.left_behind(5, seq=2)
    assert not history.left_behind(10, seq=3)  # saved after it went back


def test_what_was_changed_while_a_run_trained_is_told_beside_its_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two runs may end with the same settings and not be the same."""
    monkeypatch.chdir(tmp_path)
    there_and_back = [change(5, 0.005, "learning_rate", old=0.002), change(6, 0.002, "learning_rate", old=0.005)]
    for name, changes in (("same", []), ("changed", there_and_back)):
        write_journal(Path("runs", name), started(), *changes, progress(1, 7))
    assert [summarize(Path("runs", name)).changed for name in ("same", "changed")] == [(), ("learning_rate",)]
    assert main(["runs", "compare", "same", "changed"]) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()][1] == ["changed", "-", "learning_rate"]
    entry = run_entry(
        Path("runs/changed"), RunStyle("red", "x"), *(read_history(Path("runs", n)) for n in ("changed", "same"))
    )
    assert entry.changes == ("learning_rate changed",)
