"""What the curves of a run mean, and what to try."""

from collections.abc import Sequence
from dataclasses import replace
from math import log
from pathlib import Path
from typing import Any

import pytest

from fundamentallm.config.config import Config, Layer, resolve
from fundamentallm.config.estimate import count_memory
from fundamentallm.run.commands import Set, Stop
from fundamentallm.run.events import Evaluated, Failed, Notice
from fundamentallm.run.history import RunHistory
from fundamentallm.train.health import advise_not_finite, advise_out_of_memory, new_verdicts
from fundamentallm.train.step import NotFinite, TrainStep
from tests.conftest import journal_events
from tests.engine.conftest import EPOCH
from tests.engine.train.conftest import Breaks, Judged, Small, Train, Trained

VOCAB_SIZE = 65
Losses = Sequence[tuple[float, float]]


def verdicts(losses: Losses, epoch_ended: bool = True, **changes: Any) -> list[list[str]]:
    """What is announced after each epoch of these training and validation losses."""
    history, found = RunHistory(steps=False), []
    other = {"perplexity": 1.0, "epoch_ended": epoch_ended, "best": False}
    for epoch, (train_loss, val_loss) in enumerate(losses, 1):
        history.apply(Evaluated(step=10 * epoch, epoch=epoch, train_loss=train_loss, val_loss=val_loss, **other))
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


# ---- in a run ----


def warnings(folder: Path) -> list[tuple[int, str]]:
    return [(event.step, event.text) for event in journal_events(folder, Notice) if event.level == "warning"]


def test_a_healthy_run_is_left_alone(trained: Trained) -> None:
    (notice,) = trained(epochs=6, learning_rate=0.01, dropout=0, optimizer="muon").of(Notice)
    assert notice.text.startswith("139 windows of 16 tokens") and notice.level == "info"


LOSSES = [2.0, 3.0, 3.1, 3.2, 1.9, 2.5, 2.6, 2.7]  # overfits from epoch 3 on, recovers, and overfits from 7 on
STOPS = [[5], [2 * EPOCH + 1], [3 * EPOCH - 1, 3 * EPOCH + 4, 6 * EPOCH], [7 * EPOCH + 1]]


@pytest.mark.parametrize("stops", STOPS, ids=str)
def test_a_resumed_run_warns_at_the_same_epochs(train: Train, small: Small, judged: Judged, stops: list[int]) -> None:
    config = small(epochs=8, dropout=0.2)
    judged([*LOSSES, *LOSSES])
    uninterrupted = warnings(train(config, "plain").folder)
    assert [step for step, _ in uninterrupted] == [3 * EPOCH, 7 * EPOCH]
    source = None
    for step in stops:
        source = train(config, script={step: [Stop()]}, resume_from=source).last
    assert warnings(train(config, resume_from=source).folder) == uninterrupted


def test_a_run_that_went_back_judges_only_what_still_counts(train: Train, judged: Judged) -> None:
    judged([*LOSSES[:4], 1.8, 1.7, 1.6])
    first = train(epochs=4)
    assert train(resume_from=first.folder / "checkpoint_epoch_1.pt").warnings == []


def test_advice_speaks_of_the_settings_as_they_are_now(train: Train, judged: Judged, breaks: Breaks) -> None:
    judged(LOSSES)
    script = {4: [Set(setting="dropout", value=0.3), Set(setting="learning_rate", value=0.0005)]}
    ran = train(epochs=4, dropout=0.1, script=script)
    assert [("--dropout 0.4" in text, step) for step, text in warnings(ran.folder)] == [(True, 3 * EPOCH)]
    breaks(TrainStep, "backward", 7, NotFinite("the loss is nan"))
    failed = train(name="failed", script=script).result
    assert isinstance(failed, Failed) and failed.advice.startswith("--learning-rate 5e-05, ")


# ---- what to try when a run fails ----


def test_a_loss_that_is_not_finite_gets_a_rate_and_a_clip() -> None:
    advice = advise_not_finite(Config(learning_rate=0.003))
    assert advice == "--learning-rate 0.0003, or clip harder with --gradient-clip 0.5"
    assert advise_not_finite(Config(gradient_clip=0)).endswith("--gradient-clip 1")


def test_out_of_memory_names_smaller_runs_and_what_they_need() -> None:
    config = resolve(Layer({"batch_size": 64, "max_seq_len": 1024, "model_dim": 512, "num_heads": 8}))

    def gib(**changes: Any) -> str:
        return f"about {count_memory(replace(config, **changes), VOCAB_SIZE) / 2**30:.2g} GiB"

    assert advise_out_of_memory(config, VOCAB_SIZE) == (
        f"this run needs {gib()}; less: --batch-size 32 --accumulation-steps 2 ({gib(batch_size=32)}), "
        f"--max-seq-len 512 ({gib(max_seq_len=512)}), --model-dim 256 ({gib(model_dim=256)})"
    )
    assert count_memory(replace(config, batch_size=32), VOCAB_SIZE) < 0.6 * count_memory(config, VOCAB_SIZE)


def test_out_of_memory_advises_nothing_that_would_be_refused_or_needs_as_much() -> None:
    small = Config(batch_size=1, max_seq_len=16, model_dim=12, num_heads=6, stride=16)
    advice = advise_out_of_memory(small, VOCAB_SIZE)
    assert "--max-seq-len 8 --stride 8 (about" in advice
    assert "--batch-size" not in advice and "--model-dim" not in advice
    smallest = Config(batch_size=1, max_seq_len=2, model_dim=2, num_heads=1)
    assert advise_out_of_memory(smallest, VOCAB_SIZE).startswith("a machine with more memory: this run needs about ")
