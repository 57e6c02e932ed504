"""How a run stands: each verdict on a run that shows it, and on one that does not."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import inf, log, nan
from typing import Any

import pytest

from fundamentallm.config.advice import advise
from fundamentallm.config.config import SETTINGS, Config, to_dict
from fundamentallm.run.events import NOT_FINITE, Evaluated, Event, Failed, Intervention, Progress
from fundamentallm.run.health import GOOD, NOTE, RULES, Rule, assess, assess_epoch, assess_run
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


def test_overfitting_comes_with_its_evidence_and_more_dropout() -> None:
    assert verdicts(OVERFITTING, dropout=0.1)[3] == [
        "overfitting: since epoch 2 the validation loss rose from 1.800 to 2.100 while the training loss fell to "
        "1.000; best.pt keeps epoch 2; try --dropout 0.2, --epochs 2, or more text"
    ]


@pytest.mark.parametrize(("dropout", "advice"), [(0.0, 0.2), (0.1, 0.2), (0.25, 0.35), (0.4, 0.5), (0.5, None)])
def test_the_advice_is_always_more_dropout_never_less(dropout: float, advice: float | None) -> None:
    text = verdicts(OVERFITTING, dropout=dropout)[3][0]
    assert (f"try --dropout {advice:g}, --epochs 2" if advice else "try --epochs 2") in text
    assert ("--dropout" in text) == (advice is not None)


def test_a_flat_loss_comes_with_what_guessing_would_give() -> None:
    flat = [(4.2, 4.2), (4.19, 4.2)]
    assert verdicts(flat, learning_rate=1e-3, model_dim=64)[1] == [
        f"the loss is not falling: 4.200, then 4.190 (blind guessing is {log(VOCAB_SIZE):.3f}); "
        "try --learning-rate 0.0003, or a larger model (--model-dim 128)"
    ]
    assert "--learning-rate 0.0003," in verdicts(flat, learning_rate=1e-4)[1][0]


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


def test_a_diverged_loss_comes_with_that_of_guessing_and_a_lower_rate() -> None:
    assert verdicts([(24.9, 25.5)], learning_rate=0.01)[0] == [
        "diverged: the validation loss is 25.500, far above that of blind guessing, 4.174; "
        "try --learning-rate 0.001, or clip harder with --gradient-clip 0.5"
    ]


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


def kind_and_evidence(*events: Event) -> tuple[str, str]:
    verdict = assess_run(history_of([started(vocab_size=VOCAB_SIZE), *events]))
    assert verdict is not None
    return verdict.kind, verdict.evidence


CALM = [2.0 + (n % 7) / 50 for n in range(256)]
WAITS = ("waiting", "the validation loss comes after epoch 1, at step 10")


@pytest.mark.parametrize(("jumps", "found"), [
    ((), WAITS),
    ((200, 230), WAITS),
    ((200, 220, 240), ("rate_too_high", "3 jumps in 128 steps, the highest from about 2.060 to 3.900")),
    ((100, 200, 240), WAITS),
])  # fmt: skip
def test_three_jumps_of_the_loss_are_a_rate_that_is_too_high(jumps: Sequence[int], found: tuple[str, str]) -> None:
    losses = [3.9 if n in jumps else loss for n, loss in enumerate(CALM)]
    assert kind_and_evidence(steps_of(losses)) == found


def test_a_run_that_ends_before_its_first_epoch_waits_for_its_end() -> None:
    verdict = assess_run(history_of([started(vocab_size=VOCAB_SIZE, total_steps=7, steps_per_epoch=10)]))
    assert verdict is not None and verdict.evidence == "the validation loss comes at the end, at step 7"


GROWN = "the norm of the gradient grew from 0.40 to 2.00 in 256 steps, in which the loss did not fall"


@pytest.mark.parametrize(("falls", "norm", "found"), [
    (0.0, 2.0, ("rate_too_high", GROWN)), (0.0, 1.5, WAITS), (0.001, 2.0, WAITS),
])  # fmt: skip
def test_a_gradient_that_grows_in_vain_is_noted(falls: float, norm: float, found: tuple[str, str]) -> None:
    losses = [2.0 - falls * n for n in range(256)]
    assert kind_and_evidence(steps_of(losses, [0.4] * 200 + [norm] * 56)) == found


def test_jumps_count_beside_the_noise_of_small_batches() -> None:
    noisy = [2.0 + (n * 37 % 11 - 5) / 10 for n in range(256)]  # 1.5 to 2.5
    jumping = [4.0 if n in (200, 220, 240) else loss for n, loss in enumerate(noisy)]
    assert kind_and_evidence(steps_of(jumping)) == WAITS
    higher = [6.0 if loss == 4.0 else loss for loss in jumping]
    assert kind_and_evidence(steps_of(higher))[1] == "3 jumps in 128 steps, the highest from about 2.000 to 6.000"


def test_a_loss_that_falls_again_has_recovered_from_its_rise() -> None:
    rising = [2.0] * 64 + [2.6] * 64
    rose = ("rate_too_high", "the training loss rose from 2.000 to 2.600 in 64 steps")
    assert kind_and_evidence(steps_of(rising)) == rose
    assert kind_and_evidence(steps_of([*rising, *[2.5] * 32])) == WAITS


@pytest.mark.parametrize(
    ("setting", "rose"),
    [("dropout", False), ("augment", False), ("data", False), ("include", False), ("learning_rate", True)],
)
def test_a_loss_that_more_dropout_raised_is_no_sign_of_the_rate(setting: str, rose: bool) -> None:
    change = Intervention(step=64, setting=setting, old=0.1, new=0.3, who="me")
    resumed = started(64, vocab_size=VOCAB_SIZE, resumed_from="run/last.pt", changes={setting: 0.3})
    for begun in (change, resumed) if SETTINGS[setting].live else (resumed,):
        before, after = steps_of([2.0] * 64), [2.6] * 64
        found = kind_and_evidence(before, begun, steps_of(after, first=65))[0]
        assert found == ("rate_too_high" if rose else "waiting")
        found = kind_and_evidence(before, begun, steps_of([*after, *[3.3] * 64], first=65))[0]
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
        kind_and_evidence(evaluated(10, near, train_loss=near), change, *rest)[0]
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


def test_a_run_that_ended_above_its_best_is_not_called_early() -> None:
    worse = [evaluated(10, 2.0, train_loss=2.0, best=True), saved(10), evaluated(20, 2.1, train_loss=2.0)]
    assert kind_and_evidence(*worse)[0] == "waiting"
    kind, evidence = kind_and_evidence(*worse, finished(20))
    assert (kind, evidence) == ("ended_worse", "gap 5 %: train 2.000, val 2.100, the best was 2.000 in epoch 1")


@pytest.mark.parametrize(("speeds", "found"), [
    ([1e4] * 20 + [5000] * 6, ("slower", "5.00k tokens a second, 10.0k before")),
    ([1e4] * 20 + [7000] * 6, WAITS),
    ([1e4] * 20 + [5000] * 3, WAITS),
    ([1e4] * 6 + [5000] * 6, WAITS),
])  # fmt: skip
def test_steps_that_take_longer_for_half_a_minute_are_noted(speeds: list[float], found: tuple[str, str]) -> None:
    reports = [steps_of([2.0], first=n, time=5.0 * n, tokens_per_second=speed) for n, speed in enumerate(speeds, 1)]
    assert kind_and_evidence(*reports) == found
    assert kind_and_evidence(*reports, finished(len(speeds)))[0] == "waiting", "it is no verdict on a run that ended"
    resumed = started(len(speeds), resumed_from="last.pt", vocab_size=VOCAB_SIZE)
    assert kind_and_evidence(*reports, resumed)[0] == "waiting"


def test_a_lower_loss_in_the_middle_of_an_epoch_is_the_best() -> None:
    between = evaluated(15, 1.9, epoch=2, epoch_ended=False)
    assert kind_and_evidence(evaluated(10, 2.0), between)[1].endswith("val 2.000, the best was 1.900 at step 15")


def test_a_run_that_failed_with_a_loss_that_is_no_number_has_diverged() -> None:
    config = Config(learning_rate=0.1)
    error = "step 61 was refused: the loss is nan"
    failed = [steps_of([2.0] * 60), Failed(step=60, error=error, advice="anything", cause=NOT_FINITE)]
    history = history_of([started(config=to_dict(config)), *failed])
    verdict = assess_run(history)
    assert verdict is not None and (verdict.kind, verdict.level, verdict.evidence) == ("diverged", "bad", error)
    assert (
        verdict.advice == advise("diverged", config) == "--learning-rate 0.01, or clip harder with --gradient-clip 0.5"
    )


def test_the_verdict_of_a_failed_run_is_its_failure() -> None:
    failed = Failed(step=10, error="out of memory", advice="--batch-size 8")
    assert kind_and_evidence(evaluated(10, 2.0), failed) == ("failed", "out of memory")
    verdict = assess_run(history_of([started(), evaluated(10, 2.0), failed]))
    assert verdict is not None and verdict.sentence == "failed: out of memory; try --batch-size 8"
    assert kind_and_evidence(evaluated(10, 2.0), failed, started(10, resumed_from="last.pt"))[0] != "failed"
    assert kind_and_evidence(finished(10))[1] == "the run ended before epoch 1 did"
    branch = [started(15, resumed_from="elsewhere/last.pt")]  # in epoch 2
    assert kind_and_evidence(*branch)[1] == "the validation loss comes after epoch 2, at step 20"
    assert kind_and_evidence(*branch, finished(18))[1] == "the run ended before epoch 2 did"


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
