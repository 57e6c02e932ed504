"""How a run stands: each verdict on a run that shows it, and on one that does not."""

from collections.abc import Sequence
from math import log
from typing import Any

import pytest

from fundamentallm.config.config import Config
from fundamentallm.run.events import Evaluated
from fundamentallm.run.health import new_verdicts
from fundamentallm.run.history import RunHistory
from tests.engine.run.conftest import evaluated, saved

VOCAB_SIZE = 65
Losses = Sequence[tuple[float, float]]


def verdicts(losses: Losses, epoch_ended: bool = True, **changes: Any) -> list[list[str]]:
    """What is announced after each epoch of these training and validation losses."""
    history, found = RunHistory(steps=False), []
    other = {"perplexity": 1.0, "epoch_ended": epoch_ended, "best": False}
    for epoch, (train_loss, val_loss) in enumerate(losses, 1):
        history.apply(Evaluated(step=10 * epoch, epoch=epoch, train_loss=train_loss, val_loss=val_loss, **other))
        if val_loss == min(loss for _, loss in losses[:epoch]):
            history.apply(saved(10 * epoch))
        found.append(new_verdicts(history, Config(**changes), VOCAB_SIZE))
    return found


OVERFITTING = [(2.0, 2.0), (1.5, 1.8), (1.2, 1.9), (1.0, 2.1), (0.9, 2.2), (0.8, 2.3)]


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
    ("losses", "begins"),
    [
        ([(4.2, 4.2), (4.19, 4.21), (4.18, 4.22)], "the loss is not falling"),  # above the best, by half a percent
        ([(3.3, 3.3), (3.29, 3.4), (3.28, 3.5)], "overfitting"),  # also flat
        ([(4.2, 4.2), (4.2, 6.3), (4.2, 6.4)], "diverged"),  # also flat
        ([(4.0, 4.0), (3.9, 6.5), (3.8, 7.0)], "diverged"),  # also overfitting
        ([(1.499 * GUESSING, 4.0), (1.499 * GUESSING, 4.0)], "the loss is not falling"),
        ([(1.501 * GUESSING, 4.0)], "diverged"),
    ],
)
def test_verdicts_exclude_each_other(losses: Losses, begins: str) -> None:
    found = [text for texts in verdicts(losses) for text in texts]
    assert all(len(texts) <= 1 for texts in verdicts(losses)) and found[-1].startswith(f"{begins}: ")


def test_a_diverged_loss_comes_with_that_of_guessing_and_a_lower_rate() -> None:
    assert verdicts([(24.9, 25.5)], learning_rate=0.01)[0] == [
        "diverged: the validation loss is 25.500, far above that of blind guessing, 4.174; "
        "try --learning-rate 0.001, or clip harder with --gradient-clip 0.5"
    ]


def test_the_state_that_best_pt_keeps_may_be_of_the_middle_of_an_epoch() -> None:
    history = RunHistory(steps=False)
    for step, loss in ((10, 1.9), (15, 1.7), (20, 1.8), (30, 1.95), (40, 2.0)):
        losses = {"train_loss": 2 - step / 100, "val_loss": loss}
        history.apply(evaluated(step, epoch=-(-step // 10), epoch_ended=step % 10 == 0, **losses))
        if step == 15:
            history.apply(saved(step))
    (text,) = new_verdicts(history, Config(), VOCAB_SIZE)
    assert "since epoch 2 the validation loss rose from 1.800 to 2.000" in text and "best.pt keeps step 15;" in text
