"""`train --detach`: the run trains when the command returns, and outlives the shell, the terminal and the signals."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from fundamentallm.run import events
from fundamentallm.run.locks import RunLock, is_held
from fundamentallm.train.checkpoint import load
from tests.compare_runs import difference
from tests.conftest import PATIENCE, file_contents, journal_events, until

Run = Callable[..., Any]
PROGRAM = [sys.executable, "-m", "fundamentallm"]
LONG = ["--epochs=200000", "--keep-checkpoints=1"]
STARTED = "training in the background in run; fundamentallm watch run shows it\n"
REFUSED = (
    "--output-dir run: holds a run already; resume it with --resume auto, name another folder, or move the old run "
    "aside with --overwrite\n"
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kill_leftovers: None) -> Path:
    """Where the run will be."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "run"


def detach(*arguments: str) -> tuple[int, str, str]:
    """Status, standard output and standard error: files, whose end nobody waits for."""
    with Path("out").open("w+") as out, Path("err").open("w+") as err:
        done = subprocess.run(
            [*PROGRAM, *arguments, "--output-dir=run", "--detach"], stdout=out, stderr=err, timeout=120
        )
    return done.returncode, Path("out").read_text(), Path("err").read_text()


def start_of(folder: Path) -> events.RunStarted:
    (start,) = journal_events(folder, events.RunStarted)
    assert isinstance(start, events.RunStarted)
    return start


def steps(folder: Path) -> int:
    progress = journal_events(folder, events.Progress)
    return int(progress[-1].step[-1]) if progress else 0


def test_a_detached_run_outlives_its_shell_and_a_hangup_is_watched_and_stopped(
    folder: Path, tiny: list[str], launch: Run, run: Run
) -> None:
    command = " ".join([*PROGRAM, *tiny, *LONG, "--output-dir=run", "--detach"])
    with Path("out").open("w") as out:
        shell = subprocess.Popen(
            ["sh", "-c", f"{command}; echo status $?; sleep 600"], stdout=out, stderr=out, start_new_session=True
        )
    until(lambda: "status" in Path("out").read_text())
    assert Path("out").read_text() == f"{STARTED}status 0\n" and is_held(folder)
    os.killpg(shell.pid, signal.SIGHUP)
    assert shell.wait() == -signal.SIGHUP

    pid = start_of(folder).pid
    assert os.getsid(pid) == pid != shell.pid
    os.kill(pid, signal.SIGHUP)
    watching = launch("watch", "run")
    watching.until_printed("Epoch 3/200000 | ")
    at = steps(folder)
    until(lambda: steps(folder) > at)

    assert run("stop", "run").status == 0
    assert watching.wait() == 0
    (finished,) = journal_events(folder, events.Finished)
    assert finished.reason == "stopped" and f"stopped after {finished.step} steps" in watching.err
    assert load(folder / "last.pt").progress().step == finished.step
    RunLock(folder).release()
    until(lambda: not Path(f"/proc/{pid}").exists())
    assert (folder / "engine.log").read_text() == ""


def test_who_reads_the_output_of_the_command_does_not_wait_for_the_run(folder: Path, tiny: list[str]) -> None:
    """As in $(fundamentallm train --detach), or over ssh."""
    command = [*PROGRAM, *tiny, *LONG, "--output-dir=run", "--detach"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until(lambda: process.poll() is not None)
    out, err = process.communicate(timeout=5)  # it has ended: the end of its output is there, or never comes
    assert (process.returncode, out, err) == (0, STARTED, "") and is_held(folder)


def test_a_detached_run_reaches_the_same_end_as_any_and_prints_nothing(folder: Path, tiny: list[str], run: Run) -> None:
    assert detach(*tiny, "--epochs=2", "--save-every=4") == (0, STARTED, "")
    watched = run("watch", "run")
    assert watched.status == 0 and [line[:9] for line in watched.out.splitlines()] == ["Epoch 1/2", "Epoch 2/2"]
    until(lambda: not is_held(folder))
    time.sleep(1.0)  # its last process needs a moment
    assert Path("err").read_text() == ""
    assert run(*tiny, "--epochs=2", "--save-every=4", "--output-dir=plain").status == 0
    assert difference(folder, folder.with_name("plain")) == ""
    done = "run/last.pt: epoch 2 of 2 is done; give a larger total with --epochs\n"
    assert detach(*tiny, "--epochs=2", "--resume=auto") == (0, "", done)


def test_what_cannot_start_is_one_line_and_leaves_nothing(folder: Path, tiny: list[str], run: Run) -> None:
    for arguments, words in (
        (["train", "none.txt"], "none.txt: no such file"),
        ([*tiny, "--device=cuda:99"], "--device cuda:99: "),  # found by the run's own process
    ):
        status, out, err = detach(*arguments)
        assert (status, out, err.count("\n")) == (2, "", 1) and err.startswith(words) and not folder.exists()
    assert run(*tiny, "--device=cuda:99", "--detach", "--output-dir=a/b/c").status == 2 and not Path("a").exists()

    assert run(*tiny, "--epochs=1", "--output-dir=run").status == 0
    before = file_contents(folder)
    for more, words in (
        ([], "--output-dir run: holds a run already; "),
        (["--overwrite", "--device=cuda:99"], "--device cuda:99: "),  # the old run is put back
    ):
        status, out, err = detach(*tiny, *more)
        assert (status, out) == (2, "") and err.startswith(words)
        assert file_contents(folder) == before and not list(Path().glob("run.old*"))


def test_a_run_that_is_overwritten_is_moved_and_the_command_prints_where(
    folder: Path, tiny: list[str], run: Run
) -> None:
    assert run(*tiny, "--epochs=1", "--output-dir=run").status == 0
    before = (folder / "journal.jsonl").read_bytes()
    assert detach(*tiny, *LONG, "--overwrite") == (0, STARTED, "the old run is in run.old-1 now\n")
    assert Path("run.old-1/journal.jsonl").read_bytes() == before
    assert run("stop", "run").status == 0
    until(lambda: not is_held(folder))


def worker_of(pid: int) -> int:
    """The process that trains for a start that waits for it."""
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            is_child = f"PPid:\t{pid}\n" in (place / "status").read_text()
            if is_child and b"spawn_main" in (place / "cmdline").read_bytes():
                return int(place.name)
    return 0


BREAKS = {  # how a start breaks: status, standard error, whether the new run has begun
    "its process is killed": (2, "the run did not start: killed by SIGKILL\n", False),
    "its process prints why it ends": (
        2, "the old run is in run.old-1 now\nthe run did not start: killed by SIGKILL: no memory\n", True,
    ),
    "interrupted": (130, "", False),
    "terminated": (143, "", False),
    "no file can be written": (2, "the old run is in run.old-1 now\nrun: File too large\n", True),
}  # fmt: skip


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc to find the run's process")
@pytest.mark.parametrize("how", BREAKS)
def test_a_start_that_breaks_while_it_loads_puts_the_old_run_back(
    folder: Path, tiny: list[str], run: Run, how: str
) -> None:
    status, words, begun = BREAKS[how]
    assert run(*tiny, "--epochs=1", "--output-dir=run").status == 0
    before = file_contents(folder)
    command = [*PROGRAM, *tiny, "--output-dir=run", "--overwrite", "--detach"]
    if how == "no file can be written":  # not the journal, either
        command = ["sh", "-c", 'ulimit -f 1; exec "$0" "$@"', *command]
    starting = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    until(lambda: Path("run.old-1").exists() or starting.poll() is not None)
    until(lambda: (folder / "engine.log").exists() or starting.poll() is not None)
    worker = worker_of(starting.pid)
    if how == "its process prints why it ends":
        (folder / "engine.log").write_text("no memory\n")
    if how.startswith("its process"):
        os.kill(worker, signal.SIGKILL)
    elif status > 128:
        starting.send_signal(status - 128)
    err = starting.communicate(timeout=PATIENCE)[1].lstrip()
    assert (starting.returncode, err) == (status, words) and not Path(f"/proc/{worker}/cmdline").exists()
    assert file_contents(Path("run.old-1" if begun else "run")) == before
    assert len(list(Path().glob("run*"))) == (2 if begun else 1)


def test_of_two_that_start_at_once_one_is_refused(folder: Path, tiny: list[str]) -> None:
    """The second does not take the first one's journal for its own."""
    starts = [
        subprocess.Popen(
            [*PROGRAM, *tiny, *LONG, f"--seed={seed}", "--output-dir=run", "--detach"],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )
        for seed in (1, 2)
    ]  # fmt: skip
    ends = sorted((one.wait(PATIENCE), one.stderr.read() if one.stderr else "") for one in starts)
    start = start_of(folder)
    held = f"run: is being written by process {start.pid} on {start.host}\n"
    assert ends[0] == (0, "") and ends[1][0] == 2 and ends[1][1] in (held, REFUSED), ends
    os.kill(start.pid, signal.SIGTERM)
    until(lambda: not is_held(folder))


def test_a_text_from_a_pipe_trains_in_the_background(folder: Path, tiny: list[str]) -> None:
    text = Path(tiny[1]).read_text()
    command = [*PROGRAM, "train", "-", *tiny[2:], "--epochs=1", "--output-dir=run", "--detach"]
    done = subprocess.run(command, input=text, text=True, stdout=subprocess.DEVNULL, timeout=120)
    assert done.returncode == 0
    until(lambda: not is_held(folder))
    assert (folder / "input.txt").read_text() == text
    assert load(folder / "final_model.pt").settings().data == ("run/input.txt",)
