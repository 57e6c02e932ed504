"""Every command of the training guide, with fewer epochs and shorter texts, does what the guide says of it."""

import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fundamentallm.cli import main
from fundamentallm.config.config import resolve
from fundamentallm.config.files import load_config
from fundamentallm.run.history import RunHistory, read_history
from fundamentallm.train.checkpoint import Counters, load
from tests.end_to_end.conftest import TEXT

TEXTS = {  # with their lengths
    "data.txt": 700, "data/samples/sample_data.txt": 2000,
    "data/raw/shakespeare/shakespeare25k.txt": 700, "data/raw/shakespeare/shakespeare100k.txt": 700,
    "data/raw/shakespeare/shakespeare1mil.txt": 60,
}  # fmt: skip


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder in which the guide's commands are typed."""
    monkeypatch.chdir(tmp_path)
    for name, length in TEXTS.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(TEXT[:length])
    yield tmp_path
    shutil.rmtree(tmp_path, ignore_errors=True)  # a large model's checkpoints are 300 MB each


def fundamentallm(command: str) -> RunHistory:
    """Run `command`, which must succeed, and read what its run did."""
    words = shlex.split(command.replace("\\\n", " "), comments=True)
    assert main(words) == 0
    return read_history(Path(words[words.index("--output-dir") + 1]))


def settings_in(command: str) -> dict[str, Any]:
    """The settings that a command names; a number as a number, a flag without a value as true."""
    words = shlex.split(command)
    found: dict[str, Any] = {}
    for word, following in zip(words, [*words[1:], "--"], strict=True):
        if word.startswith("--"):
            name = word[2:].replace("-", "_")
            found[name] = True if following.startswith("--") else following
    return {name: v if v is True or name == "output_dir" else float(v) for name, v in found.items()}


def check_promises(history: RunHistory, wanted: dict[str, Any]) -> None:
    """It learnt with these settings, and left a checkpoint for each epoch, the best and the final one; all load."""
    folder, epochs = Path(history.config["output_dir"]), int(wanted["epochs"])
    steps, losses = history.starts[-1].steps_per_epoch, [event.val_loss for event in history.evaluations]
    assert {name: history.config[name] for name in wanted} == wanted
    assert history.settings == resolve(load_config(folder / "config.yaml"))
    assert losses[-1] < history.train_loss[0]  # on what it has not seen
    assert len(history.steps) == 1 or history.train_loss[-1] < history.train_loss[0]
    states: dict[int, Counters] = {}  # by inode: equal states are one file, and a large one takes a second to check

    def state(name: str) -> Counters:
        path = folder / name
        if path.stat().st_ino not in states:
            states[path.stat().st_ino] = load(path).progress()
        return states[path.stat().st_ino]

    for epoch in range(1, epochs + 1):
        found = state(f"checkpoint_epoch_{epoch}.pt")
        assert (found.step, found.val_loss) == (epoch * steps, losses[epoch - 1])
    assert not (folder / f"checkpoint_epoch_{epochs + 1}.pt").exists()
    assert state("best.pt").val_loss == min(losses)
    assert state("final_model.pt").step == epochs * steps and history.completed


def test_quick_start_generation_and_resuming_from_best(capsys: pytest.CaptureFixture[str]) -> None:
    history = fundamentallm(
        "train data/raw/shakespeare/shakespeare100k.txt \\\n  --output-dir my_model --epochs 2 --batch-size 32"
    )
    assert capsys.readouterr().out.count(" | throughput=") == 2
    check_promises(history, {"epochs": 2, "batch_size": 32, "model_dim": 128})

    assert main(["generate", "my_model/best.pt", "--prompt", "Once upon a time"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("Once upon a time") and len(text) == len("Once upon a time") + 200 + 1

    best = load(Path("my_model/best.pt")).progress()
    again = fundamentallm(
        "train data.txt --output-dir my_model \\\n  --resume-from my_model/best.pt --epochs 3  # in all"
    )
    assert again.starts[-1].step == best.step
    assert load(Path("my_model/final_model.pt")).progress().step == 3 * again.starts[-1].steps_per_epoch
    now = load(Path("my_model/best.pt")).progress().val_loss
    assert now is not None and best.val_loss is not None and now <= best.val_loss


# The two large ones see short windows: a step of 64 x 256 tokens takes a minute and eleven gigabytes on a processor.
# One of them is trained with all of its 12 layers.
SHAKESPEARE = "train data/raw/shakespeare/shakespeare"
COMMANDS = {
    "quick test": "train data/samples/sample_data.txt --output-dir test --model-dim 64 --num-layers 2 --epochs 3",
    "medium training": f"{SHAKESPEARE}100k.txt --output-dir medium --model-dim 256 --num-layers 6 --epochs 1",
    "full training": f"{SHAKESPEARE}1mil.txt --output-dir large --model-dim 512 --num-layers 2 --epochs 1 "
    "--batch-size 64 --max-seq-len 4",
    "tiny": "train data/samples/sample_data.txt --output-dir tiny_model --model-dim 64 --num-heads 2 --num-layers 2 "
    "--batch-size 16 --epochs 5 --learning-rate 0.001",
    "small": f"{SHAKESPEARE}25k.txt --output-dir small_model --model-dim 128 --num-heads 4 --num-layers 4 "
    "--batch-size 32 --epochs 2 --learning-rate 0.001",
    "medium": f"{SHAKESPEARE}100k.txt --output-dir medium_model --model-dim 256 --num-heads 8 --num-layers 6 "
    "--batch-size 32 --epochs 1 --learning-rate 0.0005 --dropout 0.1 --mixed-precision",
    "large": f"{SHAKESPEARE}1mil.txt --output-dir large_model --model-dim 512 --num-heads 16 --num-layers 12 "
    "--batch-size 64 --epochs 1 --learning-rate 0.0003 --dropout 0.2 --mixed-precision --gradient-clip 1.0 "
    "--max-seq-len 4",
}
DEFAULTS = {"quick test": {"num_heads": 2, "batch_size": 16}}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_runs_learns_and_leaves_its_files(name: str) -> None:
    check_promises(fundamentallm(COMMANDS[name]), {**settings_in(COMMANDS[name]), **DEFAULTS.get(name, {})})
