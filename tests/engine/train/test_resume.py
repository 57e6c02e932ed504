"""A run that was stopped and goes on: the same bits, the same folder, or a refusal."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fundamentallm.config.config import Config, ConfigError
from fundamentallm.errors import UserError
from fundamentallm.run import events
from fundamentallm.run.commands import Save, Stop
from fundamentallm.run.journal import read_journal
from fundamentallm.run.locks import RunLock
from fundamentallm.run.spec import RunSpec
from fundamentallm.train import trainer
from fundamentallm.train.checkpoint import load
from fundamentallm.train.checkpoints import latest_valid_checkpoint
from fundamentallm.train.state import TrainState
from fundamentallm.train.trainer import Trainer
from tests.engine.seen import EPOCH, files, notices, steps_in

Train = Callable[..., Any]
Small = Callable[..., Config]


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize("at", [1, 11, EPOCH, EPOCH + 7])
def test_a_run_that_was_stopped_and_resumed_ends_in_the_same_bits(
    train: Train, small: Small, equal: Callable[..., bool], optimizer: str, at: int
) -> None:
    config = small(optimizer=optimizer, dropout=0.2, eval_every=5)
    plain = train(config, "plain")
    first = train(config, "run", {at: [Stop()]})
    assert (first.result.reason, first.result.step) == ("stopped", at)
    assert "final_model.pt" not in files(first.folder)
    assert load(first.folder / "last.pt").progress().step == at
    torch.manual_seed(99)  # nobody's randomness matters
    second = train(config, "run", resume_from=first.folder / "last.pt")
    assert {**first.losses, **second.losses} == plain.losses
    assert sorted([*first.losses, *second.losses]) == sorted(plain.losses)
    assert steps_in(second.folder) == plain.losses
    assert equal(second.weights, plain.weights)
    a, b = load(plain.folder / "final_model.pt"), load(second.folder / "final_model.pt")
    assert equal(a.optimizer, b.optimizer)
    assert {**a.counters, "seconds": 0, "said": 0} == {**b.counters, "seconds": 0, "said": 0}
    keep = ("step", "epoch", "train_loss", "val_loss", "epoch_ended", "best")
    told = [[getattr(event, name) for name in keep] for ran in (first, second) for event in ran.of(events.Evaluated)]
    assert told == [[getattr(event, name) for name in keep] for event in plain.of(events.Evaluated)]
    assert [event.seq for event in read_journal(second.folder)] == list(range(1, len([*first.said, *second.said]) + 1))
    assert second.said[0].resumed_from == str(first.folder / "last.pt")


def test_a_run_resumed_from_an_earlier_state_takes_back_what_came_after(
    train: Train, small: Small, equal: Callable[..., bool]
) -> None:
    plain = train(small(epochs=3), "plain")
    train(small(epochs=3), "run", {2 * EPOCH + 3: [Stop()]})
    again = train(small(), "run", resume_from=again_from(plain.folder.parent / "run", "checkpoint_epoch_1.pt"))
    assert sorted(again.losses) == list(range(EPOCH + 1, 3 * EPOCH + 1))
    assert steps_in(again.folder) == plain.losses
    assert equal(again.weights, plain.weights)


def again_from(folder: Path, name: str) -> Path:
    assert (folder / name).is_file()
    return folder / name


def test_a_killed_run_counts_its_epochs_without_gain_as_if_nothing_had_happened(train: Train, small: Small) -> None:
    config = small(epochs=6, learning_rate=0.05, early_stopping=True, patience=2, eval_every=6, dropout=0)
    plain = train(config, "plain")
    train(config, "run", {2 * EPOCH + 8: [Stop()]})  # best.pt may be of later than the state that is resumed
    again = train(config, "run", resume_from=again_from(plain.folder.parent / "run", "checkpoint_epoch_1.pt"))
    a, b = load(plain.folder / "last.pt").counters, load(again.folder / "last.pt").counters
    assert {**a, "seconds": 0, "said": 0} == {**b, "seconds": 0, "said": 0}
    assert plain.result.reason == again.result.reason and plain.result.step == again.result.step


def test_a_finished_run_goes_on_from_its_best_with_more_epochs(train: Train, small: Small) -> None:
    first = train(small())
    with pytest.raises(UserError, match="epoch 2 of 2 is done; give a larger total with --epochs"):
        train(small(), resume_from=first.folder / "best.pt")
    second = train(small(), resume_from=first.folder / "best.pt", epochs=3)
    assert (second.result.step, second.result.epoch, second.result.reason) == (3 * EPOCH, 3, "completed")
    assert second.result.best_val_loss <= first.result.best_val_loss
    assert load(second.folder / "final_model.pt").progress().step == 3 * EPOCH


def test_a_best_that_is_better_is_never_replaced_by_a_worse_one(train: Train, small: Small) -> None:
    first = train(small(epochs=3))
    best = (first.folder / "best.pt").read_bytes()
    step = load(first.folder / "best.pt").progress().step
    assert step == 3 * EPOCH
    # the same start, but hardly learning
    second = train(small(), resume_from=first.folder / "checkpoint_epoch_1.pt", learning_rate=1e-6)
    assert (first.folder / "best.pt").read_bytes() == best
    assert second.result.val_loss > first.result.val_loss
    third = train(small(), resume_from=second.folder / "last.pt", epochs=8, learning_rate=0.003)
    assert third.result.val_loss < first.result.val_loss
    assert load(first.folder / "best.pt").progress().best_val_loss == third.result.best_val_loss


def test_resuming_refuses_another_text_a_fixed_setting_and_keeps_the_folder(
    train: Train, small: Small, data: str, tmp_path: Path
) -> None:
    first = train(small(), script={5: [Stop()]})
    before = {name: (first.folder / name).read_bytes() for name in files(first.folder) if name != "lock"}
    with pytest.raises(ConfigError, match="--model-dim: cannot change"):
        train(small(), resume_from=first.folder / "last.pt", model_dim=32)
    text = Path(data).read_text()
    Path(data).write_text(text[:-1] + ("a" if text[-1] != "a" else "b"))
    with pytest.raises(UserError, match="is not the text that .* was trained on"):
        train(small(), resume_from=first.folder / "last.pt")
    assert {name: (first.folder / name).read_bytes() for name in files(first.folder) if name != "lock"} == before
    Path(data).rename(tmp_path / "moved.txt")
    (tmp_path / "moved.txt").write_text(text)
    assert train(small(), resume_from=first.folder / "last.pt", data=[str(tmp_path / "moved.txt")]).result.step == 36


def test_a_run_that_is_being_written_is_refused(train: Train, small: Small, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with RunLock(tmp_path / "run"), pytest.raises(UserError, match="is being written by process"):
        train(small())
    assert files(tmp_path / "run") == {"lock"}


def test_a_run_that_another_process_wrote_while_this_one_read_it_is_refused(
    train: Train, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = train(small(), script={9: [Stop()]}).folder

    def slow(job: RunSpec) -> TrainState:
        parts = build(job)
        train(small(), resume_from=folder / "last.pt", script={13: [Stop()]})
        return parts

    build = trainer.build_state
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "build_state", lambda job: (patch.setattr(trainer, "build_state", build), slow(job))[1])
        with pytest.raises(UserError, match="another process wrote it during start-up"):
            trainer.Trainer(RunSpec(small(), folder, auto=True), lambda _: None, lambda: [])
    RunLock(folder).release()
    assert load(folder / "last.pt").progress().step == 13


@pytest.mark.parametrize(
    "name", ["best.pt", "last.pt", "checkpoint_epoch_1.pt", "checkpoint_step_7.pt", "final_model.pt"]
)
def test_any_checkpoint_can_be_resumed_and_epochs_is_the_total(train: Train, small: Small, name: str) -> None:
    first = train(small(), script={7: [Save()]})
    step = load(first.folder / name).progress().step
    second = train(small(), resume_from=first.folder / name, epochs=3)
    assert (second.result.step, second.result.epoch, second.result.reason) == (3 * EPOCH, 3, "completed")
    assert sorted(second.losses) == list(range(step + 1, 3 * EPOCH + 1))
    assert {"checkpoint_step_7.pt": 7, "checkpoint_epoch_1.pt": EPOCH}.get(name, 2 * EPOCH) == step


def test_every_setting_that_cannot_change_on_resume_is_listed_at_once(train: Train, small: Small) -> None:
    first = train(small(), script={5: [Stop()]})
    with pytest.raises(ConfigError) as caught:
        train(small(), resume_from=first.folder / "last.pt", seed=4, model_dim=15, num_heads=7, epochs=0, batch_size=8)
    assert str(caught.value).splitlines() == [
        "--model-dim: cannot change on resume: the checkpoint has 16; leave it out",
        "--num-heads: cannot change on resume: the checkpoint has 2; leave it out",
        "--seed: cannot change on resume: the checkpoint has 0; leave it out",
        "--epochs: 0 is out of bounds; it must be at least 1, at most 1,000,000",
    ]


def test_several_texts_are_trained_on_and_resumed_in_the_same_bits(
    train: Train, small: Small, tmp_path: Path, text: str, equal: Callable[..., bool]
) -> None:
    (tmp_path / "texts").mkdir()
    for name, piece in (("a.txt", text[:900]), ("b.txt", text[900:910]), ("c.txt", text[910:])):
        (tmp_path / "texts" / name).write_text(piece)
    config = small(data=str(tmp_path / "texts"))
    plain = train(config, "plain")
    assert [words for words in notices(plain) if "left out" in words] == [
        "1 of the 3 training texts is left out: shorter than a window of 16 + 1 characters"
    ]
    first = train(config, script={11: [Stop()]})
    second = train(config, resume_from=first.folder / "last.pt")
    assert {**first.losses, **second.losses} == plain.losses and equal(second.weights, plain.weights)
    (tmp_path / "texts" / "b.txt").write_text(text[900:909])
    (tmp_path / "texts" / "c.txt").write_text(text[909:])  # the same characters, another border
    with pytest.raises(UserError, match="is not the text that .* was trained on"):
        train(config, resume_from=first.folder / "last.pt")


@pytest.mark.parametrize("auto", [True, False])
def test_fewer_epochs_than_were_begun_are_refused(auto: bool, train: Train, small: Small) -> None:
    ran = train(small(epochs=4), script={2 * EPOCH + 3: [Stop()]})
    before = {path.name: path.read_bytes() for path in ran.folder.iterdir()}
    source = None if auto else ran.folder / "last.pt"
    with pytest.raises(UserError, match=r"--epochs 2: .*last.pt is in epoch 3 already; that is the smallest total"):
        Trainer(RunSpec(small(epochs=4), ran.folder, source, {"epochs": 2}, auto), lambda _: None, lambda: ())
    assert {path.name: path.read_bytes() for path in ran.folder.iterdir()} == before
    assert (
        Trainer(RunSpec(small(epochs=4), ran.folder, source, {"epochs": 3}, auto), lambda _: None, lambda: ())
        .run()
        .step
        == 3 * EPOCH
    )


def test_a_run_without_a_whole_checkpoint_says_that_it_begins_anew(train: Train, small: Small) -> None:
    ran = train(small(epochs=1))
    names = [path.name for path in ran.folder.glob("*.pt")]
    for name in names:
        (ran.folder / name).write_bytes((ran.folder / name).read_bytes()[:2000])
    found, told = latest_valid_checkpoint(ran.folder)
    assert found is None and len(told) == len(names) + 1 and told[-1] == "no checkpoint is valid: the run begins anew"
    assert not any("an older one" in words for words in told)
