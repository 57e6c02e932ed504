"""A run that ended early and is resumed reaches the same bits as one that never ended, or is refused unchanged."""

import os
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fundamentallm.cli import main
from fundamentallm.config.config import Config
from fundamentallm.errors import UserError
from fundamentallm.run import events
from fundamentallm.run.commands import Command, Save, Set, Stop
from fundamentallm.run.history import read_history
from fundamentallm.run.locks import RunLock
from fundamentallm.run.spec import RunSpec
from fundamentallm.train import trainer
from fundamentallm.train.checkpoint import load, save
from fundamentallm.train.device import hardware
from fundamentallm.train.state import TrainState
from tests.compare_runs import difference
from tests.conftest import file_contents, journal_events
from tests.engine.seen import EPOCH, notices

Train = Callable[..., Any]
Small = Callable[..., Config]
Kill = Callable[..., None]
NOW, HERE = torch.__version__, hardware(torch.device("cpu"))


@pytest.fixture
def kill(train: Train, tmp_path: Path) -> Kill:
    """Train in the folder `run`, and leave it as `kill -9` after step `at` would: copied while the run goes on."""

    def kill(config: Config, at: int, script: dict[int, list[Command]] | None = None, **resume: Any) -> None:
        pending = dict(script or {})

        def copy_and_stop(running: trainer.Trainer) -> list[Command]:
            if running.state.step != at:
                return pending.pop(running.state.step, [])
            shutil.copytree(tmp_path / "run", tmp_path / "killed", dirs_exist_ok=True)
            return [Stop()]

        train(config, script=copy_and_stop, **resume)
        shutil.rmtree(tmp_path / "run")
        (tmp_path / "killed").rename(tmp_path / "run")

    return kill


# ---- the same bits: how it ended x how it is resumed ----

ENDINGS = {
    "stopped after a step": ("muon", [("stop", 1)]),
    "stopped in an epoch": ("adamw", [("stop", 11)]),
    "stopped at the end of an epoch": ("muon", [("stop", EPOCH)]),
    "stopped in the second epoch": ("adamw", [("stop", EPOCH + 7)]),
    "killed before the first save": ("muon", [("kill", 3)]),
    "killed between two saves": ("adamw", [("kill", 13)]),
    "killed at a save": ("muon", [("kill", 15)]),
    "killed in the second epoch": ("adamw", [("kill", EPOCH + 5)]),
    "killed twice": ("muon", [("kill", 8), ("kill", 21)]),
    "stopped, then killed": ("adamw", [("stop", 8), ("kill", 33)]),
}
RESUMES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "auto": lambda run: {"auto": True},
    "last.pt": lambda run: {"resume_from": run / "last.pt"},
    "epoch 1": lambda run: {"resume_from": run / "checkpoint_epoch_1.pt"},
}


CASES = [
    (ending, resume) for ending, (_, ends) in ENDINGS.items() for resume in RESUMES
    if resume != "epoch 1" or ends[-1][1] >= EPOCH
]  # fmt: skip


@pytest.mark.parametrize(("ending", "resume"), CASES)
def test_a_resumed_run_ends_in_the_same_bits(
    train: Train, kill: Kill, small: Small, tmp_path: Path, ending: str, resume: str
) -> None:
    optimizer, ends = ENDINGS[ending]
    config = small(optimizer=optimizer, dropout=0.2, eval_every=7, save_every=5)
    reference, folder = train(config, "reference").folder, tmp_path / "run"
    how: dict[str, Any] = {}
    for act, at in ends:
        if act == "stop":
            assert train(config, script={at: [Stop()]}, **how).result.step == at
            assert not (folder / "final_model.pt").exists() and load(folder / "last.pt").progress().step == at
        else:
            kill(config, at, **how)
        how = {"auto": True}
    how = RESUMES[resume](folder)
    newest = max(load(path).progress().step for path in folder.glob("*.pt"))
    step = load(how["resume_from"]).progress().step if "resume_from" in how else newest
    torch.manual_seed(99)  # torch's own random state plays no part
    resumed = train(config, **how)
    assert difference(folder, reference) == ""
    start = resumed.said[0]
    assert (start.step, start.recovered, min(resumed.losses)) == (step, resume == "auto", step + 1)
    assert Path(start.resumed_from).parent == folder


def truncate_last(run: Path) -> None:
    (run / "last.pt").write_bytes((run / "last.pt").read_bytes()[:-100])


def truncate_all(run: Path) -> None:
    for path in run.glob("*.pt"):
        path.write_bytes(path.read_bytes()[:2000])


def delete_all(run: Path) -> None:
    for path in run.glob("*.pt"):
        path.unlink()


def cut_the_journal(run: Path) -> None:
    (run / "journal.jsonl").write_bytes((run / "journal.jsonl").read_bytes()[:-10])


DAMAGES: dict[str, tuple[Callable[[Path], None], int, list[str]]] = {
    "last.pt is truncated": (truncate_last, EPOCH, ["last.pt: is damaged"]),
    "all checkpoints are truncated": (
        truncate_all, 0, [*["is damaged"] * 3, "no checkpoint is valid: the run begins anew"]
    ),
    "all checkpoints are gone": (delete_all, 0, []),
    "the journal's last line is cut": (cut_the_journal, 25, []),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_newest_valid_checkpoint_is_used_and_a_damaged_one_named(
    train: Train, kill: Kill, small: Small, tmp_path: Path, damage: str
) -> None:
    act, step, words = DAMAGES[damage]
    config = small(save_every=5)
    reference = train(config, "reference").folder
    kill(config, 26)
    act(tmp_path / "run")
    resumed = train(config, auto=True)
    assert resumed.said[0].step == step and difference(tmp_path / "run", reference) == ""
    found = [text for text in notices(resumed) if "damaged" in text or "checkpoint" in text]
    assert len(found) == len(words) and all(word in text for word, text in zip(words, found, strict=True)), found


@pytest.mark.parametrize("kills", [(9, 17), (7, 23), (21, 22), (6, 21)], ids=str)
def test_what_users_changed_is_made_again_after_every_kill(
    train: Train, kill: Kill, small: Small, tmp_path: Path, kills: tuple[int, int]
) -> None:
    """Changed after 6 and 21 steps, saved every 5; a command that is sent at the instant of a kill is sent again."""

    def change(rate: float) -> Command:
        return Set(setting="learning_rate", value=rate, who="ada")

    script = {6: [change(0.02)], 21: [change(0.001), change(0.004)]}
    config = small(save_every=5)
    reference = train(config, "reference", script).folder
    for at in kills:
        kill(config, at, script, auto=True)
        script = {step: sent for step, sent in script.items() if step >= at}
    train(config, script=script, auto=True)
    assert difference(tmp_path / "run", reference) == ""
    made = read_history(tmp_path / "run").interventions_from(0)
    assert [(event.step, event.new, event.who) for event in made] == [
        (6, 0.02, "ada"), (21, 0.001, "ada"), (21, 0.004, "ada")
    ]  # fmt: skip


def test_last_pt_is_saved_at_the_same_steps_across_a_kill(
    train: Train, kill: Kill, small: Small, tmp_path: Path
) -> None:
    kill(small(save_every=5), 27)
    train(small(), auto=True)
    saved = [event.step for event in journal_events(tmp_path / "run", events.CheckpointSaved) if event.kind == "last"]
    assert saved == [0, 5, 10, 15, EPOCH, 20, 25, 30, 35, 2 * EPOCH]  # 0: the start


def test_several_texts_resume_to_the_same_bits_and_another_border_is_another_text(
    train: Train, small: Small, tmp_path: Path, text: str
) -> None:
    (tmp_path / "texts").mkdir()
    for name, piece in (("a.txt", text[:900]), ("b.txt", text[900:910]), ("c.txt", text[910:])):
        (tmp_path / "texts" / name).write_text(piece)
    config = small(data=str(tmp_path / "texts"))
    plain = train(config, "plain")
    assert [words for words in notices(plain) if "left out" in words] == [
        "1 of the 3 training texts is left out: shorter than a window of 16 + 1 characters"
    ]
    last = train(config, script={11: [Stop()]}).folder / "last.pt"
    train(config, resume_from=last)
    assert difference(last.parent, plain.folder) == ""
    (tmp_path / "texts" / "b.txt").write_text(text[900:909])
    (tmp_path / "texts" / "c.txt").write_text(text[909:])
    with pytest.raises(UserError, match="is not the text that .* was trained on"):
        train(config, resume_from=last)


def test_early_stopping_counts_across_a_resume(train: Train, small: Small) -> None:
    config = small(epochs=6, learning_rate=0.05, early_stopping=True, patience=2, eval_every=6, dropout=0)
    plain = train(config, "plain")
    folder = train(config, "run", {2 * EPOCH + 8: [Stop()]}).folder  # best.pt may be of later than epoch 1
    again = train(config, "run", resume_from=folder / "checkpoint_epoch_1.pt")
    a, b = load(plain.folder / "last.pt").counters, load(again.folder / "last.pt").counters
    assert {**a, "seconds": 0, "said": 0} == {**b, "seconds": 0, "said": 0}
    assert plain.result.reason == again.result.reason and plain.result.step == again.result.step


# ---- any checkpoint, more epochs ----


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("best.pt", 2 * EPOCH), ("last.pt", 2 * EPOCH), ("final_model.pt", 2 * EPOCH),
        ("checkpoint_epoch_1.pt", EPOCH), ("checkpoint_step_7.pt", 7),
    ],
)  # fmt: skip
def test_any_checkpoint_can_be_resumed_and_epochs_is_the_total(
    train: Train, small: Small, name: str, step: int
) -> None:
    first = train(small(), script={7: [Save()]})
    second = train(small(), resume_from=first.folder / name, epochs=3)
    assert (second.result.step, second.result.epoch, second.result.reason) == (3 * EPOCH, 3, "completed")
    assert sorted(second.losses) == list(range(step + 1, 3 * EPOCH + 1))
    assert second.result.best_val_loss <= first.result.best_val_loss
    assert load(second.folder / "final_model.pt").progress().step == 3 * EPOCH


def test_a_best_that_is_better_is_never_replaced_by_a_worse_one(train: Train, small: Small) -> None:
    first = train(small(epochs=3))
    best = (first.folder / "best.pt").read_bytes()
    assert load(first.folder / "best.pt").progress().step == 3 * EPOCH
    # the same start, but hardly learning
    second = train(small(), resume_from=first.folder / "checkpoint_epoch_1.pt", learning_rate=1e-6)
    assert (first.folder / "best.pt").read_bytes() == best
    assert second.result.val_loss > first.result.val_loss
    third = train(small(), resume_from=second.folder / "last.pt", epochs=8, learning_rate=0.003)
    assert third.result.val_loss < first.result.val_loss
    assert load(first.folder / "best.pt").progress().best_val_loss == third.result.best_val_loss


# ---- refusals ----

FIXED = "cannot change on resume: the checkpoint has"
REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "a fixed setting": ({"model_dim": 32}, f"--model-dim: {FIXED} 16"),
    "several settings, all listed at once": (
        {"seed": 4, "model_dim": 15, "num_heads": 7, "epochs": 0, "batch_size": 8},
        f"--model-dim: {FIXED} 16; leave it out\n--num-heads: {FIXED} 2; leave it out\n"
        f"--seed: {FIXED} 0; leave it out\n--epochs: 0 is out of bounds; it must be at least 1, at most 1,000,000",
    ),
    "fewer epochs than it is in": (
        {"epochs": 2},
        "--epochs 2: .*last.pt is in epoch 3 already; that is the smallest total",
    ),
    "another text": ({}, "is not the text that .* was trained on"),
    "another writer": ({}, "is being written by process"),
}


@pytest.mark.parametrize("auto", [True, False], ids=["auto", "last.pt"])
@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_resume_that_is_refused_changes_no_file(
    train: Train, small: Small, data: str, tmp_path: Path, auto: bool, refusal: str
) -> None:
    changes, words = REFUSALS[refusal]
    folder = train(small(epochs=4), script={2 * EPOCH + 3: [Stop()]}).folder
    how = {"auto": True} if auto else {"resume_from": folder / "last.pt"}
    text = Path(data).read_text()
    if refusal == "another text":
        Path(data).write_text(text[:-1] + ("a" if text[-1] != "a" else "b"))
    with RunLock(folder) if refusal == "another writer" else nullcontext():
        before = file_contents(folder)
        with pytest.raises(UserError, match=words):
            train(small(epochs=4), **how, **changes)
        assert file_contents(folder) == before
    Path(data).rename(tmp_path / "moved.txt")
    (tmp_path / "moved.txt").write_text(text)
    resumed = train(small(), **how, data=[str(tmp_path / "moved.txt")], epochs=3)
    assert resumed.result.step == 3 * EPOCH


def test_a_finished_run_is_refused_without_more_epochs(train: Train, small: Small) -> None:
    first = train(small())
    with pytest.raises(UserError, match="epoch 2 of 2 is done; give a larger total with --epochs"):
        train(small(), resume_from=first.folder / "best.pt")


def test_a_run_that_another_process_wrote_while_this_one_read_it_is_refused(
    train: Train, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = train(small(), script={9: [Stop()]}).folder
    build = trainer.build_state

    def build_slowly(job: RunSpec) -> TrainState:
        monkeypatch.setattr(trainer, "build_state", build)
        state = build(job)
        train(small(), resume_from=folder / "last.pt", script={13: [Stop()]})
        return state

    monkeypatch.setattr(trainer, "build_state", build_slowly)
    with pytest.raises(UserError, match="another process wrote it during start-up"):
        train(small(), auto=True)
    RunLock(folder).release()
    assert load(folder / "last.pt").progress().step == 13


def test_a_new_run_is_refused_where_another_process_writes(train: Train, small: Small, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with RunLock(tmp_path / "run"), pytest.raises(UserError, match="is being written by process"):
        train(small())
    assert [*file_contents(tmp_path / "run")] == ["lock"]


# ---- resumed where the bits cannot be the same: said once, before the first step ----

OTHER_BITS = "the run resumes, but not to the same bits"
ELSEWHERE = {
    "torch": ({"torch": "2.5.0+cu121"}, f"torch 2.5.0+cu121 then, {NOW} now"),
    "device": ({"device": "cuda"}, f"device cuda then, {HERE} now"),
    "threads": ({"threads": 4711}, "threads 4711 then, 1 now"),
    "all": (
        {"torch": "2.5.0", "device": "mps", "threads": 4711},
        f"torch 2.5.0 then, {NOW} now; device mps then, {HERE} now; threads 4711 then, 1 now",
    ),
}


def as_written_elsewhere(path: Path, **then: Any) -> Path:
    save(replace(load(path), **then), path.parent, [path.name])
    return path


def about_bits(ran: Any) -> list[str]:
    return [text for text in notices(ran) if "bits" in text]


@pytest.mark.parametrize("case", ELSEWHERE)
def test_what_differs_where_it_is_resumed_is_said_once(
    train: Train, small: Small, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    then, words = ELSEWHERE[case]
    last = as_written_elsewhere(train(small(), script={5: [Stop()]}).folder / "last.pt", **then)
    assert main(["train", f"--resume-from={last}", "--dry-run"]) == 0
    assert f"{OTHER_BITS}: {words}\n" in capsys.readouterr().out
    ran = train(small(), resume_from=last, script={9: [Stop()]})
    assert about_bits(ran) == [f"{OTHER_BITS}: {words}"]
    kinds = [type(event) for event in ran.said]
    assert kinds.index(events.Notice) < kinds.index(events.Progress) and sorted(ran.losses) == [6, 7, 8, 9]
    assert about_bits(train(small(), resume_from=last)) == []  # its checkpoint is of here now


def test_threads_are_restored_where_there_are_enough_cores(
    train: Train, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    last = train(small(), script={5: [Stop()]}).folder / "last.pt"
    ran = train(small(), resume_from=as_written_elsewhere(last, threads=3))
    assert about_bits(ran) == [] and ran.said[0].threads == torch.get_num_threads() == 3
    assert load(ran.folder / "final_model.pt").threads == 3
    torch.set_num_threads(1)
    ran = train(small(), resume_from=as_written_elsewhere(ran.folder / "checkpoint_epoch_1.pt", threads=4))
    assert about_bits(ran) == [f"{OTHER_BITS}: threads 4 then, 1 now"]
    assert ran.said[0].threads == 1 and load(ran.folder / "final_model.pt").threads == 1
