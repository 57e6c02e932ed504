"""The loop: when it steps, reports, evaluates, saves, obeys, and how it ends."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fundamentallm import commands, device, events, step, trainer
from fundamentallm.build import Build
from fundamentallm.checkpoint import Checkpoint, load
from fundamentallm.checkpoint import save as save_checkpoint
from fundamentallm.commands import CancelSample, Command, Pause, Resume, Sample, Save, Set, Stop
from fundamentallm.config import Config, ConfigError, resolve
from fundamentallm.errors import UserError
from fundamentallm.evaluate import evaluate
from fundamentallm.job import Job
from fundamentallm.journal import read_journal
from fundamentallm.presets import load_config
from fundamentallm.run import RunLock
from fundamentallm.schedule import learning_rate, warmup
from fundamentallm.step import Stepper

Train = Callable[..., Any]
Small = Callable[..., Config]
EPOCH = 18  # steps: 139 windows, 8 at a time


def steps_in(journal: Path) -> dict[int, float]:
    """Losses by step as the journal tells them; a start at step n takes back what was said of later steps."""
    losses: dict[int, float] = {}
    for event in read_journal(journal):
        if isinstance(event, events.RunStarted):
            losses = {n: loss for n, loss in losses.items() if n <= event.step}
        if isinstance(event, events.Progress):
            for n, loss in zip(event.step, event.train_loss, strict=True):
                assert n not in losses
                losses[n] = loss
    return losses


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# ---- a whole run ----


def test_a_run_leaves_its_files_and_says_its_story_in_order(train: Train, small: Small) -> None:
    ran = train(small())
    assert files(ran.folder) == {
        "config.yaml", "journal.jsonl", "lock", "tokenizer.json", "last.pt", "best.pt", "final_model.pt",
        "checkpoint_epoch_1.pt", "checkpoint_epoch_2.pt",
    }  # fmt: skip
    assert list(read_journal(ran.folder)) == ran.said
    assert [event.seq for event in ran.said] == list(range(1, len(ran.said) + 1))
    started, finished = ran.said[0], ran.said[-1]
    assert isinstance(started, events.RunStarted) and isinstance(finished, events.Finished)
    assert (started.step, started.total_steps, started.steps_per_epoch) == (0, 2 * EPOCH, EPOCH)
    assert started.parameters == sum(p.numel() for p in ran.weights.values())
    assert resolve(load_config(ran.folder / "config.yaml")) == replace(small(), output_dir=str(ran.folder))
    assert (finished.step, finished.reason, finished.epoch, finished.unsaved) == (2 * EPOCH, "completed", 2, "")
    assert finished.tokens == 2 * 139 * 16 and finished.path == "best.pt"
    assert sorted(ran.losses) == list(range(1, 2 * EPOCH + 1))
    last = [events.last_step(event) for event in ran.said]
    assert last == sorted(last)
    vocabulary = json.loads((ran.folder / "tokenizer.json").read_text())["vocabulary"]
    assert "".join(vocabulary) == load(ran.folder / "last.pt").vocabulary
    for name, done in (("checkpoint_epoch_1.pt", EPOCH), ("checkpoint_epoch_2.pt", 2 * EPOCH), ("last.pt", 2 * EPOCH),
                       ("final_model.pt", 2 * EPOCH)):  # fmt: skip
        assert load(ran.folder / name).progress().step == done
    RunLock(ran.folder).release()


def test_every_loss_before_a_checkpoint_stands_in_the_journal_before_it(
    train: Train, small: Small, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from fundamentallm import saver

    synced: list[int] = []
    real_sync, real_save = saver.Journal.sync, saver.save

    def sync(journal: Any) -> None:
        real_sync(journal)
        synced.append(len(steps_in(tmp_path / "run")))

    def save(checkpoint: Checkpoint, folder: Path, names: list[str]) -> int:
        assert synced.pop() == checkpoint.counters["step"] == len(steps_in(folder))
        return real_save(checkpoint, folder, names)

    monkeypatch.setattr(saver.Journal, "sync", sync)
    monkeypatch.setattr(saver, "save", save)
    train(small(save_every=5), "run", {7: [Save()]})


@pytest.mark.parametrize("changes", [{}, {"optimizer": "adamw", "accumulation_steps": 2, "lr_schedule": "linear"}])
def test_losses_and_weights_are_those_of_a_plain_loop(
    train: Train, small: Small, parts: Callable[..., Build], equal: Callable[..., bool], changes: dict[str, Any]
) -> None:
    ran, built = train(small(**changes)), parts(**changes)
    take = Stepper(built.model, built.optimizer, built.corpus, built.config, built.precision)
    total, losses, rates, norms = built.total_steps, {}, {}, {}
    for n in range(total):
        rate = learning_rate(n, total, built.config.learning_rate, built.config.lr_schedule, warmup(total, None))
        loss, norm = take(n, rate)
        losses[n + 1], rates[n + 1], norms[n + 1] = loss.item(), rate, norm.item()
    assert ran.losses == pytest.approx(losses, rel=1e-8)
    told = [pair for event in ran.of(events.Progress) for pair in zip(event.step, event.learning_rate, strict=True)]
    assert dict(told) == rates
    told = [pair for event in ran.of(events.Progress) for pair in zip(event.step, event.grad_norm, strict=True)]
    assert dict(told) == pytest.approx(norms, rel=1e-8)
    assert equal(ran.weights, {name: p.detach() for name, p in built.model.named_parameters()})
    ends = [event for event in ran.of(events.Evaluated) if event.epoch_ended]
    result = evaluate(built.model, built.corpus.val, 16, built.precision)
    assert ends[-1].val_loss == result.loss and ends[-1].perplexity == result.perplexity
    per_epoch = total // 2
    for n, event in enumerate(ends):  # the mean over the epoch's tokens
        span = range(n * per_epoch, (n + 1) * per_epoch)
        weights = {s: built.corpus.real_rows(s) for s in span}
        mean = sum(losses[s + 1] * w for s, w in weights.items()) / sum(weights.values())
        assert event.train_loss == pytest.approx(mean, rel=1e-6)


def test_a_model_learns(train: Train, small: Small) -> None:
    ran = train(small(epochs=6, learning_rate=0.01, dropout=0))
    losses = ran.losses
    assert losses[1] > 2.6 and losses[6 * EPOCH] < 1.7
    assert ran.result.val_loss < 1.7


# ---- looking changes nothing ----


def test_looking_at_a_run_changes_no_weight(train: Train, small: Small, equal: Callable[..., bool]) -> None:
    plain = train(small(), "plain")
    looked = train(
        small(eval_every=4, save_every=3),
        "looked",
        {
            2: [Sample(prompt="the ", max_tokens=30, seed=1)],
            5: [Save(), Sample(prompt="", max_tokens=5)],
            9: [Pause(), Resume()],
            20: [Save(), Save()],
        },
    )
    assert looked.losses == plain.losses
    assert equal(looked.weights, plain.weights)
    a, b = load(plain.folder / "last.pt"), load(looked.folder / "last.pt")
    assert equal(a.optimizer, b.optimizer)


# ---- stop and resume ----


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


# ---- what is kept ----


def test_only_the_newest_epochs_are_kept_and_what_a_person_saved(train: Train, small: Small) -> None:
    ran = train(small(epochs=5, keep_checkpoints=2), script={3: [Save()], 40: [Save()]})
    assert {name for name in files(ran.folder) if name.startswith("checkpoint")} == {
        "checkpoint_epoch_4.pt", "checkpoint_epoch_5.pt", "checkpoint_step_3.pt", "checkpoint_step_40.pt",
    }  # fmt: skip
    assert load(ran.folder / "checkpoint_step_40.pt").progress().step == 40


def test_a_run_that_went_back_keeps_what_it_has_just_saved(train: Train, small: Small) -> None:
    ran = train(small(epochs=4))
    train(small(), resume_from=ran.folder / "checkpoint_epoch_1.pt", epochs=2, keep_checkpoints=1)
    assert {name for name in files(ran.folder) if name.startswith("checkpoint")} == {
        "checkpoint_epoch_2.pt", "checkpoint_epoch_3.pt", "checkpoint_epoch_4.pt",
    }  # fmt: skip
    assert load(ran.folder / "checkpoint_epoch_2.pt").settings().epochs == 2


def test_files_of_others_are_not_cleaned_away(train: Train, small: Small, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for name in (".notes.tmp", ".last.pt.4711.tmp", ".best.pt.4711.link.tmp"):
        (tmp_path / "run" / name).touch()
    train(small(epochs=1))
    assert [path.name for path in (tmp_path / "run").glob(".*")] == [".notes.tmp"]


def test_last_is_saved_every_so_many_steps(train: Train, small: Small) -> None:
    ran = train(small(save_every=5))
    saved = [event.step for event in ran.of(events.CheckpointSaved) if event.kind == "last" and event.step]
    assert saved == [5, 10, 15, 18, 20, 25, 30, 35, 36]


def test_last_is_saved_also_where_an_evaluation_falls_on_the_same_step(train: Train, small: Small) -> None:
    ran = train(small(save_every=5, eval_every=5, learning_rate=1e-9))
    saved = [event.step for event in ran.of(events.CheckpointSaved) if event.kind == "last" and event.step]
    assert saved == [5, 10, 15, 18, 20, 25, 30, 35, 36]


def test_a_save_says_name_kind_and_size(train: Train, small: Small) -> None:
    ran = train(small(), script={3: [Save()]})
    for event in ran.of(events.CheckpointSaved):
        kinds = {"last.pt": "last", "best.pt": "best", "final_model.pt": "final"}
        kind = kinds.get(event.path) or ("hand" if "step" in event.path else "epoch")
        assert event.kind == kind and event.bytes > 1000 and event.seconds >= 0
    assert ran.of(events.CheckpointSaved)[-1].bytes == (ran.folder / "final_model.pt").stat().st_size
    assert not ran.of(events.CheckpointFailed)


# ---- evaluation and early stopping ----


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[float]], None]:
    """Make the validation losses these."""

    def set_losses(losses: Sequence[float]) -> None:
        left = list(losses)
        monkeypatch.setattr(trainer, "evaluate", lambda *_: replace(real(*_), loss=left.pop(0)))

    real = trainer.evaluate
    return set_losses


def test_a_best_that_a_kill_kept_from_its_name_gets_it_and_keeps_it(
    train: Train, small: Small, judged: Callable[[Sequence[float]], None]
) -> None:
    judged([3.0, 2.0, 2.5])
    folder = train(small(epochs=3), script={2 * EPOCH: [Stop()]}).folder
    (folder / "best.pt").unlink()
    (folder / "best.pt").write_bytes((folder / "checkpoint_epoch_1.pt").read_bytes())  # before it was renamed
    again = trainer.Trainer(Job(small(epochs=3), folder, auto=True), lambda _: None, lambda: ())
    assert again.run().step == 3 * EPOCH
    again.close()
    assert load(folder / "best.pt").progress().step == 2 * EPOCH


def test_patience_ends_a_run_after_so_many_epochs_without_gain(
    train: Train, small: Small, judged: Callable[[Sequence[float]], None]
) -> None:
    judged([3, 2, 2, 2.5, 1.9, 2, 2.1, 2.2, 9])
    ran = train(small(epochs=9, early_stopping=True, patience=3))
    assert (ran.result.reason, ran.result.epoch, ran.result.step) == ("patience", 8, 8 * EPOCH)
    assert [event.best for event in ran.of(events.Evaluated)] == [True, True, False, False, True, False, False, False]
    assert (ran.result.best_val_loss, ran.result.best_epoch, ran.result.best_step) == (1.9, 5, 5 * EPOCH)
    assert load(ran.folder / "best.pt").progress().step == 5 * EPOCH
    assert load(ran.folder / "final_model.pt").progress().step == 8 * EPOCH
    assert load(ran.folder / "last.pt").progress().epochs_without_gain == 3


def test_without_early_stopping_a_run_goes_to_its_end(
    train: Train, small: Small, judged: Callable[[Sequence[float]], None]
) -> None:
    judged([1, 2, 3, 4])
    assert train(small(epochs=4, patience=1)).result.reason == "completed"


def test_a_gain_in_the_middle_of_an_epoch_is_a_gain(
    train: Train, small: Small, judged: Callable[[Sequence[float]], None]
) -> None:
    judged([3.0, 4, 2.9, 4, 5, 5])  # at 10, 18 (end), 20, 30, 36 (end)
    ran = train(small(eval_every=10, early_stopping=True, patience=1))
    assert [(event.step, event.best, event.epoch_ended) for event in ran.of(events.Evaluated)] == [
        (10, True, False), (18, False, True), (20, True, False), (30, False, False), (36, False, True),
    ]  # fmt: skip
    assert ran.result.reason == "completed"
    assert load(ran.folder / "best.pt").progress().step == 20


def test_patience_counts_on_across_a_resume(
    train: Train, small: Small, judged: Callable[[Sequence[float]], None]
) -> None:
    judged([1, 2, 3])
    config = small(epochs=5, early_stopping=True, patience=2)
    first = train(config, script={EPOCH + 5: [Stop()]})
    second = train(config, resume_from=first.folder / "last.pt")
    assert (second.result.reason, second.result.epoch) == ("patience", 3)


# ---- failing ----


def test_a_loss_that_turns_nan_fails_the_run_and_leaves_finite_weights(
    train: Train, small: Small, monkeypatch: pytest.MonkeyPatch, equal: Callable[..., bool]
) -> None:
    plain = train(small(), "plain", {10: [Stop()]})
    real = step.F.cross_entropy
    calls = [0]

    def breaks(*arguments: Any, **named: Any) -> torch.Tensor:
        calls[0] += 1
        return real(*arguments, **named) * (math.nan if calls[0] > 10 else 1)

    monkeypatch.setattr(step.F, "cross_entropy", breaks)
    ran = train(small())
    assert isinstance(ran.result, events.Failed) and isinstance(ran.said[-1], events.Failed)
    assert ran.result.step == 10 and "step 11 was refused" in ran.result.error
    assert "--learning-rate 0.0003" in ran.result.advice and "--gradient-clip 0.5" in ran.result.advice
    assert ran.result.saved == "last.pt"
    saved = load(ran.folder / "last.pt")
    assert saved.progress().step == 10 and equal(saved.model, load(plain.folder / "last.pt").model)
    assert all(torch.isfinite(tensor).all() for tensor in (*saved.model.values(), *saved.optimizer.values()))
    assert sorted(ran.losses) == list(range(1, 11))
    assert "final_model.pt" not in files(ran.folder)
    monkeypatch.undo()
    assert train(small(), resume_from=ran.folder / "last.pt").result.reason == "completed"


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_an_aggressive_learning_rate_stays_finite(train: Train, small: Small, optimizer: str) -> None:
    ran = train(small(learning_rate=0.01, optimizer=optimizer, epochs=4))
    assert isinstance(ran.result, events.Finished) and math.isfinite(ran.result.val_loss)


def test_running_out_of_memory_fails_with_advice(train: Train, small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Stepper.backward

    def breaks(self: Stepper, n: int) -> torch.Tensor:
        if n == 5:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory")
        return real(self, n)

    monkeypatch.setattr(Stepper, "backward", breaks)
    ran = train(small())
    assert isinstance(ran.result, events.Failed)
    assert ran.result.error == "out of memory" and "--batch-size 4 --accumulation-steps 2 (" in ran.result.advice
    assert load(ran.folder / "last.pt").progress().step == 5


def test_what_only_sounds_like_out_of_memory_keeps_its_traceback(
    train: Train, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(self: Stepper, n: int) -> torch.Tensor:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(Stepper, "backward", breaks)
    with pytest.raises(RuntimeError, match="illegal"):
        train(small())


def test_a_step_that_a_gpu_refused_ends_the_run_after_the_steps_before_it(
    train: Train, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU's steps are looked at when they are reported: here five at once, the fourth broken and only this once."""
    monkeypatch.setattr(trainer, "TICK", 1e9)
    real, broken = Stepper.__call__, {3}

    def unseen(self: Stepper, n: int, rate: float) -> tuple[torch.Tensor, torch.Tensor]:
        loss, norm = real(self, n, rate)
        wrong = n in broken
        broken.discard(n)
        return (loss * math.nan if wrong else loss), norm

    monkeypatch.setattr(Stepper, "__call__", unseen)
    ran = train(small(save_every=5))
    assert isinstance(ran.result, events.Failed) and "step 4 was refused" in ran.result.error
    assert sorted(ran.losses) == [1, 2, 3] and ran.result.step == 3


# ---- commands ----


def answers(ran: Any) -> dict[str, tuple[str, bool, str]]:
    told = ran.of(events.Answered)
    assert len({event.id for event in told}) == len(told), "answered twice"
    return {event.id: (event.command, event.ok, event.why) for event in told}


def test_every_command_is_answered_exactly_once(train: Train, small: Small) -> None:
    given: dict[int, list[Command]] = {
        3: [Pause(id="p"), Save(id="s"), Resume(id="r")],
        5: [Sample(id="a", prompt="the", max_tokens=5), CancelSample(id="c", sample="a")],
        6: [Sample(id="b", prompt="é☃", max_tokens=5), Resume(id="again")],
        7: [Stop(id="x")],
    }
    ran = train(small(), script=given)
    assert {id: (name, ok) for id, (name, ok, _) in answers(ran).items()} == {
        "p": ("pause", True), "s": ("save", True), "r": ("resume", True), "a": ("sample", True),
        "c": ("cancel_sample", False), "b": ("sample", False), "again": ("resume", True), "x": ("stop", True),
    }  # fmt: skip
    assert "'é' '☃'" in answers(ran)["b"][2]
    assert (ran.result.reason, ran.result.step) == ("stopped", 7)


def test_a_paused_run_stands_still_and_still_obeys(train: Train, small: Small) -> None:
    asked: list[int] = []

    def script(run: Any) -> list[Command]:
        step_now = run._counters.step
        if step_now == 4:
            asked.append(step_now)
        if step_now == 4 and len(asked) == 1:
            return [Pause()]
        if len(asked) == 3:
            asked.append(4)
            return [Save(id="s"), Sample(prompt="a", max_tokens=2)]
        if len(asked) >= 5 and run.paused:
            return [Resume()]
        return []

    ran = train(small(), script=script)
    phases = [(event.phase, event.step) for event in ran.of(events.Phase)]
    paused = phases.index(("paused", 4))
    assert ("saving", 4) in phases[paused:] and ("sampling", 4) in phases[paused:]
    assert phases[paused:].count(("paused", 4)) == 3  # said again after each of the two
    assert (ran.folder / "checkpoint_step_4.pt").exists()
    assert sorted(ran.losses) == list(range(1, 2 * EPOCH + 1))
    before = [event for event in ran.said[: ran.said.index(ran.of(events.Phase)[paused])]]
    assert max(events.last_step(event) for event in before if isinstance(event, events.Progress)) == 4


def test_a_paused_run_can_be_stopped(train: Train, small: Small) -> None:
    left = [[Pause(id="p")], [], [Stop(id="x")]]
    ran = train(small(), script=lambda run: left.pop(0) if run._counters.step == 4 and left else [])
    assert (ran.result.reason, ran.result.step) == ("stopped", 4)
    assert load(ran.folder / "last.pt").progress().step == 4
    assert set(answers(ran)) == {"p", "x"}


def test_a_sample_is_said_in_pieces_that_make_its_text(
    train: Train, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fundamentallm import sampler

    monkeypatch.setattr(sampler, "PIECE", 0.0)
    ran = train(small(), script={4: [Sample(id="a", prompt="the ", max_tokens=40, seed=1)]})
    pieces = ran.of(events.Sampled)
    assert [piece.done for piece in pieces] == [False] * (len(pieces) - 1) + [True] and len(pieces) > 5
    assert {(piece.id, piece.prompt, piece.step) for piece in pieces} == {("a", "the ", 4)}
    text, chances = "".join(piece.text for piece in pieces), [p for piece in pieces for p in piece.probabilities]
    assert len(text) == len(chances) == 40 and all(0 <= p <= 1 for p in chances)


@pytest.mark.parametrize("word", ["cancel", "stop"])
def test_a_cancel_or_a_stop_ends_a_sample_and_is_answered(
    train: Train, small: Small, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    from fundamentallm import sampler

    monkeypatch.setattr(sampler, "PIECE", 0.0)
    cancel = CancelSample(id="c", sample="a") if word == "cancel" else Stop(id="c")
    queue: list[list[Command]] = [
        [Sample(id="a", prompt="the ", max_tokens=5000)], [Save(id="s")], [CancelSample(id="n", sample="zz")], [cancel]
    ]  # fmt: skip
    ran = train(small(), script=lambda run: queue.pop(0) if run._counters.step >= 4 and queue else [])
    assert len("".join(piece.text for piece in ran.of(events.Sampled))) < 20
    assert ran.of(events.Sampled)[-1].done
    told = answers(ran)
    assert set(told) == {"a", "s", "n", "c"}
    assert told["a"][1] and told["s"][1] and told["c"][1] and not told["n"][1]
    assert ran.result.reason == ("completed" if word == "cancel" else "stopped")


def test_strange_samples_do_not_stop_a_run(train: Train, small: Small) -> None:
    strange = [
        Sample(prompt="a", max_tokens=-5), Sample(prompt="a", max_tokens=3, temperature=math.nan),
        Sample(prompt="a", max_tokens=3, temperature=math.inf), Sample(prompt="a", max_tokens=3, temperature=1e-300),
        Sample(prompt="a", max_tokens=3, temperature=-1.0), Sample(prompt="a", max_tokens=3, top_k=-3),
        Sample(prompt="a", max_tokens=3, top_k=10**9), Sample(prompt="a", max_tokens=3, top_p=math.nan),
        Sample(prompt="a", max_tokens=3, top_p=-1.0), Sample(prompt="a", max_tokens=3, seed=10**30),
        Sample(prompt="a" * 1000, max_tokens=3), Sample(prompt="", max_tokens=3, seed=-1),
    ]  # fmt: skip
    ran = train(small(), script={4: strange})
    assert ran.result.reason == "completed"
    assert len(answers(ran)) == len(strange)


def test_after_the_end_samples_are_answered_and_nothing_else(train: Train, small: Small) -> None:
    ran = train(small())
    kept, before = len(list(read_journal(ran.folder))), files(ran.folder)
    ran.said.clear()
    late: list[list[Command]] = [[Save(id="s"), Pause(id="p")], []]
    ran.trainer._listen = lambda: late.pop(0) if late else []
    from fundamentallm import sampler

    piece, sampler.PIECE = sampler.PIECE, 0.0
    try:
        ran.trainer.answer_late(
            [Sample(id="a", prompt="the", max_tokens=4), Stop(id="x"), CancelSample(id="c", sample="a")]
        )
    finally:
        sampler.PIECE = piece
    assert len("".join(piece.text for piece in ran.of(events.Sampled))) == 4
    assert {id: ok for id, (_, ok, _) in answers(ran).items()} == {
        "a": True, "s": False, "p": False, "x": False, "c": False,
    }  # fmt: skip
    assert len(list(read_journal(ran.folder))) == kept and files(ran.folder) == before


def test_progress_is_said_in_columns_of_equal_length(train: Train, small: Small) -> None:
    ran = train(small())
    for event in ran.of(events.Progress):
        lengths = {len(event.step), len(event.train_loss), len(event.learning_rate), len(event.grad_norm)}
        assert len(lengths) == 1 and event.memory_bytes > 0 and event.tokens_per_second >= 0
        assert event.epoch == math.ceil(event.step[-1] / EPOCH)
    assert set(commands.NAMES.values()) == {"pause", "resume", "save", "stop", "sample", "cancel_sample", "set"}
    tokens = [event.tokens for event in ran.of(events.Progress)]
    assert tokens == sorted(tokens) and tokens[-1] == 2 * 139 * 16


def test_a_best_that_could_not_be_written_is_made_good_by_the_next_that_is_better(
    train: Train, small: Small, judged: Callable[[Sequence[float]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fundamentallm import saver

    judged([3, 1, 2, 2.5])

    def tired(checkpoint: Checkpoint, folder: Path, names: list[str]) -> int:
        if checkpoint.counters["step"] == 2 * EPOCH:
            raise OSError(28, "No space left on device")
        return save_checkpoint(checkpoint, folder, names)

    monkeypatch.setattr(saver, "save", tired)
    ran = train(small(epochs=4))
    assert load(ran.folder / "best.pt").progress().step == 3 * EPOCH  # 2 is the best that the disk took
    assert load(ran.folder / "last.pt").progress().step == 4 * EPOCH


# ---- what the guide promises ----


def notices(ran: Any) -> list[str]:
    return [event.text for event in ran.of(events.Notice)]


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


def test_a_change_that_cannot_be_written_down_is_refused_and_never_told(
    train: Train, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = trainer.Journal.sync

    def full(self: trainer.Journal) -> None:
        if ran_into and ran_into.pop():
            raise OSError(28, "No space left on device")
        sync(self)

    def script(running: trainer.Trainer) -> list[Command]:
        if running._counters.step != 9 or ran_into:
            return []
        ran_into[:] = [False, True]
        return [Set(setting="epochs", value=4)]

    ran_into: list[bool] = []
    monkeypatch.setattr(trainer.Journal, "sync", full)
    ran = train(small(), script=script)
    assert [(e.ok, e.why) for e in ran.of(events.Answered)] == [(False, "[Errno 28] No space left on device")]
    assert ran.of(events.Intervention) == [] and ran.result.step == 2 * EPOCH


def test_a_change_that_is_made_again_needs_no_room_on_the_disk(
    train: Train, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train(small(), script={9: [Set(setting="epochs", value=3)], 11: [Stop()]})
    (first.folder / "last.pt").unlink()  # starts afresh, and makes the change again
    sync = trainer.Journal.sync

    def full(self: trainer.Journal) -> None:
        if again._counters.step == 9:
            raise OSError(28, "No space left on device")
        sync(self)

    monkeypatch.setattr(trainer.Journal, "sync", full)
    again = trainer.Trainer(Job(small(), first.folder, auto=True), lambda _: None, lambda: [])
    end = again.run()
    again.close()
    assert isinstance(end, events.Finished) and end.step == 3 * EPOCH


def test_a_run_that_another_process_wrote_while_this_one_read_it_is_refused(
    train: Train, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = train(small(), script={9: [Stop()]}).folder

    def slow(job: Job) -> Build:
        parts = build(job)
        train(small(), resume_from=folder / "last.pt", script={13: [Stop()]})
        return parts

    build = trainer.build
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "build", lambda job: (patch.setattr(trainer, "build", build), slow(job))[1])
        with pytest.raises(UserError, match="another process wrote it meanwhile"):
            trainer.Trainer(Job(small(), folder, auto=True), lambda _: None, lambda: [])
    RunLock(folder).release()
    assert load(folder / "last.pt").progress().step == 13


def test_a_gpu_that_is_gone_still_lets_the_run_say_so(
    train: Train, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(self: trainer.Meter) -> Any:
        raise RuntimeError("CUDA error: unspecified launch failure")

    def script(running: trainer.Trainer) -> list[Command]:
        if running._counters.step == 5:
            monkeypatch.setattr(trainer.Meter, "read", gone)
            running._meter.add(6, torch.zeros(()), torch.zeros(()), 0.0, 1)
            caught.append(running.fail("a fault", ""))
            return [Stop()]
        return []

    caught: list[events.Failed] = []
    with pytest.raises(RuntimeError, match="launch failure"):
        train(small(), script=script)
    assert [(failed.error, failed.saved) for failed in caught] == [("a fault", "last.pt")]


def test_early_stopping_says_so_once(train: Train, small: Small, judged: Callable[[Sequence[float]], None]) -> None:
    judged([3, 2, 2.1, 2.2])
    ran = train(small(epochs=9, early_stopping=True, patience=2))
    assert [text for text in notices(ran) if "stopped early" in text] == ["stopped early: no improvement in 2 epochs"]
    assert [event.reason for event in ran.of(events.Finished)] == ["patience"]


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


def test_mixed_precision_without_the_instructions_is_one_line_and_float32(
    train: Train, small: Small, monkeypatch: pytest.MonkeyPatch, equal: Callable[..., bool]
) -> None:
    monkeypatch.setattr(device, "_cpu_has_bf16", lambda: False)
    plain, mixed = train(small(), "plain"), train(small(mixed_precision=True), "mixed")
    assert [text for text in notices(mixed) if "precision" in text] == [
        "mixed precision is off: this processor has no 16-bit arithmetic; training goes on in float32"
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
