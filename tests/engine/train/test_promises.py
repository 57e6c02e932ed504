"""What the guide promises about batches, schedules and precision."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from fundamentallm.config.config import Config
from fundamentallm.run import events
from fundamentallm.run.commands import Set, Stop
from fundamentallm.train import device
from fundamentallm.train.schedule import learning_rate, warmup
from tests.engine.seen import EPOCH, notices

Train = Callable[..., Any]
Small = Callable[..., Config]


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_batches_of_8_accumulated_4_times_train_like_batches_of_32(train: Train, small: Small, optimizer: str) -> None:
    """The last batch of each epoch is partial: 139 windows are 4 x 32 + 11."""
    common = {"epochs": 10, "dropout": 0.3, "optimizer": optimizer}
    whole = train(small(batch_size=32, **common), "whole")
    pieces = train(small(batch_size=8, accumulation_steps=4, **common), "pieces")
    assert list(pieces.losses) == list(whole.losses) == list(range(1, 51))
    assert max(abs(pieces.losses[n] - whole.losses[n]) for n in whole.losses) < 0.01
    first = [ran.of(events.Progress)[0].grad_norm[0] for ran in (whole, pieces)]
    assert first[1] == pytest.approx(first[0], abs=1e-5)
    assert pieces.result.val_loss == pytest.approx(whole.result.val_loss, abs=0.01)
    assert "effective batch size: 8 x 4 = 32" in notices(pieces)
    assert not any("effective" in text for text in notices(whole))


@pytest.mark.parametrize("schedule", ["constant", "step", "cosine", "linear", "wsd"])
def test_schedules_count_optimizer_steps_and_reach_peak_and_floor(train: Train, small: Small, schedule: str) -> None:
    ran = train(small(lr_schedule=schedule, accumulation_steps=2, batch_size=4, epochs=4, warmup_steps=5))
    pairs = [pair for event in ran.of(events.Progress) for pair in zip(event.step, event.learning_rate, strict=True)]
    rates = [rate for _, rate in sorted(pairs)]
    assert len(rates) == 4 * EPOCH and ran.result.step == 4 * EPOCH
    assert rates[:5] == pytest.approx([0.003 * n / 5 for n in range(1, 6)]) and rates[4] == max(rates) == 0.003
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[-1] == (0.003 if schedule == "constant" else 0.003 * 0.1)


def test_a_warm_up_that_is_too_long_is_shortened_to_a_tenth_and_one_line_says_so(train: Train, small: Small) -> None:
    ran = train(small(warmup_steps=500, epochs=3))
    assert [text for text in notices(ran) if "warm-up" in text] == [
        "warm-up shortened from 500 to 5 steps, a tenth of the run"
    ]
    rates = [rate for event in ran.of(events.Progress) for rate in event.learning_rate]
    assert rates[4] == 0.003 == max(rates)
    assert not any("warm-up" in text for text in notices(train(small(warmup_steps=5, epochs=3), "other")))


def test_the_schedule_goes_on_over_the_new_total(train: Train, small: Small) -> None:
    first = train(small(lr_schedule="linear"))
    second = train(small(), resume_from=first.folder / "last.pt", epochs=4)
    rates = [rate for event in second.of(events.Progress) for rate in event.learning_rate]
    total = 4 * EPOCH
    assert rates == [learning_rate(n, total, 0.003, "linear", warmup(total, None)) for n in range(2 * EPOCH, total)]
    assert rates[-1] == 0.003 * 0.1


def test_the_warm_up_belongs_to_the_total_of_now(train: Train, small: Small) -> None:
    ran = train(small(lr_schedule="linear"), script={9: [Set(setting="epochs", value=4)]})
    rates = [rate for event in ran.of(events.Progress) for rate in event.learning_rate]
    before, after = 2 * EPOCH, 4 * EPOCH  # a run that goes on from step 10 knows only the second
    assert warmup(before, None) != warmup(after, None)
    assert rates[:9] == [learning_rate(n, before, 0.003, "linear", warmup(before, None)) for n in range(9)]
    assert rates[9:] == [learning_rate(n, after, 0.003, "linear", warmup(after, None)) for n in range(9, after)]


def test_mixed_precision_without_the_instructions_is_one_line_and_float32(
    train: Train, small: Small, monkeypatch: pytest.MonkeyPatch, equal: Callable[..., bool]
) -> None:
    monkeypatch.setattr(device, "_cpu_has_bf16", lambda: False)
    plain, mixed = train(small(), "plain"), train(small(mixed_precision=True), "mixed")
    assert [text for text in notices(mixed) if "precision" in text] == [
        "mixed precision is off: this processor has no 16-bit arithmetic; training continues in float32"
    ]
    assert not any("precision" in text for text in notices(plain))
    assert mixed.losses == plain.losses and equal(mixed.weights, plain.weights)


def test_mixed_precision_trains_stays_finite_and_resumes_to_the_same_bits(
    train: Train, small: Small, monkeypatch: pytest.MonkeyPatch, equal: Callable[..., bool]
) -> None:
    monkeypatch.setattr(device, "_cpu_has_bf16", lambda: True)
    config = small(mixed_precision=True, epochs=4, learning_rate=0.01)
    plain = train(config, "plain")
    exact = train(small(epochs=4, learning_rate=0.01), "exact")
    assert not any("precision" in text for text in notices(plain))
    assert all(math.isfinite(loss) for loss in plain.losses.values())
    assert plain.losses != exact.losses and plain.losses[4 * EPOCH] < plain.losses[1] - 0.3
    assert max(abs(plain.losses[n] - exact.losses[n]) for n in range(1, 11)) < 0.2
    assert all(tensor.dtype == torch.float32 for tensor in plain.weights.values())
    first = train(config, "run", {25: [Stop()]})
    second = train(config, "run", resume_from=first.folder / "last.pt")
    assert {**first.losses, **second.losses} == plain.losses and equal(second.weights, plain.weights)
