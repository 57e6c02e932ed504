"""Standard streams that are closed, as `>&-` and service managers do it: both programs work as with the null device."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# What a program finds that was started without a stream.
CLOSE = "import os, sys; os.close({number}); sys.{name} = sys.__{name}__ = None"
STREAMS = ("stdin", "stdout", "stderr")
COMMANDS = {
    "--version": 0, "--help": 0, "nonsense": 2, "presets": 0, "presets tiny": 0, "config show": 0, "data list": 0,
    "data inspect text.txt": 0, "runs list": 0, "runs show run": 0, "runs compare run run": 0, "runs plot run": 0,
    "runs export run": 0, "generate run --max-tokens 5": 0, "generate run --prompt - --max-tokens 5": 0,
    "generate run --interactive": 0, "generate run --prompt ☃": 2, "evaluate run text.txt": 0, "pause run": 2,
    "resume run": 2, "save run": 2, "stop run": 2, "set run epochs=3": 2, "sample run": 2, "watch run": 0,
    "train none.txt": 2, "train --resume auto --output-dir run": 0,
}  # fmt: skip

SILENT = ("generate run --interactive", "train --resume auto --output-dir run")
SOME = ("runs list", "generate run --prompt - --max-tokens 5", "evaluate run text.txt", "pause run", "train none.txt")


def shell(command: str) -> "subprocess.CompletedProcess[bytes]":
    """Run `python -m` and the rest of a shell's command."""
    environment = {**os.environ, "PYTHON": sys.executable}
    return subprocess.run(["sh", "-c", f'exec "$PYTHON" -m {command}'], capture_output=True, env=environment)


@pytest.mark.parametrize("closed", [*STREAMS, "all"])
def test_every_command_works_as_with_the_null_device(
    closed: str, tiny: list[str], run: Callable[..., Any], tmp_path: Path
) -> None:
    assert run(*tiny, "--epochs=1", "--output-dir=run").status == 0
    close = [CLOSE.format(number=n, name=name) for n, name in enumerate(STREAMS) if closed in (name, "all")]
    for command in COMMANDS if closed == "all" else SOME:
        status = COMMANDS[command]
        done = run(*command.split(" "), prepare="; ".join(close))
        assert done.status == status, (command, done.err)
        open_streams = {"all": ("", ""), "stdout": ("", done.err), "stderr": (done.out, "")}
        assert (done.out, done.err) == open_streams.get(closed, (done.out, done.err)), command
        printed = done.err if status else done.out
        assert (printed != "") == (closed not in ("all", "stderr" if status else "stdout")) or command in SILENT, (
            command
        )
        assert "Traceback" not in done.out + done.err, command


@pytest.mark.parametrize("flags", ["", "--detach", "--json"])
def test_a_run_that_a_shell_starts_without_streams_writes_into_its_own_files_only(
    flags: str, tiny: list[str], here: Path, kill_leftovers: None
) -> None:
    done = shell(f"fundamentallm {' '.join(tiny)} --epochs=2 --output-dir=run {flags} <&- >&- 2>&-")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    watched = shell("fundamentallm watch run 2>&-")
    assert watched.returncode == 0 and watched.stdout.splitlines()[-1].startswith(b"Epoch 2/2")
    assert all(line.startswith(b'{"event":') for line in Path("run/journal.jsonl").read_bytes().splitlines())
    assert b"Epoch" not in b"".join(path.read_bytes() for path in Path("run").iterdir() if path.suffix != ".pt")


@pytest.mark.parametrize(
    ("arguments", "status"),
    [("--version", 0), ("--help", 0), ("--nonsense", 2), ("", 2), ("--preset nonsense", 2), ("replay none", 2)],
)
def test_the_console_works_as_with_the_null_device(arguments: str, status: int) -> None:
    for closed, null in (("<&-", "</dev/null"), (">&-", ">/dev/null"), ("2>&-", "2>/dev/null")):
        without, plain = (
            shell(f"fundamentallm_tui {arguments} {closed}"),
            shell(f"fundamentallm_tui {arguments} {null}"),
        )
        assert without.returncode == plain.returncode == status
        assert (without.stdout, without.stderr) == (plain.stdout, plain.stderr)
