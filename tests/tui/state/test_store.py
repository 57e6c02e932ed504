"""The store follows a run: phases, numbers, rewinding, and what a person asked for."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from fundamentallm.config.config import Config
from fundamentallm.run.events import Answered, Evaluated, Failed, Phase, RunStarted, Sampled
from fundamentallm.run.spec import RunSpec
from fundamentallm_tui.state.store import Store


def under_way(workshop: Any, step: int = 0) -> Store:
    store = Store()
    config = Config(data=("text.txt",))
    store.begin(Path("runs/x-1"), "x", config, goes_on=False)
    store.apply(
        [workshop.started(RunSpec(config, Path("runs/x-1")), step), Phase(step=step, phase="training")], now=0.0
    )
    return store


def evaluated(step: int, loss: float = 2.0) -> Evaluated:
    return Evaluated(
        step=step, epoch=1, train_loss=2.0, val_loss=loss, perplexity=7.4, epoch_ended=True, best=True
    )  # fmt: skip


def test_a_passing_phase_is_shown_only_when_it_lasts(workshop: Any) -> None:
    store = under_way(workshop)
    store.apply([Phase(step=1, phase="saving")], now=10.0)
    assert store.word(10.29) == "TRAINING"
    assert store.word(10.31) == "SAVING"
    store.apply([Phase(step=1, phase="evaluating")], now=11.0)
    assert store.word(11.1) == "SAVING", "one passing phase after another does not flicker"
    store.apply([Phase(step=1, phase="training")], now=11.2)
    assert store.word(11.2) == "TRAINING"


def test_the_eta_stands_still_while_paused_and_goes_on_after(workshop: Any) -> None:
    store = under_way(workshop)
    store.apply([workshop.progress(1, 10, eta=60.0)], now=100.0)
    assert store.eta(110.0) == 50.0
    store.want("pausing", now=110.0)
    store.apply([Phase(step=10, phase="paused")], now=115.0)
    assert store.eta(5000.0) == 50.0
    store.want("training", now=5000.0)
    assert store.eta(5010.0) == 40.0
    store.apply([Phase(step=10, phase="training")], now=5010.0)
    assert store.eta(5020.0) == 30.0


def test_the_eta_stands_still_while_the_run_does_something_else(workshop: Any) -> None:
    store = under_way(workshop)
    store.apply([workshop.progress(1, 10, eta=60.0)], now=100.0)
    store.apply([Phase(step=10, phase="sampling")], now=110.0)
    assert store.eta(170.0) == 50.0
    store.apply([Phase(step=10, phase="training")], now=200.0)
    assert store.eta(210.0) == 40.0


def test_a_resumed_run_rewinds_the_curves_to_its_step(workshop: Any) -> None:
    store = under_way(workshop)
    store.apply([workshop.progress(1, 100), evaluated(50), evaluated(100)], now=1.0)
    assert store.train.last == (100.0, 3.5)
    store.begin(Path("runs/x-1"), "x", Config(data=("text.txt",)), goes_on=True)
    again: RunStarted = workshop.started(RunSpec(Config(), Path("runs/x-1"), Path("last.pt")), 60)
    store.apply([again], now=2.0)
    assert store.train.last == (60.0, 3.7)
    assert store.rate.last == (60.0, 1e-3)
    assert store.val.last == (50.0, 2.0)
    store.apply([workshop.progress(61, 70), evaluated(70, 1.9)], now=3.0)
    assert (store.step, len(store.train), store.val.last) == (70, 70, (70.0, 1.9))


def test_steps_that_are_said_twice_are_taken_once(workshop: Any) -> None:
    store = under_way(workshop)
    store.apply([workshop.progress(1, 10), workshop.progress(8, 12), workshop.progress(3, 4)], now=1.0)
    assert (len(store.train), store.step) == (12, 12)


def test_a_new_run_starts_with_empty_curves(workshop: Any) -> None:
    store = under_way(workshop)
    store.apply([workshop.progress(1, 10), evaluated(10)], now=1.0)
    store.begin(Path("runs/x-2"), "x", Config(data=("text.txt",)), goes_on=False)
    assert (len(store.train), len(store.val), len(store.rate), store.step) == (0, 0, 0, 0)


def test_a_sample_takes_only_its_own_pieces(workshop: Any) -> None:
    store = under_way(workshop)
    store.ask("mine", "Once")
    pieces = [("mine", " upon"), ("other", "!!!"), ("mine", " a time")]
    store.apply([Sampled(step=7, id=id, prompt="Once", text=text) for id, text in pieces], now=1.0)
    store.apply([Sampled(step=7, id="mine", prompt="Once", text="", done=True)], now=1.0)
    assert (store.sample.text, store.sample.step, store.sample.done) == (" upon a time", 7, True)


def test_a_refused_sample_says_why_in_the_box_and_not_in_the_log(workshop: Any) -> None:
    store = under_way(workshop)
    store.take_lines()
    store.ask("mine", "Ω")
    store.apply([Answered(step=1, id="mine", command="sample", ok=False, why="'Ω' is not in the text")], now=1.0)
    assert store.sample.problem == "'Ω' is not in the text"
    assert store.take_lines() == []


def test_an_engine_that_dies_leaves_the_reason_and_its_last_words(workshop: Any) -> None:
    store = under_way(workshop)
    store.apply([workshop.saved(5, "last.pt", "last")], now=1.0)
    store.take_lines()
    store.died("killed by SIGKILL", ["Traceback", "MemoryError \x1b[31m"], now=2.0)
    text = "\n".join(line.text for line in store.take_lines())
    assert store.word(2.0) == "FAILED"
    assert "killed by SIGKILL" in text and "MemoryError ·[31m" in text and "F5 goes on from last.pt" in text


def test_a_process_that_ends_after_the_run_did_changes_nothing(workshop: Any) -> None:
    store = under_way(workshop)
    store.apply([workshop.finished(400)], now=1.0)
    store.died("ended with status 0", [], now=2.0)
    assert store.word(2.0) == "FINISHED"


def test_what_a_start_goes_on_from_is_the_newest_state_and_of_equal_ones_last_pt(workshop: Any) -> None:
    store = under_way(workshop)
    names = [("last.pt", "last"), ("checkpoint_epoch_2.pt", "epoch"), ("best.pt", "best")]
    store.apply([workshop.saved(80, *name) for name in names], now=1.0)
    assert store.saved == "last.pt"
    store.apply([workshop.saved(90, "checkpoint_step_90.pt", "hand")], now=1.0)
    assert store.saved == "checkpoint_step_90.pt"
    store.take_lines()
    store.died("killed by SIGKILL", [], now=2.0)
    assert "F5 goes on from checkpoint_step_90.pt." in [line.text for line in store.take_lines()]


def test_after_a_stop_the_log_names_last_pt(workshop: Any) -> None:
    store = under_way(workshop)
    store.take_lines()
    store.apply([replace(workshop.finished(40, "stopped"), path="best.pt")], now=1.0)
    [line] = store.take_lines()
    assert "last.pt" in line.text and "best.pt" not in line.text


def test_cancelling_a_sample_that_is_over_says_nothing(workshop: Any) -> None:
    store = under_way(workshop)
    store.take_lines()
    late = Answered(step=1, id="x", command="cancel_sample", ok=False, why="there is no such sample under way")
    store.apply([late], now=1.0)
    assert store.take_lines() == []


def test_a_failure_shows_error_advice_and_where_to_go_on(workshop: Any) -> None:
    store = under_way(workshop)
    failed = Failed(step=9, error="the loss is nan", advice="Lower learning_rate.", saved="last.pt")
    store.apply([failed], now=1.0)
    lines = [line.text for line in store.take_lines()][-3:]
    assert lines == ["failed at step 9: the loss is nan", "Lower learning_rate.", "F5 goes on from last.pt"]


def test_files_saved_at_one_step_share_a_line(workshop: Any) -> None:
    store = under_way(workshop)
    store.take_lines()
    names = [("checkpoint_epoch_1.pt", "epoch"), ("last.pt", "last"), ("best.pt", "best")]
    store.apply([workshop.saved(80, *name) for name in names], now=1.0)
    assert [line.text for line in store.take_lines()] == ["saved checkpoint_epoch_1.pt, last.pt, best.pt (1.6 MB)"]


def test_many_reports_at_once_are_as_one_by_one(workshop: Any) -> None:
    events = [workshop.progress(1, 5), workshop.progress(6, 9), evaluated(9), workshop.progress(10, 12, epoch=2)]
    events += [workshop.progress(8, 14), workshop.progress(15, 15)]  # a start got lost
    one, many = under_way(workshop), under_way(workshop)
    for event in events:
        one.apply([event], now=1.0)
    many.apply(events, now=1.0)
    for store in (one, many):
        assert (len(store.train), store.step, store.train.last, store.rate.last) == (
            15,
            15,
            (15.0, 3.925),
            (15.0, 1e-3),
        )
    assert (one.epoch, one.eta(1.0), one.grad_norm) == (many.epoch, many.eta(1.0), many.grad_norm)
