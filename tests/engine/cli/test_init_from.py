"""`train DATA --init-from CHECKPOINT`: a new run on other text with a trained model's weights."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fundamentallm.model.transformer import Transformer
from fundamentallm.run.events import Notice, RunStarted
from fundamentallm.train import checkpoints
from fundamentallm.train.checkpoint import Checkpoint, load
from tests.compare_runs import difference
from tests.conftest import journal_events
from tests.engine.cli.conftest import Refused, Run

OLD = "the sea was old and grey, and dawn came slowly over the boats\n" * 40
NEW = "Über dem Meer lag Nebel; the sea was old\n" * 40
SHAPE = ["--model-dim=24", "--num-layers=2", "--num-heads=2", "--ff-dim=40", "--max-seq-len=16"]
REST = ["--stride=16", "--batch-size=16", "--device=cpu"]
Train = Callable[..., tuple[int, str, str]]


@pytest.fixture
def train(run: Run) -> Train:
    """Trains, in a folder that holds the run `old` of two epochs and a text with other characters, `new.txt`."""
    Path("old.txt").write_text(OLD)
    Path("new.txt").write_text(NEW)
    assert run("train", "old.txt", *SHAPE, *REST, "--epochs=2", "--output-dir=old")[0] == 0
    return lambda *words: run("train", *words)


def begin(train: Train, *words: str) -> None:
    """Train on the new text in the folder `new`, with the weights of `old`."""
    assert train("new.txt", "--init-from=old", *REST, "--output-dir=new", *words)[0] == 0


def test_the_run_begins_with_the_weights_by_character_and_new_rows_for_new_ones(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    saves: list[Checkpoint] = []
    save = checkpoints.save

    def note(checkpoint: Checkpoint, *rest: object) -> object:
        if not saves:
            model = {name: tensor.clone() for name, tensor in checkpoint.model.items()}
            optimizer = {name: tensor.clone() for name, tensor in checkpoint.optimizer.items()}
            saves.append(Checkpoint(**{**vars(checkpoint), "model": model, "optimizer": optimizer}))
        return save(checkpoint, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(checkpoints, "save", note)
    begin(train, "--epochs=1", "--seed=5")
    (first,) = saves
    source = load(Path("old/best.pt"))
    assert first.vocabulary == "".join(sorted(set(OLD + NEW)))
    assert json.loads(Path("new/tokenizer.json").read_text())["vocabulary"] == list(first.vocabulary)
    for name, tensor in source.model.items():
        if name != "embedding.weight":
            assert torch.equal(first.model[name], tensor), name
    fresh = Transformer(first.settings(), len(first.vocabulary)).embedding.weight
    for place, character in enumerate(first.vocabulary):
        row, known = first.model["embedding.weight"][place], source.vocabulary.find(character)
        assert torch.equal(row, source.model["embedding.weight"][known] if known >= 0 else fresh[place]), character
    assert not any(tensor.any() for tensor in first.optimizer.values())
    assert first.counters["step"] == 0 and first.counters["best_val_loss"] is None


def test_the_model_keeps_the_scale_of_attention_that_its_weights_were_trained_with(train: Train) -> None:
    best = Path("old/best.pt")
    assert load(best).attention_scale == 2
    checkpoints.save(replace(load(best), attention_scale=1.0), best.parent, [best.name])  # as earlier versions saved it
    begin(train, "--epochs=1")
    assert load(Path("new/last.pt")).attention_scale == 1
    assert train("--resume-from=new/last.pt", "--epochs=2")[0] == 0
    assert load(Path("new/last.pt")).attention_scale == 1


def test_the_run_is_a_new_one_that_says_where_its_weights_come_from(train: Train, run: Run) -> None:
    begin(train, "--epochs=3", "--learning-rate=0.0005", "--seed=5")
    (start,) = journal_events(Path("new"), RunStarted)
    assert (start.step, start.initialised_from, start.resumed_from) == (0, "old/best.pt", None)
    assert start.vocab_size == len(set(OLD + NEW)) and start.total_steps == 3 * start.steps_per_epoch
    asked: dict[str, Any] = {
        "model_dim": 24,
        "num_layers": 2,
        "num_heads": 2,
        "ff_dim": 40,
        "max_seq_len": 16,
    }  # of the checkpoint
    asked |= {"epochs": 3, "learning_rate": 0.0005, "seed": 5, "data": ["new.txt"]}
    assert {name: start.config[name] for name in asked} == asked
    new = sorted(set(NEW) - set(OLD))
    step = load(Path("old/best.pt")).progress().step
    assert [event.text for event in journal_events(Path("new"), Notice)][0] == (
        f"the model begins with the weights of old/best.pt, which has done {step} steps; "
        f"new characters, {len(new)}: {', '.join(map(repr, new))}"
    )
    assert "  parent         old/best.pt\n" in run("runs", "show", "new")[1]
    assert "with the weights of old/best.pt\n" in run("train", "new.txt", "--init-from=old", *REST, "--epochs=1")[2]


def test_such_a_run_resumes_to_the_same_bits(train: Train) -> None:
    begin(train, "--epochs=3")
    Path("new").rename("reference")
    begin(train, "--epochs=3")
    for name in ("last.pt", "best.pt", "final_model.pt", "checkpoint_epoch_2.pt", "checkpoint_epoch_3.pt"):
        Path("new", name).unlink()
    assert train("--resume=auto", "--output-dir=new")[0] == 0
    assert difference(Path("new"), Path("reference")) == ""


def test_a_run_without_any_checkpoint_left_does_not_begin_anew_with_other_weights(train: Train) -> None:
    begin(train, "--epochs=1")
    for path in Path("new").glob("*.pt"):
        path.unlink()
    status, out, err = train("--resume=auto", "--output-dir=new")
    assert (status, out) == (2, "") and err == (
        "new: has no valid checkpoint, and began with the weights of old/best.pt; "
        "begin anew with --init-from, in another folder or with --overwrite\n"
    )


def test_preset_and_file_give_way_to_the_shape_and_flags_may_repeat_it(train: Train) -> None:
    words = ["--preset=tiny", "--num-heads=2", "--ff-dim=40", "--max-seq-len=8", "--stride=8", "--epochs=1"]
    status, _, err = train("new.txt", "--init-from=old/last.pt", *words, "--output-dir=new", "--device=cpu")
    assert status == 0
    assert "old/last.pt brings its own model_dim, num_layers, num_heads, whatever --preset or --config say\n" in err
    config = load(Path("new/last.pt")).settings()
    assert (config.model_dim, config.num_layers, config.ff_width, config.max_seq_len) == (24, 2, 40, 8)


MOVED = "--overwrite: would move old/best.pt aside, which --init-from names; leave it out"
TWICE = "--init-from: starts a new run, which --resume and --resume-from do not; leave one out"
REFUSED = {
    "--model-dim=48 --num-heads=4 --ff-dim=auto": "--model-dim: the model of --init-from has 24; leave it out\n"
    "--num-heads: the model of --init-from has 2; leave it out\n"
    "--ff-dim: the model of --init-from has 40; leave it out",
    "--num-layers=x": "--num-layers: the model of --init-from has 2; leave it out",
    "--stride=17": "stride: 17 is more than max_seq_len 16; text would be skipped",
    "--resume-from=old": TWICE,
    "--resume=auto --output-dir=new": TWICE,
    "--output-dir=old --overwrite": MOVED,
    "--output-dir=old --overwrite --dry-run": MOVED,
}  # fmt: skip


@pytest.mark.parametrize("words", REFUSED)
def test_what_contradicts_the_checkpoint_is_refused(train: Train, refused: Refused, words: str) -> None:
    assert refused("train", "new.txt", "--init-from=old", *words.split()) == REFUSED[words].splitlines()


def test_it_needs_a_text_and_a_checkpoint(train: Train) -> None:
    assert train("--init-from=old")[2].startswith("no data: name a text file")
    assert train("new.txt", "--init-from=nowhere.pt")[2] == "--init-from nowhere.pt: no such checkpoint\n"
    Path("broken.pt").write_bytes(b"no checkpoint")
    assert train("new.txt", "--init-from=broken.pt")[2].startswith("broken.pt: is damaged")
    assert not Path("runs").exists()


def test_a_dry_run_counts_the_grown_vocabulary(train: Train) -> None:
    out = train("new.txt", "--init-from=old", *REST, "--dry-run")[1]
    assert f"{len(set(OLD + NEW)) * 24 + 2 * (4 * 24 * 24 + 2 * 24 * 40):,} parameters" in out
    assert "the model begins with the weights of old/best.pt" in out
