"""Verdicts that a run announces while it trains, and after it was resumed."""

from pathlib import Path

import pytest

from fundamentallm.run import history
from fundamentallm.run.commands import Set, Stop
from fundamentallm.run.events import Failed, Notice
from fundamentallm.train.metrics import NotFinite
from fundamentallm.train.step import TrainStep
from tests.conftest import journal_events
from tests.engine.conftest import EPOCH
from tests.engine.train.conftest import Breaks, Judged, Small, Train, Trained


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


@pytest.mark.parametrize("stops", STOPS[:2], ids=str)
def test_what_the_steps_show_is_announced_alike_after_a_resume(train: Train, stops: list[int]) -> None:
    """The verdict needs losses of steps before the stop: the resumed run has them from the journal."""
    uninterrupted = warnings(train(name="plain", epochs=4, learning_rate=0.3).folder)
    assert uninterrupted[0][0] == EPOCH and uninterrupted[0][1].startswith("diverged: the training loss is ")
    source = train(epochs=4, learning_rate=0.3, script={stops[0]: [Stop()]}).last
    assert warnings(train(resume_from=source).folder) == uninterrupted


def test_a_warning_is_announced_once_where_an_epoch_has_more_steps_than_are_kept(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "RECENT_STEPS", 100)
    ran = train(epochs=3, batch_size=1, learning_rate=1e-5)
    assert [(step, text[:21]) for step, text in warnings(ran.folder)] == [(139, "learning rate too low")]


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
