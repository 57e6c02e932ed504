"""The command line as processes: what goes where, with which status, and what a signal leaves behind."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import pytest

from fundamentallm import __version__
from fundamentallm.cli import main
from fundamentallm.run.events import Evaluated
from fundamentallm.run.journal import read_journal
from fundamentallm.train.checkpoint import load

PROGRAM = [sys.executable, "-m", "fundamentallm"]
WORDS = ["once", "upon", "a", "time", "there", "was", "owl", "that", "read", "small", "books", "by", "moonlight.\n"]
TEXT = "Once upon a time " + " ".join(random.Random(1).choices(WORDS, k=600))
TINY = [
    "--model-dim=16",
    "--num-layers=1",
    "--max-seq-len=16",
    "--stride=16",
    "--batch-size=16",
    "--learning-rate=0.005",
]
LINE = re.compile(
    r"Epoch (\d+)/(\d+) \| train_loss=\d\.\d{3} \| val_loss=(\d\.\d{3}) \| lr=\d\.\d\de-\d\d "
    r"\| throughput=\d+ tokens/sec"
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder with a text in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "text.txt").write_text(TEXT)
    assert main(["train", str(folder / "text.txt"), f"--output-dir={folder / 'run'}", "--epochs=2", *TINY]) == 0
    return folder / "run"


def call(*arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*PROGRAM, *map(str, arguments)], capture_output=True, text=True, timeout=120)


def start(*arguments: object) -> "subprocess.Popen[str]":
    command = [*PROGRAM, "train", "text.txt", *TINY, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def read_lines(stream: IO[str] | None, count: int) -> list[str]:
    assert stream is not None
    return [stream.readline() for _ in range(count)]


def test_a_pipe_gets_one_line_an_epoch_and_nothing_else(here: Path) -> None:
    done = call("train", "text.txt", "--output-dir", "run", "--epochs", 3, *TINY)
    assert done.returncode == 0, done.stderr
    matches = [LINE.fullmatch(line) for line in done.stdout.splitlines()]
    assert [found and found.group(1, 2) for found in matches] == [("1", "3"), ("2", "3"), ("3", "3")]
    logged = [event.val_loss for event in read_journal(here / "run") if isinstance(event, Evaluated)]
    assert [found and found[3] for found in matches] == [f"{loss:.3f}" for loss in logged]
    assert "writing to run\n" in done.stderr and f"best validation loss {min(logged):.4f} (epoch 3)" in done.stderr
    files = {"config.yaml", "journal.jsonl", "tokenizer.json", "lock", "last.pt", "best.pt", "final_model.pt"}
    assert {path.name for path in (here / "run").iterdir()} == files | {f"checkpoint_epoch_{n}.pt" for n in (1, 2, 3)}

    advice = re.search(r"^try it with: fundamentallm (generate \S+ --prompt) \"(.*)\"$", done.stderr, re.MULTILINE)
    assert advice is not None
    text = call(*advice[1].split(), advice[2], "--max-tokens", 30, "--seed", 1)
    assert (text.returncode, text.stderr) == (0, "")
    assert text.stdout.startswith("Once upon a time") and len(text.stdout) == len("Once upon a time") + 30 + 1


def test_ctrl_c_saves_and_resuming_reaches_the_same_end(here: Path) -> None:
    whole = start("--output-dir", "whole", "--epochs", 8)
    assert whole.wait(120) == 0

    for number, status, total in ((signal.SIGINT, 130, 4000), (signal.SIGTERM, 143, 4000), (signal.SIGHUP, 129, 4000)):
        folder = here / f"run{status}"
        process = start("--output-dir", folder, "--epochs", total)
        assert LINE.fullmatch(read_lines(process.stdout, 1)[0].rstrip())
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        assert process.returncode == status and "Traceback" not in err, err
        assert f"resume with: fundamentallm train --resume-from {folder / 'last.pt'}" in err
        assert load(folder / "last.pt").progress().step > 0

    # a run that was stopped in its third epoch of eight goes on to the same weights
    process = start("--output-dir", "stopped", "--epochs", 8)
    read_lines(process.stdout, 2)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    if process.returncode == 130:  # a fast machine may have been done before
        resumed = call("train", "--resume-from", "stopped/last.pt")
        assert resumed.returncode == 0, resumed.stderr
        assert resumed.stdout.splitlines()[-1].startswith("Epoch 8/8 ")
    ours, theirs = load(here / "stopped" / "final_model.pt"), load(here / "whole" / "final_model.pt")
    assert ours.progress().step == theirs.progress().step
    assert all(ours.model[name].equal(weights) for name, weights in theirs.model.items())


def test_a_run_under_nohup_does_not_mind_its_terminal(here: Path) -> None:
    code = (
        "import signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "from fundamentallm.cli import main; sys.exit(main())"
    )
    command = [sys.executable, "-c", code, "train", "text.txt", "--output-dir", "run", "--epochs", "8", *TINY]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    read_lines(process.stdout, 1)
    process.send_signal(signal.SIGHUP)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and out.splitlines()[-1].startswith("Epoch 8/8 ")


def test_a_second_signal_ends_at_once_and_the_last_checkpoint_stands(here: Path) -> None:
    # the first signal cannot be obeyed: the step never ends
    code = (
        "import sys, time; from fundamentallm.train.trainer import Trainer; take = Trainer.step\n"
        "def hang(self):\n  take(self)\n  while self.state.counters.epoch_tokens and self.stopping: time.sleep(0.01)\n"
        "Trainer.step = hang\n"
        "from fundamentallm.cli import main; sys.exit(main())"
    )
    command = [sys.executable, "-c", code, "train", "text.txt", "--output-dir", "run", "--epochs", "4000", *TINY]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    read_lines(process.stdout, 2)  # a line comes before its checkpoint
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    while "once more ends at once" not in process.stderr.readline():
        pass
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert load(here / "run" / "last.pt").progress().step > 0


def test_a_killed_run_leaves_a_folder_from_which_it_goes_on(here: Path) -> None:
    process = start("--output-dir", "run", "--epochs", 4000, "--save-every", 5)
    read_lines(process.stdout, 2)
    process.kill()
    process.communicate()
    step = load(here / "run" / "last.pt").progress().step
    per_epoch = next(event.step for event in read_journal(here / "run") if isinstance(event, Evaluated))
    epochs = step // per_epoch + 2
    resumed = call("train", "--resume-from", "run", "--epochs", epochs)  # the folder stands for its last.pt
    assert resumed.returncode == 0, resumed.stderr
    assert f"resumed from run/last.pt at step {step} of " in resumed.stderr
    assert load(here / "run" / "final_model.pt").progress().step == epochs * per_epoch


def test_a_run_is_never_written_over(here: Path, trained: Path) -> None:
    before = (trained / "journal.jsonl").read_bytes()
    command = ("train", trained.parent / "text.txt", "--output-dir", trained, "--epochs", 1, *TINY)
    refused = call(*command)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.splitlines() == [
        f"--output-dir {trained}: holds a run already; resume it with --resume auto, "
        "name another folder, or move the old run aside with --overwrite"
    ]
    assert (trained / "journal.jsonl").read_bytes() == before


def test_overwrite_moves_the_old_run_aside(here: Path) -> None:
    for seed in (1, 2, 3):
        command = ["train", "text.txt", "--output-dir", "run", "--epochs", "1", *TINY, "--overwrite", f"--seed={seed}"]
        assert main(command) == 0
    seeds = [load(here / folder / "best.pt").settings().seed for folder in ("run.old-1", "run.old-2", "run")]
    assert seeds == [1, 2, 3]
    assert main(["train", "--resume-from", "run/last.pt", "--epochs", "2", "--overwrite"]) == 2


def test_folders_are_named_after_preset_or_data(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert main(["train", "text.txt", "--epochs", "1", *TINY]) == 0
    assert main(["train", "text.txt", "--preset", "tiny", "--epochs", "1", *TINY]) == 0
    assert sorted(path.name for path in (here / "runs").iterdir()) == ["text-1", "text-2", "tiny-1"]
    config = load(here / "runs/tiny-1/best.pt").settings()
    assert (config.num_heads, config.model_dim, config.data) == (2, 16, ("text.txt",))  # the preset's, ours, ours


def test_a_runs_config_yaml_makes_the_same_run(here: Path, trained: Path) -> None:
    assert main(["train", "--config", str(trained / "config.yaml"), "--output-dir", "again"]) == 0
    ours, theirs = load(here / "again/final_model.pt"), load(trained / "final_model.pt")
    assert all(ours.model[name].equal(weights) for name, weights in theirs.model.items())


def test_several_texts_are_read_one_after_the_other(here: Path) -> None:
    (here / "more.txt").write_text(TEXT.upper())
    assert main(["train", "text.txt", "more.txt", "--output-dir", "run", "--epochs", "1", *TINY]) == 0
    saved = load(here / "run/best.pt")
    assert saved.settings().data == ("text.txt", "more.txt") and saved.vocabulary == "".join(
        sorted(set(TEXT + TEXT.upper()))
    )


def test_evaluate_agrees_with_what_training_logged(
    here: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tail = TEXT[int(0.9 * len(TEXT)) :]
    (here / "tail.txt").write_text(tail)
    capsys.readouterr()
    assert main(["evaluate", str(trained), "tail.txt", "--output", "out.json", "--json"]) == 0
    written = json.loads((here / "out.json").read_text())
    assert json.loads(capsys.readouterr().out) == written
    assert written.keys() >= {"loss", "perplexity", "bits_per_character", "accuracy", "tokens", "classes"}
    assert written["loss"] == pytest.approx(load(trained / "best.pt").progress().best_val_loss, abs=1e-6)
    assert written["tokens"] == len(tail) - 1 and 0 < written["accuracy"] < 1


def test_generation_is_the_same_for_the_same_seed_and_goes_past_the_context(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def generate(*arguments: str) -> str:
        capsys.readouterr()
        assert main(["generate", str(trained / "best.pt"), "--max-tokens", "100", *arguments]) == 0
        return capsys.readouterr().out

    first = generate("--prompt", "owl", "--seed", "3")
    assert first == generate("--prompt", "owl", "--seed", "3") and len(first) == 3 + 100 + 1
    assert first != generate("--prompt", "owl", "--seed", "4")
    greedy = generate("--prompt", "owl", "--temperature", "0")
    assert greedy == generate("--prompt", "owl", "--top-k", "1") == generate("--prompt", "owl", "--top-p", "0.0001")
    assert len(generate()) == 100 + 1  # without a prompt too


def test_presets_lists_all_and_shows_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["presets"]) == 0
    listed = capsys.readouterr().out
    names = [line.split()[0] for line in listed.splitlines() if line and not line.startswith(" ")]
    assert names[:4] == ["tiny", "small", "medium", "large"]
    assert max(map(len, listed.splitlines())) <= 80
    assert main(["presets", "tiny"]) == 0
    assert "model_dim: 64\n" in capsys.readouterr().out


def test_version_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"fundamentallm {__version__}\n"


def test_a_reader_that_leaves_does_not_stop_the_training(here: Path) -> None:
    process = start("--output-dir", "run", "--epochs", 5)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 0 and "Traceback" not in err and "Error" not in err
    assert (here / "run" / "final_model.pt").exists()


def test_an_end_that_cannot_be_saved_is_said_and_fails(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fundamentallm.train.checkpoints.save", full)
    assert main(["train", "text.txt", "--output-dir", "run", "--epochs", "1", *TINY]) == 1


@pytest.mark.skipif(os.name == "nt", reason="pseudo-terminals are a matter of Unix")
@pytest.mark.parametrize("columns", [80, 120])
def test_a_terminal_shows_a_live_bar_and_keeps_each_epoch(here: Path, columns: int) -> None:
    import pyte

    process, master = in_terminal("train", "text.txt", "--output-dir", "run", "--epochs", 12, *TINY, columns=columns)
    screen = pyte.Screen(columns, 24)
    stream = pyte.ByteStream(screen)
    seen: list[list[str]] = []
    while piece := read(master):
        stream.feed(piece)
        seen.append([line.rstrip() for line in screen.display if line.strip()])
    assert process.wait(60) == 0
    bar, fields = r"\[█*░*\] \d+%", r"train_loss=\S+ \| val_loss=\S+ \| lr=\S+ \| throughput=\d+ tokens/sec"
    place = r"Epoch \d+/12"
    rest = r"\| ETA \S+ \| grad_norm=\d+\.\d{3}( \| perplexity=\d+\.\d\d)?"
    live = {80: (rf"{place} {bar} {rest}", fields), 120: (rf"{place} {rest}", rf"{bar}  \|  {fields}")}[columns]
    shown = [lines for lines in seen if len(lines) > 1 and "ETA" in lines[-2]]
    assert shown and all(re.fullmatch(live[0], lines[-2]) and re.fullmatch(live[1], lines[-1]) for lines in shown)
    kept = [line for line in shown[-1][:-2] if line.startswith("Epoch")]
    numbers = [int(line.split()[1].split("/")[0]) for line in kept]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) and len(numbers) > 3
    assert any("Epoch 12/12" in line for line in seen[-1]) and "ETA" not in "".join(seen[-1])


@pytest.mark.skipif(os.name == "nt", reason="pseudo-terminals are a matter of Unix")
def test_a_terminal_is_not_commanded_by_what_a_model_writes(here: Path) -> None:
    (here / "wild.txt").write_text("\x1b]0;owned\x07\x1b[2J" * 300)
    assert main(["train", "wild.txt", "--output-dir", "run", "--epochs", "1", *TINY]) == 0
    process, master = in_terminal("generate", "run", "--prompt", "\x1b[2J", "--max-tokens", 50, columns=80)
    output = b""
    while piece := read(master):
        output += piece
    assert process.wait(60) == 0 and b"\x1b" not in output and b"\x07" not in output and "\ufffd[2J" in output.decode()


def in_terminal(*arguments: object, columns: int) -> "tuple[subprocess.Popen[bytes], int]":
    """A command in a pseudo-terminal; its process and our end."""
    import fcntl
    import pty
    import struct
    import termios

    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")} | {"TERM": "xterm-256color"}
    command = [*PROGRAM, *map(str, arguments)]
    process = subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True
    )
    os.close(slave)
    return process, master


def read(master: int) -> bytes:
    """What came since; empty at the end."""
    time.sleep(0.01)
    try:
        return os.read(master, 65536)
    except OSError:  # Linux says so when nobody has the other end
        return b""
