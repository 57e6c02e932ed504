"""The best state, and a run that ends because nothing was gained."""

from pathlib import Path

import pytest

from fundamentallm.run import events
from fundamentallm.run.commands import Stop
from fundamentallm.run.journal import read_journal
from fundamentallm.run.spec import RunSpec
from fundamentallm.train import checkpoints
from fundamentallm.train.checkpoint import Checkpoint, load
from fundamentallm.train.checkpoint import save as save_checkpoint
from fundamentallm.train.trainer import Trainer
from tests.engine.seen import EPOCH, notices
from tests.engine.train.conftest import Judged, Small, Train


def test_a_best_that_a_kill_kept_from_its_name_gets_it_and_keeps_it(train: Train, small: Small, judged: Judged) -> None:
    judged([3.0, 2.0, 2.5])
    folder = train(small(epochs=3), script={2 * EPOCH: [Stop()]}).folder
    (folder / "best.pt").unlink()
    (folder / "best.pt").write_bytes((folder / "checkpoint_epoch_1.pt").read_bytes())  # before it was renamed
    again = Trainer(RunSpec(small(epochs=3), folder, auto=True), lambda _: None, lambda: ())
    assert again.run().step == 3 * EPOCH
    again.close()
    assert load(folder / "best.pt").progress().step == 2 * EPOCH


def test_patience_ends_a_run_after_so_many_epochs_without_gain(train: Train, small: Small, judged: Judged) -> None:
    losses = [3, 2, 2, 2.5, 1.9, 2, 2.1, 2.2, 9]
    judged(losses)
    assert train(small(epochs=9, patience=1), "patient").result.reason == "completed"  # nobody asked for it
    judged(losses)
    ran = train(small(epochs=9, early_stopping=True, patience=3))
    assert (ran.result.reason, ran.result.epoch, ran.result.step) == ("patience", 8, 8 * EPOCH)
    assert [event.best for event in ran.of(events.Evaluated)] == [True, True, False, False, True, False, False, False]
    assert (ran.result.best_val_loss, ran.result.best_epoch, ran.result.best_step) == (1.9, 5, 5 * EPOCH)
    assert load(ran.folder / "best.pt").progress().step == 5 * EPOCH
    assert load(ran.folder / "final_model.pt").progress().step == 8 * EPOCH
    assert load(ran.folder / "last.pt").progress().epochs_without_gain == 3
    assert [text for text in notices(ran) if "stopped early" in text] == ["stopped early: no improvement in 3 epochs"]
    assert len(ran.of(events.Finished)) == 1


def test_a_gain_in_the_middle_of_an_epoch_is_a_gain(train: Train, small: Small, judged: Judged) -> None:
    judged([3.0, 4, 2.9, 4, 5, 5])  # at 10, 18 (end), 20, 30, 36 (end)
    ran = train(small(eval_every=10, early_stopping=True, patience=1))
    assert [(event.step, event.best, event.epoch_ended) for event in ran.of(events.Evaluated)] == [
        (10, True, False), (18, False, True), (20, True, False), (30, False, False), (36, False, True),
    ]  # fmt: skip
    assert ran.result.reason == "completed"
    assert load(ran.folder / "best.pt").progress().step == 20


def test_patience_counts_on_across_a_resume(train: Train, small: Small, judged: Judged) -> None:
    judged([1, 2, 3])
    config = small(epochs=5, early_stopping=True, patience=2)
    first = train(config, script={EPOCH + 5: [Stop()]})
    second = train(config, resume_from=first.folder / "last.pt")
    assert (second.result.reason, second.result.epoch) == ("patience", 3)


def test_a_best_that_could_not_be_written_is_made_good_by_the_next_that_is_better(
    train: Train, small: Small, judged: Judged, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged([3, 1, 2, 2.5])

    def tired(checkpoint: Checkpoint, folder: Path, names: list[str]) -> int:
        if checkpoint.counters["step"] == 2 * EPOCH:
            raise OSError(28, "No space left on device")
        return save_checkpoint(checkpoint, folder, names)

    monkeypatch.setattr(checkpoints, "save", tired)
    ran = train(small(epochs=4))
    assert load(ran.folder / "best.pt").progress().step == 3 * EPOCH  # 2 is the best that the disk took
    assert load(ran.folder / "last.pt").progress().step == 4 * EPOCH


@pytest.mark.parametrize("every", [0, 4])
def test_best_is_the_true_minimum_of_every_validation_loss_that_was_logged(
    train: Train, small: Small, every: int
) -> None:
    ran = train(small(epochs=6, learning_rate=0.05, dropout=0, eval_every=every))
    again = train(small(), resume_from=ran.folder / "checkpoint_epoch_2.pt", learning_rate=0.02, epochs=5)
    logged = [event for event in read_journal(again.folder) if isinstance(event, events.Evaluated)]
    lowest = min(logged, key=lambda event: event.val_loss)
    best = load(again.folder / "best.pt")
    assert best.progress().best_val_loss == lowest.val_loss and best.progress().step == lowest.step
