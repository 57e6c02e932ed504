"""What the curves mean, and what to try."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import log
from typing import Any

import pytest

from fundamentallm.config.config import Config, Layer, resolve
from fundamentallm.config.estimate import count_memory
from fundamentallm.run.events import Evaluated, Failed, Notice
from fundamentallm.run.journal import read_journal
from fundamentallm.train import trainer
from fundamentallm.train.health import Health, not_finite, out_of_memory

VOCABULARY = 65


def judge(losses: Sequence[tuple[float, float]], **changes: Any) -> list[list[str]]:
    """What is said after each epoch of these training and validation losses."""
    health = Health(Config(**changes), VOCABULARY)
    told = []
    for epoch, (train_loss, val_loss) in enumerate(losses, 1):
        told.append(
            health.judge(
                Evaluated(
                    step=10 * epoch, epoch=epoch, train_loss=train_loss, val_loss=val_loss, perplexity=1.0,
                    epoch_ended=True, best=False,
                )
            )
        )  # fmt: skip
    return told


OVERFITTING = [(2.0, 2.0), (1.5, 1.8), (1.2, 1.9), (1.0, 2.1), (0.9, 2.2), (0.8, 2.3)]


def test_overfitting_is_said_once_with_its_evidence_and_more_dropout() -> None:
    told = judge(OVERFITTING, dropout=0.1)
    assert [len(words) for words in told] == [0, 0, 0, 1, 0, 0]
    assert told[3] == [
        "overfitting: since epoch 2 the validation loss rose from 1.800 to 2.100 while the training loss fell to "
        "1.000; best.pt keeps epoch 2; try --dropout 0.2, --epochs 2, or more text"
    ]


@pytest.mark.parametrize(("dropout", "advice"), [(0.0, 0.2), (0.1, 0.2), (0.25, 0.35), (0.4, 0.5), (0.5, None)])
def test_the_advice_is_always_more_dropout_never_less(dropout: float, advice: float | None) -> None:
    words = judge(OVERFITTING, dropout=dropout)[3][0]
    assert (f"try --dropout {advice:g}, --epochs 2" if advice else "try --epochs 2") in words
    assert ("--dropout" in words) == (advice is not None)


def test_it_is_said_again_only_after_things_got_better() -> None:
    told = judge([*OVERFITTING, (0.7, 1.7), (0.6, 1.9), (0.5, 2.0)])
    assert [bool(words) for words in told] == [False, False, False, True, False, False, False, False, True]


def test_one_epoch_that_is_worse_and_a_training_loss_that_rises_too_are_no_overfitting() -> None:
    assert not any(judge([(2, 2), (1.5, 1.8), (1.2, 1.9), (1.1, 1.7), (1.0, 1.75)]))
    assert not any(judge([(2, 2), (1.5, 1.8), (1.6, 1.9), (1.7, 2.0)]))


def test_a_loss_that_does_not_fall_is_said_once_with_what_guessing_would_give() -> None:
    told = judge([(4.2, 4.2), (4.19, 4.2), (4.18, 4.2)], learning_rate=1e-3, model_dim=64)
    assert [len(words) for words in told] == [0, 1, 0]
    assert told[1] == [
        f"the loss is not falling: 4.200, then 4.190 (blind guessing is {log(VOCABULARY):.3f}); "
        "try --learning-rate 0.0003, or a larger model (--model-dim 128)"
    ]
    assert "--learning-rate 0.0003," in judge([(4.2, 4.2), (4.2, 4.2)], learning_rate=1e-4)[1][0]


def test_a_loss_that_falls_slowly_at_the_end_is_well() -> None:
    assert not any(judge([(4.0, 4.0), (3.0, 3.0), (2.5, 2.5), (2.499, 2.5), (2.498, 2.5)]))


def test_evaluations_in_the_middle_of_an_epoch_are_not_judged() -> None:
    health = Health(Config(), VOCABULARY)
    for n in range(9):
        event = Evaluated(
            step=n, epoch=1, train_loss=4.2, val_loss=4 + n, perplexity=1.0, epoch_ended=False, best=False
        )
        assert health.judge(event) == []


def test_a_healthy_run_is_left_alone(train: Callable[..., Any], small: Callable[..., Config]) -> None:
    ran = train(small(epochs=6, learning_rate=0.01))
    told = [event for event in read_journal(ran.folder) if isinstance(event, Notice)]
    assert len(told) == 1 and told[0].text.startswith("139 windows of 16 tokens") and told[0].level == "info"


def test_the_journal_has_each_complaint_once(
    train: Callable[..., Any], small: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, losses = trainer.evaluate, [2.0, 3.0, 3.1, 3.2, 3.3]
    monkeypatch.setattr(trainer, "evaluate", lambda *_: replace(real(*_), loss=losses.pop(0)))
    ran = train(small(epochs=5, dropout=0.2))
    warned = [event for event in read_journal(ran.folder) if isinstance(event, Notice) and event.level == "warning"]
    assert len(warned) == 1 and warned[0].step == 3 * 18 and "--dropout 0.3" in warned[0].text


def test_a_loss_that_is_not_finite_gets_a_rate_and_a_clip() -> None:
    assert not_finite(Config(learning_rate=0.003)) == "--learning-rate 0.0003, or clip harder with --gradient-clip 0.5"
    assert not_finite(Config(gradient_clip=0)).endswith("--gradient-clip 1")


def test_out_of_memory_names_smaller_runs_and_what_they_need() -> None:
    config = resolve(Layer({"batch_size": 64, "max_seq_len": 1024, "model_dim": 512, "num_heads": 8}))

    def gib(**changes: Any) -> str:
        return f"about {count_memory(replace(config, **changes), VOCABULARY) / 2**30:.2g} GiB"

    assert out_of_memory(config, VOCABULARY) == (
        f"this run needs {gib()}; less: --batch-size 32 --accumulation-steps 2 ({gib(batch_size=32)}), "
        f"--max-seq-len 512 ({gib(max_seq_len=512)}), --model-dim 256 ({gib(model_dim=256)})"
    )
    need = count_memory(config, VOCABULARY)
    assert count_memory(replace(config, batch_size=32), VOCABULARY) < 0.6 * need


def test_out_of_memory_advises_nothing_that_would_be_refused_or_needs_as_much() -> None:
    words = out_of_memory(Config(batch_size=1, max_seq_len=16, model_dim=12, num_heads=6, stride=16), VOCABULARY)
    assert "--batch-size" not in words and "--max-seq-len 8 --stride 8 (about" in words and "--model-dim" not in words
    smallest = Config(batch_size=1, max_seq_len=2, model_dim=2, num_heads=1)
    assert out_of_memory(smallest, VOCABULARY).startswith("a machine with more memory: this run needs about ")


def test_running_out_of_memory_and_nan_are_said_once(
    train: Callable[..., Any], small: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fundamentallm.train.step import NotFinite, TrainStep

    for number, error in enumerate((MemoryError(), NotFinite("the loss is nan"))):

        def breaks(self: TrainStep, n: int, error: Exception = error) -> Any:
            raise error

        monkeypatch.setattr(TrainStep, "backward", breaks)
        ran = train(small(), f"run{number}")
        failed = [event for event in read_journal(ran.folder) if isinstance(event, Failed)]
        assert len(failed) == 1 and failed[0].advice and not [e for e in ran.of(Notice) if e.level == "warning"]
