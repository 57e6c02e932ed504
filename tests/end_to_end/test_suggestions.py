"""Commands that the program suggests: a shell runs them as they were printed, whatever a folder is called."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from fundamentallm.cli import main
from fundamentallm.train.trainer import Trainer
from tests.end_to_end.conftest import TINY

NAMES = ["-x", '~it\'s "5 $HOME"\nb']
FLAGS = [*TINY, "--epochs=1"]


def run_in_a_shell(command: str) -> "subprocess.CompletedProcess[str]":
    program = f'fundamentallm() {{ {shlex.quote(sys.executable)} -m fundamentallm "$@"; }}\n'
    done = subprocess.run(["sh", "-c", program + command], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, (command, done.stderr)
    return done


@pytest.fixture
def stopping(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Runs in this process stop after their second step; the current folder is empty."""
    real = Trainer.step

    def step(self: Trainer) -> None:
        real(self)
        if self.state.step == 2:
            self.stop()

    monkeypatch.setattr(Trainer, "step", step)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_a_run_is_resumed_and_sampled_as_printed(
    name: str, tiny: list[str], stopping: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "text.txt", *FLAGS, f"--output-dir=./{name}"]) == 0
    at_its_end = re.findall(r"^resume with: (.+)$", capsys.readouterr().err, re.MULTILINE)
    assert main(["runs", "show", f"./{name}"]) == 0
    shown = re.findall(r"^resume with: (.+)$", capsys.readouterr().out, re.MULTILINE)
    assert at_its_end == shown and len(shown) == 1
    assert main(["pause", f"./{name}"]) == 2
    paused = re.findall(r"^.*is not running.*; resume with (.+)$", capsys.readouterr().err, re.DOTALL)
    assert len(paused) == 1
    said = run_in_a_shell(shown[0] + " --max-steps 4").stderr
    assert "resumed from" in said and " at step 2 of 4" in said
    said = run_in_a_shell(paused[0].rstrip("\n") + " --max-steps 6").stderr
    assert " at step 4 of 6" in said
    generate = re.findall(r"^try it with: (.+)$", said, re.MULTILINE)
    assert len(generate) == 1 and len(run_in_a_shell(generate[0]).stdout) > 200


@pytest.mark.parametrize("name", NAMES)
def test_a_run_in_the_background_is_watched_as_printed(
    name: str, tiny: list[str], here: Path, kill_leftovers: None
) -> None:
    started = run_in_a_shell(
        f"fundamentallm train text.txt {' '.join(FLAGS)} --detach --output-dir {shlex.quote(f'./{name}')}"
    )
    watch = re.findall(r"; (fundamentallm watch .+) shows it$", started.stdout.rstrip("\n"))
    assert len(watch) == 1 and "Epoch 1/1" in run_in_a_shell(watch[0]).stdout
