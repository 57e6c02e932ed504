"""How a run stands: each verdict on a run that shows it, and on one that does not."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import inf, log, nan
from typing import Any

import pytest

from fundamentallm.config.advice import advise
from fundamentallm.config.config import SETTINGS, Config, to_dict
from fundamentallm.run.events import NOT_FINITE, Evaluated, Event, Failed, Intervention, Progress
from fundamentallm.run.health import GOOD, NOTE, RULES, Rule, Verdict, assess, assess_epoch, assess_run
from fundamentallm.run.history import RECENT_STEPS, RunHistory
from fundamentallm.run.symptoms import View
from tests.engine.run.conftest import evaluated, finished, saved, started
from tests.events import OVERFITTING as FOUR_EPOCHS
from tests.events import epochs, recorded

VOCAB_SIZE = 65
Losses = Sequence[tuple[float, float]]


def verdicts(losses: Losses, epoch_ended: bool = True, **changes: Any) -> list[list[str]]:
    """What is announced after each epoch of these training and validation losses."""
    history, found = RunHistory(RECENT_STEPS), []
    known = assess_epoch(history, Config(**changes), VOCAB_SIZE).kind
    other = {"perplexity": 1.0, "epoch_ended": epoch_ended, "best": False}
    for epoch, (train_loss, val_loss) in enumerate(losses, 1):
        history.apply(Evaluated(step=10 * epoch, epoch=epoch, train_loss=train_loss, val_loss=val_loss, **other))
        if val_loss == min(loss for _, loss in losses[:epoch]):
            history.apply(saved(10 * epoch))
        verdict = assess_epoch(history, Config(**changes), VOCAB_SIZE)
        found.append([verdict.sentence] * (verdict.is_warning and verdict.kind != known))
        known = verdict.kind
    return found


OVERFITTING = [*FOUR_EPOCHS, (0.9, 2.2), (0.8, 2.3)]


@pytest.mark.parametrize(
    ("losses", "epochs"),
    [
        (OVERFITTING, [4]),
        ([*OVERFITTING, (0.7, 1.7), (0.6, 1.9), (0.5, 2.0)], [4, 9]),  # again, after it got better
        ([(2, 2), (1.5, 1.8), (1.2, 1.9), (1.1, 1.7), (1.0, 1.75)], []),  # one epoch that is worse
        ([(2, 2), (1.5, 1.8), (1.6, 1.9), (1.7, 2.0)], []),  # the training loss rises, too
        ([(4.2, 4.2), (4.19, 4.2), (4.18, 4.2)], [2]),  # flat, near blind guessing
        ([(4.2, 4.2), (4.19, 4.2), (3.0, 3.0), (4.2, 4.2), (4.19, 4.2)], [2, 4]),
        ([(4.0, 4.0), (3.0, 3.0), (2.5, 2.5), (2.499, 2.5), (2.498, 2.5)], []),  # falls slowly at the end
        ([(2.6, 3.135), (2.4, 3.153), (2.2, 3.551), (2.0, 4.1), (1.8, 4.602)], [3]),  # overfits, slowly at first
        ([(2.6, 3.135), (2.4, 3.153), (2.2, 3.16), (2.0, 3.165), (1.8, 3.17)], [5]),  # a percent at last
        ([(2.6, 3.1), (2.4, 3.2), (2.2, 3.11), (2.0, 3.3), (1.8, 3.05)], [4]),
        ([(0.3, 3.0), (0.2, 5.0), (0.1, 9.0)], [3]),  # far above guessing by learning the text by heart
        ([(4.0, 4.1), (24.9, 30.0), (24.9, 30.0), (3.0, 3.0), (4.0, 7.0)], [2, 5]),
    ],
)
def test_a_verdict_is_announced_when_it_begins_to_hold(losses: Losses, epochs: list[int]) -> None:
    assert [epoch for epoch, texts in enumerate(verdicts(losses), 1) if texts] == epochs


def test_evaluations_in_the_middle_of_an_epoch_are_not_judged() -> None:
    assert not any(verdicts([(4.2, 4.0 + n) for n in range(9)], epoch_ended=False))


ROSE = (
    "overfitting: since epoch 2 the validation loss rose from 1.800 to 2.100 while the training loss fell to 1.000; "
    "best.pt keeps epoch 2; try"
)
FLAT = "the loss is not falling: 4.200, then 4.190 (blind guessing is 4.174); try --learning-rate 0.0003, or a larger"


@pytest.mark.parametrize(
    ("losses", "changes", "text"),
    [
        (OVERFITTING[:4], {"dropout": 0.0}, f"{ROSE} --dropout 0.2, --epochs 2, or more text"),  # always more dropout
        (OVERFITTING[:4], {"dropout": 0.25}, f"{ROSE} --dropout 0.35, --epochs 2, or more text"),
        (OVERFITTING[:4], {"dropout": 0.5}, f"{ROSE} --epochs 2, or more text"),
        ([(4.2, 4.2), (4.19, 4.2)], {"learning_rate": 1e-3, "model_dim": 64}, f"{FLAT} model (--model-dim 128)"),
        ([(4.2, 4.2), (4.19, 4.2)], {"learning_rate": 1e-4}, f"{FLAT} model (--model-dim 256)"),
        (
            [(24.9, 25.5)], {"learning_rate": 0.01},
            "diverged: the validation loss is 25.500, far above that of blind guessing, 4.174; "
            "try --learning-rate 0.001, or clip harder with --gradient-clip 0.5",
        ),
    ],
)  # fmt: skip
def test_a_verdict_comes_with_its_numbers_and_what_to_try(losses: Losses, changes: dict[str, Any], text: str) -> None:
    assert verdicts(losses, **changes)[-1] == [text]


GUESSING = log(VOCAB_SIZE)  # 4.174


@pytest.mark.parametrize(
    ("losses", "kinds"),
    [
        ([(4.2, 4.2), (4.19, 4.21), (4.18, 4.22)], ["flat"]),  # above the best, by half a percent
        ([(3.3, 3.3), (3.29, 3.4), (3.28, 3.5)], ["overfitting", "flat"]),
        ([(4.2, 4.2), (4.2, 6.3), (4.2, 6.4)], ["diverged", "flat"]),
        ([(4.0, 4.0), (3.9, 6.5), (3.8, 7.0)], ["diverged", "overfitting"]),
        ([(1.499 * GUESSING, 4.0), (1.499 * GUESSING, 4.0)], ["flat"]),
        ([(1.501 * GUESSING, 4.0)], ["diverged"]),
    ],
)
def test_of_the_verdicts_that_hold_the_first_is_given(losses: Losses, kinds: list[str]) -> None:
    history = history_of(epochs(losses))
    view = View(history, Config(), VOCAB_SIZE, history.step)
    assert [rule.kind for rule in RULES if rule.level not in (GOOD, NOTE) and rule.find(view)] == kinds
    assert assess(history, Config(), VOCAB_SIZE).kind == kinds[0]


def test_the_state_that_best_pt_keeps_may_be_of_the_middle_of_an_epoch() -> None:
    history = RunHistory(RECENT_STEPS)
    for step, loss in ((10, 1.9), (15, 1.7), (20, 1.8), (30, 1.95), (40, 2.0)):
        losses = {"train_loss": 2 - step / 100, "val_loss": loss}
        history.apply(evaluated(step, epoch=-(-step // 10), epoch_ended=step % 10 == 0, **losses))
        if step == 15:
            history.apply(saved(step))
    text = assess_epoch(history, Config(), VOCAB_SIZE).sentence
    assert "since epoch 2 the validation loss rose from 1.800 to 2.000" in text and "best.pt keeps step 15;" in text


# ---- runs that were recorded ----

RECORDED = {  # real runs, made by record.py: the verdicts, and the steps from which they hold
    "healthy": [("waiting", 0), ("healthy", 88)],
    "diverged": [("waiting", 0), ("diverged", 16), ("healthy", 176)],
    "overfitting": [("waiting", 0), ("healthy", 42), ("small_text", 84), ("overfitting", 126)],
    "rate_too_high": [("waiting", 0), ("healthy", 88), ("rate_too_high", 124), ("diverged", 128), ("ended_worse", 264)],
    "rate_too_low": [("waiting", 0), ("healthy", 88), ("rate_too_low", 99)],
    "flat": [("waiting", 0), ("healthy", 35), ("flat", 70)],
    "underfitting": [("waiting", 0), ("healthy", 88), ("underfitting", 352)],
    "plateau": [("waiting", 0), ("healthy", 53), ("plateau", 583)],
    "wide_gap": [("waiting", 0), ("healthy", 42), ("small_text", 168), ("overfitting", 294)],
}


def history_of(events: Iterable[Event], keep: int | None = None) -> RunHistory:
    history = RunHistory(keep)
    for event in events:
        history.apply(event)
    return history


def views(name: str) -> list[View]:
    """A recorded run as it was after each of its steps."""
    history = history_of(recorded(name))
    assert history.started is not None
    config = Config(**{**history.config, "data": (), "include": ()})
    return [View(history, config, history.started.vocab_size, step) for step in range(history.step + 1)]


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_run_is_judged_as_it_stood(name: str) -> None:
    kinds: list[tuple[str, int]] = []
    for view in views(name):
        kind = assess(view.history, view.config, view.vocab_size, view.step).kind
        if not kinds or kinds[-1][0] != kind:
            kinds.append((kind, view.step))
    assert kinds == RECORDED[name]


@pytest.mark.parametrize("rule", RULES[:-2], ids=lambda rule: rule.kind)  # not healthy and waiting
def test_no_rule_holds_in_a_healthy_run(rule: Rule) -> None:
    assert [view.step for view in views("healthy") if rule.find(view)] == []


@pytest.mark.parametrize("name", RECORDED)
def test_whoever_watched_the_run_judges_alike(name: str) -> None:
    """The trainer and the console keep the last steps only; a resumed run did some of them again."""
    events = recorded(name)
    whole, live = history_of(events), history_of([], RECENT_STEPS)
    for place, event in enumerate(events, 1):
        live.apply(event)
        if isinstance(event, Evaluated):
            assert assess_run(live) == assess_run(history_of(events[:place]))
    reports = [event for event in events if isinstance(event, Progress)]
    assert whole.started is not None
    again = history_of([*events[:-1], replace(whole.started, step=reports[-1].step[0] - 1, resumed_from="last.pt")])
    again.keep = RECENT_STEPS
    for event in events[events.index(reports[-1]) :]:
        again.apply(event)
    assert assess_run(again) == assess_run(whole)


# ---- symptoms that short runs do not show: the numbers are made up ----


def steps_of(losses: Sequence[float], norms: Sequence[float] = (), first: int = 1, **values: Any) -> Progress:
    numbers = tuple(range(first, first + len(losses)))
    other = {"epoch": 1, "tokens": 1, "tokens_per_second": 1e4, "eta_seconds": None, "memory_bytes": 0, **values}
    rates, norms = (1e-3,) * len(losses), tuple(norms) or (0.4,) * len(losses)
    return Progress(step=numbers, train_loss=tuple(losses), learning_rate=rates, grad_norm=norms, **other)


def judged(*events: Event) -> Verdict:
    verdict = assess_run(history_of([started(vocab_size=VOCAB_SIZE), *events]))
    assert verdict is not None
    return verdict


WAITS = "waiting: the validation loss comes after epoch 1, at step 10"
JUMPS = "rate_too_high: 3 jumps in 128 steps, the highest from about"
LOSSES = "train 2.000, val 2.100, the best was 2.000 in epoch 1"
CALM = [2.0 + (n % 7) / 50 for n in range(256)]
NOISY = [2.0 + (n * 37 % 11 - 5) / 10 for n in range(256)]  # 1.5 to 2.5
RISING = [2.0] * 64 + [2.6] * 64
WORSE = (evaluated(10, 2.0, train_loss=2.0, best=True), saved(10), evaluated(20, 2.1, train_loss=2.0))
SHORT = started(vocab_size=VOCAB_SIZE, total_steps=7)
GROWN = "the norm of the gradient grew from 0.40 to 2.00 in 256 steps, in which the loss did not fall"
LOST = Failed(step=10, error="out of memory", advice="--batch-size 8")
BRANCH = started(15, resumed_from="elsewhere/last.pt")  # in epoch 2


def jumping(losses: Sequence[float], to: float, *places: int) -> Progress:
    return steps_of([to if n in places else loss for n, loss in enumerate(losses)])


def growing(norm: float, falls: float) -> Progress:
    """Steps of which the last have another norm of the gradient; each loss is so much lower than that before."""
    return steps_of([2.0 - falls * n for n in range(256)], [0.4] * 200 + [norm] * 56)


SEEN: dict[str, tuple[Sequence[Event], str]] = {  # what a run shows, and its verdict with the evidence
    "two jumps": ([jumping(CALM, 3.9, 200, 230)], WAITS),
    "three jumps": ([jumping(CALM, 3.9, 200, 220, 240)], f"{JUMPS} 2.060 to 3.900"),
    "three jumps, far apart": ([jumping(CALM, 3.9, 100, 200, 240)], WAITS),
    "three jumps within the noise of small batches": ([jumping(NOISY, 4.0, 200, 220, 240)], WAITS),
    "three jumps beyond it": ([jumping(NOISY, 6.0, 200, 220, 240)], f"{JUMPS} 2.000 to 6.000"),
    "a gradient that grows in vain": ([growing(2.0, 0.0)], f"rate_too_high: {GROWN}"),
    "a gradient that grows a little": ([growing(1.5, 0.0)], WAITS),
    "a gradient that grows while the loss falls": ([growing(2.0, 0.001)], WAITS),
    "a rise": ([steps_of(RISING)], "rate_too_high: the training loss rose from 2.000 to 2.600 in 64 steps"),
    "a rise that is over": ([steps_of([*RISING, *[2.5] * 32])], WAITS),
    "an end to come": ([SHORT], "waiting: the validation loss comes at the end, at step 7"),
    "an end without an epoch": ([finished(10)], "waiting: the run ended before epoch 1 did"),
    "a branch": ([BRANCH], "waiting: the validation loss comes after epoch 2, at step 20"),
    "a branch that ended": ([BRANCH, finished(18)], "waiting: the run ended before epoch 2 did"),
    "a last loss above the best": (WORSE, f"waiting: gap 5 %: {LOSSES}"),
    "an end above the best": ([*WORSE, finished(20)], f"ended_worse: gap 5 %: {LOSSES}"),
    "a lower loss within an epoch": (
        [*WORSE, evaluated(25, 1.9, epoch=3, epoch_ended=False)],
        "waiting: gap 5 %: train 2.000, val 2.100, the best was 1.900 at step 25",
    ),
    "a failure": ([evaluated(10, 2.0), LOST], "failed: out of memory"),
    "a failure that was resumed": (
        [evaluated(10, 2.0, train_loss=2.0), LOST, started(10, resumed_from="last.pt")],
        "healthy: no gap: train 2.000, val 2.000, the best so far",
    ),
}


@pytest.mark.parametrize("what", SEEN)
def test_what_a_run_shows_has_its_verdict(what: str) -> None:
    events, found = SEEN[what]
    verdict = judged(*events)
    assert f"{verdict.kind}: {verdict.evidence}" == found


@pytest.mark.parametrize(
    ("setting", "rose"),
    [("dropout", False), ("augment", False), ("data", False), ("include", False), ("learning_rate", True)],
)
def test_a_loss_that_more_dropout_raised_is_no_sign_of_the_rate(setting: str, rose: bool) -> None:
    change = Intervention(step=64, setting=setting, old=0.1, new=0.3, who="me")
    resumed = started(64, vocab_size=VOCAB_SIZE, resumed_from="run/last.pt", changes={setting: 0.3})
    for begun in (change, resumed) if SETTINGS[setting].live else (resumed,):
        before, after = steps_of([2.0] * 64), [2.6] * 64
        found = judged(before, begun, steps_of(after, first=65)).kind
        assert found == ("rate_too_high" if rose else "waiting")
        found = judged(before, begun, steps_of([*after, *[3.3] * 64], first=65)).kind
        assert found == "rate_too_high", "it rose afterwards, too"


@pytest.mark.parametrize(
    ("setting", "new", "kinds"), [("dropout", 0.3, ("healthy", "flat")), ("patience", 3, ("flat", "flat"))]
)
def test_an_epoch_with_more_dropout_is_compared_with_none_before_it(
    setting: str, new: float, kinds: tuple[str, str]
) -> None:
    near = 0.8 * log(VOCAB_SIZE)
    change = Intervention(step=12, setting=setting, old=0, new=new, who="me")
    found = [
        judged(evaluated(10, near, train_loss=near), change, *rest).kind
        for rest in (
            [evaluated(20, near, train_loss=near)],
            [evaluated(step, near, train_loss=near) for step in (20, 30, 40)],
        )
    ]
    assert tuple(found) == kinds


@pytest.mark.parametrize(("raised", "advised"), [(0.3, "0.001"), (0.003, "0.0003"), (None, "0.0001")])
def test_after_a_rate_that_was_raised_none_above_that_of_the_best_state_is_advised(
    raised: float | None, advised: str
) -> None:
    config = to_dict(Config(learning_rate=0.001))
    begun = [started(vocab_size=VOCAB_SIZE, config=config), evaluated(10, 2.0, train_loss=2.0, best=True), saved(10)]
    change = [] if raised is None else [Intervention(step=15, setting="learning_rate", old=0.001, new=raised, who="me")]
    verdict = assess_run(history_of([*begun, *change, evaluated(20, 30.0, train_loss=30.0)]))
    assert verdict is not None and verdict.kind == "diverged" and f"--learning-rate {advised}," in verdict.advice
    assert verdict.actions[0].label == f"Resume from best.pt (epoch 1) with learning rate {advised}"


@pytest.mark.parametrize(("speeds", "found"), [
    ([1e4] * 20 + [5000] * 6, "slower"), ([1e4] * 20 + [7000] * 6, "waiting"), ([1e4] * 20 + [5000] * 3, "waiting"),
    ([1e4] * 6 + [5000] * 6, "waiting"),
])  # fmt: skip
def test_steps_that_take_longer_for_half_a_minute_are_noted(speeds: list[float], found: str) -> None:
    reports = [steps_of([2.0], first=n, time=5.0 * n, tokens_per_second=speed) for n, speed in enumerate(speeds, 1)]
    verdict = judged(*reports)
    assert verdict.kind == found
    assert found != "slower" or verdict.evidence == "5.00k tokens a second, 10.0k before"
    assert judged(*reports, finished(len(speeds))).kind == "waiting", "it is no verdict on a run that ended"
    resumed = started(len(speeds), resumed_from="last.pt", vocab_size=VOCAB_SIZE)
    assert judged(*reports, resumed).kind == "waiting"


def test_a_run_that_failed_with_a_loss_that_is_no_number_has_diverged() -> None:
    config = Config(learning_rate=0.1)
    error = "step 61 was refused: the loss is nan"
    failed = [steps_of([2.0] * 60), Failed(step=60, error=error, advice="anything", cause=NOT_FINITE)]
    history = history_of([started(config=to_dict(config)), *failed])
    verdict = assess_run(history)
    assert verdict is not None and (verdict.kind, verdict.level, verdict.evidence) == ("diverged", "bad", error)
    assert verdict.advice == advise("diverged", config) != "anything"


def test_a_failed_run_has_the_advice_of_its_failure() -> None:
    assert judged(evaluated(10, 2.0), LOST).sentence == "failed: out of memory; try --batch-size 8"


@pytest.mark.parametrize("vocab_size", [0, 1, 65, 10**300])
@pytest.mark.parametrize("number", [nan, inf, -inf, 0.0, -1.0, 1e308])
def test_numbers_that_no_run_measures_break_no_verdict(number: float, vocab_size: int) -> None:
    events = [
        event
        for epoch in range(1, 9)
        for event in (
            steps_of([number, 2.0] * 32, [number, 1.0] * 32, first=64 * epoch - 63, time=5.0 * epoch),
            evaluated(64 * epoch, number if epoch % 2 else 2.0, epoch=epoch, train_loss=number if epoch % 3 else 1.0),
        )
    ]
    one_block = [steps_of([number] * 32, [number] * 32), evaluated(32, number, train_loss=number)]
    for ending in (one_block, events):
        history = RunHistory()
        for event in (started(vocab_size=vocab_size, train_tokens=1), *ending, finished(512)):
            history.apply(event)
            verdict = assess_run(history)
            assert verdict is not None and verdict.sentence
    assert assess_run(history_of([started(config={"learning_rate": "x"})])) is None
