"""What the curves of a run mean, and what to try."""

import re
from collections.abc import Sequence
from dataclasses import replace
from math import inf, log
from pathlib import Path
from typing import Any

import pytest

from fundamentallm.config.advice import advise_not_finite, advise_out_of_memory
from fundamentallm.config.config import Config, Layer, resolve, to_dict
from fundamentallm.config.estimate import count_memory
from fundamentallm.run.commands import Set, Stop
from fundamentallm.run.events import Evaluated, Failed, Notice
from fundamentallm.run.health import new_verdicts
from fundamentallm.run.history import RunHistory
from fundamentallm.train.step import NotFinite, TrainStep
from tests.conftest import journal_events
from tests.engine.conftest import EPOCH
from tests.engine.run.conftest import evaluated, saved
from tests.engine.train.conftest import Breaks, Judged, Small, Train, Trained

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


# ---- in a run ----


def test_a_text_of_one_character_has_nothing_to_learn(train: Train, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a" * 2500)
    ran = train(epochs=3, data=str(tmp_path / "a.txt"))
    assert ran.result.reason == "completed"
    assert warnings(ran.folder) == [(
        EPOCH,
        "nothing to learn: the text is one character, again and again, so every guess is right; train on other text",
    )]  # fmt: skip


def warnings(folder: Path) -> list[tuple[int, str]]:
    return [(event.step, event.text) for event in journal_events(folder, Notice) if event.level == "warning"]


def test_a_healthy_run_is_left_alone(trained: Trained) -> None:
    (notice,) = trained(epochs=6, learning_rate=0.01, dropout=0).of(Notice)
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


GIB = 2.0**30
LARGE = {"batch_size": 64, "max_seq_len": 1024, "model_dim": 512, "num_heads": 8}


def needs(config: Config, **changes: Any) -> str:
    return f"(about {count_memory(replace(config, **changes), VOCAB_SIZE) / GIB:,.1f} GiB)"


def test_out_of_memory_names_smaller_runs_and_what_they_need() -> None:
    config = resolve(Layer(LARGE))
    need = count_memory(config, VOCAB_SIZE)
    assert 21.0 < need / GIB < 21.1
    half = (
        f"a new run with --batch-size 32 --accumulation-steps 2 {needs(config, batch_size=32)} or "
        f"--max-seq-len 512 {needs(config, max_seq_len=512)} or --model-dim 256 {needs(config, model_dim=256)}; "
        f"this run needs about {need / GIB:.1f} GiB"
    )
    assert advise_out_of_memory(config, VOCAB_SIZE, inf) == half
    assert advise_out_of_memory(config, VOCAB_SIZE, 20 * GIB) == half + ", and 20.0 GiB are free"
    assert count_memory(replace(config, batch_size=32), VOCAB_SIZE) < 0.6 * need


def test_out_of_memory_names_only_what_fits_in_plain_digits() -> None:
    config = resolve(Layer(LARGE | {"batch_size": 2560, "num_layers": 6, "accumulation_steps": 3}))
    need = count_memory(config, VOCAB_SIZE)
    advice = advise_out_of_memory(config, VOCAB_SIZE, 22.4 * GIB)
    assert advice == (
        f"a new run with --batch-size 40 --accumulation-steps 192 {needs(config, batch_size=40)} or "
        f"--max-seq-len 16 {needs(config, max_seq_len=16)}; "  # no model of 8 heads is small enough
        f"this run needs about {need / GIB:.1f} GiB, and 22.4 GiB are free"
    )
    assert count_memory(replace(config, batch_size=80), VOCAB_SIZE) > 22.4 * GIB
    for limit in (0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 500.0):
        advice = advise_out_of_memory(config, VOCAB_SIZE, limit * GIB)
        assert "e+" not in advice
        for flags in re.findall(r"(--[^()]+) \(", advice):  # each is a run that can be started, and fits
            words = flags.split()
            changes = {name[2:].replace("-", "_"): value for name, value in zip(words[::2], words[1::2], strict=True)}
            smaller = resolve(Layer({**to_dict(config), **changes}))
            assert count_memory(smaller, VOCAB_SIZE) <= limit * GIB
            assert smaller.effective_batch == config.effective_batch


def test_out_of_memory_halves_everything_where_one_alone_does_not_do() -> None:
    config = resolve(Layer(LARGE))
    advice = advise_out_of_memory(config, VOCAB_SIZE, 0.05 * GIB)
    flags = r"--batch-size \d+ --accumulation-steps \d+ --max-seq-len \d+ --model-dim \d+"
    assert re.match(rf"a new run with {flags} \(about \d+ MiB\); ", advice)
    assert " or " not in advice and advice.endswith("and 51 MiB are free")


def test_out_of_memory_advises_nothing_that_would_be_refused_or_needs_as_much() -> None:
    small = Config(batch_size=1, max_seq_len=16, model_dim=12, num_heads=6, stride=5)
    advice = advise_out_of_memory(small, VOCAB_SIZE, inf)
    assert advice.startswith("a new run with --max-seq-len 8 --stride 2 (about") and "--batch-size" not in advice
    assert "--model-dim" not in advice
    smallest = Config(batch_size=1, max_seq_len=2, model_dim=2, num_heads=1)
    for config, free, told in ((smallest, inf, ""), (resolve(Layer(LARGE)), 1024.0, ", and 0 MiB are free")):
        advice = advise_out_of_memory(config, VOCAB_SIZE, free)
        assert advice.startswith("a machine with more memory: this run needs about ")
        assert advice.endswith(f"iB{told}; no smaller batch, context or model fits")
