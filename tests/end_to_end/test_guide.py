"""Every command of the training guide, with fewer epochs and shorter texts, does what the guide says of it."""

import math
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fundamentallm.cli import main
from fundamentallm.config.config import Config, Layer, resolve
from fundamentallm.config.files import load_config
from fundamentallm.run.events import Evaluated, Event, Finished, Progress, RunStarted
from fundamentallm.run.journal import read_journal
from fundamentallm.train.checkpoint import Counters, load
from tests.end_to_end.conftest import TEXT

# What a fragment of the guide is appended to; a flag that is given twice counts as given last.
BASE = (
    "train text.txt --output-dir run --model-dim 16 --num-layers 1 --max-seq-len 16 --stride 16 --epochs 1 "
    "--batch-size 32"
)
TEXTS = {  # with their lengths
    "text.txt": 400, "long.txt": 2000, "data.txt": 700, "data/samples/sample_data.txt": 2000,
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


@dataclass
class Ran:
    """A run that ended, and its events."""

    folder: Path
    events: list[Event]

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def config(self) -> Config:
        """As the journal has it, and config.yaml."""
        config = resolve(Layer(self.of(RunStarted)[-1].config))
        assert resolve(load_config(self.folder / "config.yaml")) == config
        return config

    @property
    def losses(self) -> list[float]:
        return [loss for event in self.of(Progress) for loss in event.train_loss]


def fundamentallm(command: str) -> Ran:
    """Run `command`, which must succeed."""
    words = shlex.split(command.replace("\\\n", " "), comments=True)
    assert main(words) == 0
    folder = Path(words[words.index("--output-dir") + 1])
    return Ran(folder, list(read_journal(folder)))


def settings_in(command: str) -> dict[str, Any]:
    """The settings that a command names; a number as a number, a flag without a value as true."""
    words = shlex.split(command)
    found: dict[str, Any] = {}
    for word, following in zip(words, [*words[1:], "--"], strict=True):
        if word.startswith("--"):
            name = word[2:].replace("-", "_")
            found[name] = True if following.startswith("--") else following
    are_words = ("output_dir", "lr_schedule")
    return {name: v if v is True or name in are_words else float(v) for name, v in found.items()}


def check_settings(ran: Ran, wanted: dict[str, Any]) -> None:
    config = ran.config
    assert {name: getattr(config, name) for name in wanted} == wanted


def check_promised_files(ran: Ran, epochs: int) -> None:
    """The layout that the guide draws: a checkpoint for each epoch, the best, the final one; all of them load."""
    steps = ran.of(RunStarted)[-1].steps_per_epoch
    losses = [event.val_loss for event in ran.of(Evaluated)]
    states: dict[int, Counters] = {}  # by inode: equal states are one file, and a large one takes a second to check

    def state(name: str) -> Counters:
        path = ran.folder / name
        if path.stat().st_ino not in states:
            states[path.stat().st_ino] = load(path).progress()
        return states[path.stat().st_ino]

    for epoch in range(1, epochs + 1):
        found = state(f"checkpoint_epoch_{epoch}.pt")
        assert (found.step, found.val_loss) == (epoch * steps, losses[epoch - 1])
    assert not (ran.folder / f"checkpoint_epoch_{epochs + 1}.pt").exists()
    assert state("best.pt").val_loss == min(losses)
    assert state("final_model.pt").step == epochs * steps
    assert ran.of(Finished)[-1].reason == "completed"


def check_learns(ran: Ran) -> None:
    """It predicts what it has not seen better than it first did what it sees, and that better and better."""
    assert ran.of(Evaluated)[-1].val_loss < ran.losses[0]
    assert len(ran.losses) == 1 or ran.losses[-1] < ran.losses[0]


# ---- whole commands ----


def test_quick_start_generation_and_resuming_from_best(capsys: pytest.CaptureFixture[str]) -> None:
    ran = fundamentallm(
        "train data/raw/shakespeare/shakespeare100k.txt \\\n  --output-dir my_model --epochs 2 --batch-size 32"
    )
    assert capsys.readouterr().out.count(" | throughput=") == 2
    check_settings(ran, {"epochs": 2, "batch_size": 32, "model_dim": 128})
    check_promised_files(ran, 2)
    check_learns(ran)

    assert main(["generate", "my_model/best.pt", "--prompt", "Once upon a time"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("Once upon a time") and len(text) == len("Once upon a time") + 200 + 1

    best = load(Path("my_model/best.pt")).progress()
    again = fundamentallm(
        "train data.txt --output-dir my_model \\\n  --resume-from my_model/best.pt --epochs 3  # in all"
    )
    assert again.of(RunStarted)[-1].step == best.step
    assert load(Path("my_model/final_model.pt")).progress().step == 3 * again.of(RunStarted)[-1].steps_per_epoch
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
    wanted = settings_in(COMMANDS[name])
    ran = fundamentallm(COMMANDS[name])
    check_settings(ran, {**wanted, **DEFAULTS.get(name, {})})
    check_promised_files(ran, int(wanted["epochs"]))
    check_learns(ran)


# ---- fragments ----

FRAGMENTS = [
    *(f"--model-dim {n}" for n in (64, 256, 512)), *(f"--num-layers {n}" for n in (3, 6, 12)),
    *(f"--num-heads {n}" for n in (2, 8)), "--ff-dim 64", *(f"--learning-rate {n}" for n in (0.0001, 0.001, 0.01)),
    *(f"--batch-size {n}" for n in (8, 32, 64)), *(f"--epochs {n}" for n in (5, 20, 50)),
    *(f"--dropout {n}" for n in (0.0, 0.1, 0.3)), "--dropout 0.2 --epochs 15",
    *(f"--max-seq-len {n}" for n in (128, 256, 512)), *(f"--val-split {n}" for n in (0.05, 0.1, 0.2)),
    "--learning-rate 0.0001 --gradient-clip 1.0", "--batch-size 16 --max-seq-len 128 --model-dim 256",
    "--learning-rate 0.01 --model-dim 512 --num-layers 8", "--model-dim 64 --num-heads 16",
    "--accumulation-steps 4 --batch-size 8", "--early-stopping --patience 5", "--warmup-steps 1000",
    *(f"--lr-schedule {name}" for name in ("constant", "step", "cosine", "linear", "wsd")),
]  # fmt: skip


@pytest.mark.parametrize("fragment", FRAGMENTS)
def test_a_fragment_is_obeyed(fragment: str) -> None:
    wanted = settings_in(fragment)
    text = "long.txt" if "max-seq-len" in fragment else "text.txt"
    ran = fundamentallm(f"{BASE.replace('text.txt', text)} {fragment}")
    check_settings(ran, wanted)
    check_promised_files(ran, int(wanted.get("epochs", 1)))
    assert all(map(math.isfinite, ran.losses))
