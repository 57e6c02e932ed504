"""A run that ended early and is resumed reaches the same bits as one that never ended, or is refused unchanged."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pytest import MonkeyPatch

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
from tests.compare_runs import difference
from tests.conftest import file_contents, journal_events
from tests.engine.conftest import EPOCH, counters_of, notices, run_here, same_tensors
from tests.engine.train.conftest import Small, Train, Trained

Kill = Callable[..., None]


@pytest.fixture
def kill(train: Train, tmp_path: Path) -> Kill:
    """Train in the folder `run`, and leave it as `kill -9` after step `at` would: copied while the run trains."""

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
CASES = [
    (ending, resume)
    for ending, (_, ends) in ENDINGS.items()
    for resume in ("auto", "last.pt", "checkpoint_epoch_1.pt")
    if resume != "checkpoint_epoch_1.pt" or ends[-1][1] >= EPOCH
]


@pytest.mark.parametrize(("ending", "resume"), CASES)
def test_a_resumed_run_ends_in_the_same_bits(
    train: Train, trained: Trained, kill: Kill, small: Small, tmp_path: Path, ending: str, resume: str
) -> None:
    optimizer, ends = ENDINGS[ending]
    settings: dict[str, Any] = {"optimizer": optimizer, "dropout": 0.2, "eval_every": 7, "save_every": 5}
    config, reference, folder = small(**settings), trained(**settings).folder, tmp_path / "run"
    how: dict[str, Any] = {}
    for act, at in ends:
        if act == "stop":
            ran = train(config, script={at: [Stop()]}, **how)
            assert ran.result.step == ran.step_of("last.pt") == at and not (folder / "final_model.pt").exists()
        else:
            kill(config, at, **how)
        how = {"auto": True}
    how = {"auto": True} if resume == "auto" else {"resume_from": folder / resume}
    steps = {path.name: load(path).progress().step for path in folder.glob("*.pt")}
    step = max(steps.values()) if resume == "auto" else steps[resume]
    torch.manual_seed(99)  # torch's own random state plays no part
    resumed = train(config, **how)
    assert difference(folder, reference) == ""
    start = resumed.events[0]
    assert (start.step, start.recovered, min(resumed.losses)) == (step, resume == "auto", step + 1)
    assert Path(start.resumed_from).parent == folder


def cut(path: Path, end: int) -> None:
    path.write_bytes(path.read_bytes()[:end])


ANEW = "no checkpoint is valid: the run begins anew"
DAMAGES: dict[str, tuple[str, Callable[[Path], None], int, list[str]]] = {
    "last.pt is cut": ("last.pt", lambda path: cut(path, -100), EPOCH, ["last.pt: is damaged"]),
    "all checkpoints are cut": ("*.pt", lambda path: cut(path, 2000), 0, [*["is damaged"] * 3, ANEW]),
    "all checkpoints are gone": ("*.pt", Path.unlink, 0, ["no checkpoint is left in"]),
    "the journal's last line is cut": ("journal.jsonl", lambda path: cut(path, -10), 25, []),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_newest_valid_checkpoint_is_used_and_a_damaged_one_named(
    train: Train, trained: Trained, kill: Kill, small: Small, tmp_path: Path, damage: str
) -> None:
    names, act, step, reasons = DAMAGES[damage]
    kill(small(save_every=5), 26)
    for path in (tmp_path / "run").glob(names):
        act(path)
    resumed = train(small(save_every=5), auto=True)
    assert resumed.events[0].step == step
    assert difference(resumed.folder, trained(save_every=5).folder) == ""
    found = [text for text in notices(resumed) if "damaged" in text or "checkpoint" in text]
    assert len(found) == len(reasons) and all(why in text for why, text in zip(reasons, found, strict=True)), found


def test_a_run_that_begins_with_auto_has_lost_nothing(train: Train, small: Small) -> None:
    assert not [text for text in notices(train(small(), auto=True)) if "checkpoint" in text or "lost" in text]


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
    changes = [(event.step, event.new, event.who) for event in made]
    assert changes == [(6, 0.02, "ada"), (21, 0.001, "ada"), (21, 0.004, "ada")]


def test_several_texts_resume_to_the_same_bits_and_another_border_is_another_text(
    train: Train, tmp_path: Path, text: str
) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()

    def write(*pieces: str) -> None:
        for name, piece in zip(("a.txt", "b.txt", "c.txt"), pieces, strict=True):
            (folder / name).write_text(piece)

    write(text[:900], text[900:910], text[910:])
    plain = train(name="plain", data=str(folder))
    ran = train(data=str(folder), script={11: [Stop()]})
    train(resume_from=ran.last)
    assert difference(ran.folder, plain.folder) == ""
    write(text[:900], text[900:909], text[909:])
    with pytest.raises(UserError, match="is not the text that .* was trained on"):
        train(resume_from=ran.last)


def test_early_stopping_counts_across_a_resume(train: Train, trained: Trained) -> None:
    settings = {
        "epochs": 6,
        "learning_rate": 0.05,
        "early_stopping": True,
        "patience": 2,
        "eval_every": 6,
        "dropout": 0,
    }
    plain = trained(**settings)
    ran = train(**settings, script={2 * EPOCH + 8: [Stop()]})  # best.pt may be of later than epoch 1
    again = train(resume_from=ran.folder / "checkpoint_epoch_1.pt")
    assert counters_of(again.last) == counters_of(plain.last)
    assert (again.result.reason, again.result.step) == (plain.result.reason, plain.result.step)


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("best.pt", 2 * EPOCH), ("last.pt", 2 * EPOCH), ("final_model.pt", 2 * EPOCH),
        ("checkpoint_epoch_1.pt", EPOCH), ("checkpoint_step_7.pt", 7),
    ],
)  # fmt: skip
def test_any_checkpoint_can_be_resumed_and_epochs_is_the_total(train: Train, name: str, step: int) -> None:
    first = train(script={7: [Save()]})
    second = train(resume_from=first.folder / name, epochs=3)
    assert (second.result.step, second.result.epoch, second.result.reason) == (3 * EPOCH, 3, "completed")
    assert sorted(second.losses) == list(range(step + 1, 3 * EPOCH + 1))
    assert second.result.best_val_loss <= first.result.best_val_loss
    assert second.step_of("final_model.pt") == 3 * EPOCH


# ---- refusals ----

FIXED = "cannot change on resume: the checkpoint has"
REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "a fixed setting": ({"model_dim": 32}, f"--model-dim: {FIXED} 16"),
    "another tokenizer": (
        {"tokenizer": "bytes", "vocab_size": 300},
        f"--tokenizer: {FIXED} char; leave it out\n--vocab-size: {FIXED} 2048",
    ),
    "several settings, all listed at once": (
        {"seed": 4, "model_dim": 15, "num_heads": 7, "epochs": 0, "batch_size": 8},
        f"--model-dim: {FIXED} 16; leave it out\n--num-heads: {FIXED} 2; leave it out\n"
        f"--seed: {FIXED} 0; leave it out\n--epochs: 0 is out of bounds; it must be at least 1, at most 1,000,000",
    ),
    "fewer epochs than it is in": (
        {"epochs": 2},
        "--epochs 2: .*last.pt is in epoch 3 already; 3 is the smallest total",
    ),
    "another text": ({}, "is not the text that .* was trained on"),
}


@pytest.mark.parametrize("auto", [True, False], ids=["auto", "last.pt"])
@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_resume_that_is_refused_changes_no_file(
    train: Train, small: Small, text: str, tmp_path: Path, auto: bool, refusal: str
) -> None:
    changes, reason = REFUSALS[refusal]
    data, moved = tmp_path / "text.txt", tmp_path / "moved.txt"
    data.write_text(text)
    config = small(epochs=4, data=str(data))
    ran = train(config, script={2 * EPOCH + 3: [Stop()]})
    how = {"auto": True} if auto else {"resume_from": ran.last}
    if refusal == "another text":
        data.write_text(text[:-1] + "#")
    before = file_contents(ran.folder)
    with pytest.raises(UserError, match=reason):
        train(config, **how, **changes)
    assert file_contents(ran.folder) == before
    moved.write_text(text)
    data.unlink()
    assert train(**how, data=[str(moved)], epochs=3).result.step == 3 * EPOCH


def test_a_finished_run_is_refused_without_more_epochs(train: Train, trained: Trained) -> None:
    with pytest.raises(UserError, match="epoch 2 of 2 is done; give a larger total with --epochs"):
        train(resume_from=trained().folder / "best.pt")
    with pytest.raises(UserError, match="--epochs 1: .*last.pt is in epoch 2 already; 3 is the smallest total"):
        train(resume_from=trained().last, epochs=1)


def test_a_run_that_another_process_wrote_during_the_start_is_refused(train: Train, monkeypatch: MonkeyPatch) -> None:
    ran = train(script={9: [Stop()]})
    build = trainer.build_state

    def build_slowly(spec: RunSpec, **named: Any) -> Any:
        monkeypatch.setattr(trainer, "build_state", build)
        state = build(spec, **named)
        train(resume_from=ran.last, script={13: [Stop()]})
        return state

    monkeypatch.setattr(trainer, "build_state", build_slowly)
    with pytest.raises(UserError, match="another process wrote it during start-up"):
        train(auto=True)
    RunLock(ran.folder).release()
    assert ran.step_of("last.pt") == 13


# ---- resumed where the bits cannot be the same: said once, before the first step ----

OTHER_BITS = "the run resumes, but not to the same bits"
TORCH = f"torch 2.5.0+cu121 then, {torch.__version__} now"
DEVICE = f"device cuda then, {hardware(torch.device('cpu'))} now"
HERE = f"cpu {torch.backends.cpu.get_cpu_capability()}"  # without the maker of the processor, as 0.1.0 wrote it
THREADS = "threads 4711 then, 1 now"
ELSEWHERE: list[tuple[dict[str, Any], str]] = [
    ({"torch": "2.5.0+cu121"}, TORCH),
    ({"device": "cuda"}, DEVICE),
    ({"device": f"{HERE} Zilog"}, f"device {HERE} Zilog then, {hardware(torch.device('cpu'))} now"),
    ({"threads": 4711}, THREADS),
    ({"torch": "2.5.0+cu121", "device": "cuda", "threads": 4711}, f"{TORCH}; {DEVICE}; {THREADS}"),
]


def as_written_elsewhere(path: Path, **then: Any) -> Path:
    save(replace(load(path), **then), path.parent, [path.name])
    return path


def about_bits(ran: Any) -> list[str]:
    return [text for text in notices(ran) if "bits" in text]


@pytest.mark.parametrize(("then", "differences"), ELSEWHERE)
def test_what_differs_where_it_is_resumed_is_said_once(
    train: Train, then: dict[str, Any], differences: str, capsys: pytest.CaptureFixture[str]
) -> None:
    last = as_written_elsewhere(train(script={5: [Stop()]}).last, **then)
    assert main(["train", f"--resume-from={last}", "--dry-run"]) == 0
    assert f"{OTHER_BITS}: {differences}\n" in capsys.readouterr().out
    ran = train(resume_from=last, script={9: [Stop()]})
    assert about_bits(ran) == [f"{OTHER_BITS}: {differences}"]
    kinds = [type(event) for event in ran.events]
    assert kinds.index(events.Notice) < kinds.index(events.Progress) and sorted(ran.losses) == [6, 7, 8, 9]
    assert about_bits(train(resume_from=last)) == []  # its checkpoint is of here now


def test_an_older_checkpoint_does_not_say_whose_processor_it_was_and_differs_in_nothing(train: Train) -> None:
    last = as_written_elsewhere(train(script={5: [Stop()]}).last, device=HERE)
    assert about_bits(train(resume_from=last)) == []


def test_a_run_of_two_threads_resumes_to_the_same_bits_and_one_of_an_earlier_version_as_it_was_computed(
    train: Train, kill: Kill, small: Small, monkeypatch: MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    torch.set_num_threads(2)
    reference = train(small(dropout=0.2, save_every=5), "reference").folder
    kill(small(dropout=0.2, save_every=5), 13)
    torch.set_num_threads(1)
    resumed = train(auto=True)
    assert difference(resumed.folder, reference) == ""
    final = load(resumed.folder / "final_model.pt")
    assert (final.threads, final.halves) == (2, True)
    older = as_written_elsewhere(resumed.folder / "checkpoint_epoch_1.pt", halves=False)
    whole = load(train(name="whole", resume_from=older).folder / "final_model.pt")
    train(name="stopped", resume_from=older, script={EPOCH + 5: [Stop()]})
    stopped = load(train(name="stopped", auto=True).folder / "final_model.pt")
    assert same_tensors(stopped.model, whole.model) and not whole.halves
    assert not same_tensors(final.model, whole.model)  # the sums are rounded in another order


def test_threads_are_restored_where_there_are_enough_cores(train: Train, monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    last = train(script={5: [Stop()]}).last
    ran = train(resume_from=as_written_elsewhere(last, threads=3))
    assert about_bits(ran) == [] and ran.events[0].threads == torch.get_num_threads() == 3
    assert load(ran.folder / "final_model.pt").threads == 3
    torch.set_num_threads(1)
    ran = train(resume_from=as_written_elsewhere(ran.folder / "checkpoint_epoch_1.pt", threads=4))
    assert about_bits(ran) == [f"{OTHER_BITS}: threads 4 then, 1 now"]
    assert ran.events[0].threads == load(ran.folder / "final_model.pt").threads == 1


def test_a_resumed_run_keeps_the_name_of_its_preset(train: Train, tmp_path: Path, small: Small) -> None:
    run_here(RunSpec(small(epochs=1), tmp_path / "run", preset="tiny"))
    here = train(resume_from=tmp_path / "run" / "last.pt", epochs=2)
    elsewhere = train(name="other", resume_from=tmp_path / "run" / "last.pt", epochs=3)
    recovered = train(auto=True, epochs=4)
    starts = [journal_events(run.folder, events.RunStarted)[-1] for run in (here, elsewhere, recovered)]
    assert [start.preset for start in starts] == ["tiny"] * 3
