"""`train --detach`: the run is there when the command is back, and outlives the shell, the terminal and the signals."""

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
from tests.conftest import PATIENCE, file_contents, journal_events, until

Run = Callable[..., Any]
PROGRAM = [sys.executable, "-m", "fundamentallm"]
STARTED = "training in the background in run; fundamentallm watch run shows it\n"
REFUSED = (
    "--output-dir run: holds a run already; resume it with --resume auto, name another folder, or move the old run "
    "aside with --overwrite\n"
)


def written(folder: Path, kind: type) -> list[Any]:
    return journal_events(folder / "run", kind)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kill_leftovers: None) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def detach(folder: Path, *arguments: str) -> tuple[int, str, str]:
    """Status, standard output and standard error: files, of which nobody waits for the end."""
    with (folder / "out").open("w+") as out, (folder / "err").open("w+") as err:
        done = subprocess.run(
            [*PROGRAM, *arguments, "--output-dir=run", "--detach"], stdout=out, stderr=err, timeout=120
        )
    return done.returncode, (folder / "out").read_text(), (folder / "err").read_text()


def test_a_detached_run_outlives_its_shell_and_a_hangup_is_watched_and_stopped(
    here: Path, tiny: list[str], launch: Run, run: Run
) -> None:
    command = " ".join([*PROGRAM, *tiny, "--epochs=200000", "--keep-checkpoints=1", "--output-dir=run", "--detach"])
    with (here / "out").open("w") as out:
        shell = subprocess.Popen(
            ["sh", "-c", f"{command}; echo status $?; sleep 600"], stdout=out, stderr=out, start_new_session=True
        )
    until(lambda: "status" in (here / "out").read_text())
    assert (here / "out").read_text() == f"{STARTED}status 0\n" and is_held(here / "run")
    os.killpg(shell.pid, signal.SIGHUP)
    assert shell.wait() == -signal.SIGHUP

    (start,) = written(here, events.RunStarted)
    assert os.getsid(start.pid) == start.pid != shell.pid
    os.kill(start.pid, signal.SIGHUP)
    watching = launch("watch", "run")
    watching.until_printed("Epoch 3/200000 | ")
    at = written(here, events.Progress)[-1].step[-1]
    until(lambda: written(here, events.Progress)[-1].step[-1] > at)

    assert run("stop", "run").status == 0
    assert watching.wait() == 0
    (finished,) = written(here, events.Finished)
    assert finished.reason == "stopped" and f"stopped after {finished.step} steps" in watching.err
    assert load(here / "run" / "last.pt").progress().step == finished.step
    RunLock(here / "run").release()
    until(lambda: not Path(f"/proc/{start.pid}").exists())
    assert (here / "run" / "engine.log").read_text() == ""


def test_who_reads_what_the_command_says_does_not_wait_for_the_run(here: Path, tiny: list[str]) -> None:
    """As in $(fundamentallm train --detach), or over ssh."""
    command = [*PROGRAM, *tiny, "--epochs=200000", "--keep-checkpoints=1", "--output-dir=run", "--detach"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until(lambda: process.poll() is not None)
    out, err = process.communicate(timeout=5)  # it has ended: the end of its output is there, or never comes
    assert (process.returncode, out, err) == (0, STARTED, "") and is_held(here / "run")


def test_nothing_is_said_on_the_terminal_when_the_run_ends(here: Path, tiny: list[str]) -> None:
    assert detach(here, *tiny, "--epochs=2") == (0, STARTED, "")
    until(lambda: written(here, events.Finished) and not is_held(here / "run"))
    time.sleep(1.0)  # its last process needs a moment
    assert (here / "err").read_text() == ""


def test_a_run_that_comes_to_its_end_leaves_what_any_run_leaves(here: Path, tiny: list[str], run: Run) -> None:
    assert detach(here, *tiny, "--epochs=2", "--save-every=4")[:2] == (0, STARTED)
    watched = run("watch", "run")
    assert watched.status == 0 and [line[:9] for line in watched.out.splitlines()] == ["Epoch 1/2", "Epoch 2/2"]
    assert run(*tiny, "--epochs=2", "--output-dir=plain").status == 0
    ours, theirs = load(here / "run" / "final_model.pt"), load(here / "plain" / "final_model.pt")
    assert all(ours.model[name].equal(weights) for name, weights in theirs.model.items())


@pytest.fixture
def again(here: Path, tiny: list[str]) -> list[str]:
    """A detached run under way, and the command that started it."""
    command = [*tiny, "--epochs=200000", "--keep-checkpoints=1", "--save-every=5", "--resume=auto"]
    assert detach(here, *command)[:2] == (0, STARTED)
    until(lambda: written(here, events.Progress)[-1:] and written(here, events.Progress)[-1].step[-1] > 12)
    return command


def test_a_killed_detached_run_goes_on_by_the_same_command(here: Path, again: list[str]) -> None:
    os.kill(written(here, events.RunStarted)[0].pid, signal.SIGKILL)
    until(lambda: not is_held(here / "run"))
    assert detach(here, *again)[:2] == (0, STARTED)
    start = written(here, events.RunStarted)[1]
    assert start.step >= 10 and start.resumed_from == "run/last.pt" and start.recovered


def test_a_second_start_is_refused_by_pid_and_host(here: Path, again: list[str]) -> None:
    refused = detach(here, *again)
    (start,) = written(here, events.RunStarted)
    assert refused == (2, "", f"run: is being written by process {start.pid} on {start.host}\n")


def test_a_run_at_its_end_says_so_and_is_content(here: Path, tiny: list[str], run: Run) -> None:
    assert run(*tiny, "--epochs=1", "--output-dir=run").status == 0
    words = "run/last.pt: epoch 1 of 1 is done; give a larger total with --epochs\n"
    assert detach(here, *tiny, "--epochs=1", "--resume=auto") == (0, "", words)


def test_what_cannot_start_is_one_line_and_leaves_nothing(here: Path, tiny: list[str], run: Run) -> None:
    (here / "short.txt").write_text("a")
    cases = {
        ("train", "none.txt"): "none.txt: no such file",
        ("train", "short.txt"): "short.txt: 1 characters are too few to train on",
        (*tiny, "--device=cuda:99"): "--device cuda:99: ",  # found by the run's own process
        (*tiny, "--num-heads=7"): "--num-heads: 7 does not divide model_dim 16",
        (*tiny, "--resume-from=none.pt"): "--resume-from none.pt: no such checkpoint",
    }
    for arguments, words in cases.items():
        status, out, err = detach(here, *arguments)
        assert (status, out, err.count("\n")) == (2, "", 1) and err.startswith(words), (status, out, err)
        assert not (here / "run").exists(), arguments
    assert run(*tiny, "--device=cuda:99", "--detach", "--output-dir=a/b/c").status == 2 and not (here / "a").exists()
    assert run(*tiny, "--epochs=1", "--output-dir=run").status == 0
    before = file_contents(here / "run")
    status, out, err = detach(here, *tiny)
    assert (status, out) == (2, "") and err.startswith("--output-dir run: holds a run already; ")
    assert file_contents(here / "run") == before
    status, out, err = detach(here, *tiny, "--overwrite", "--device=cuda:99")  # the old run is put back
    assert (status, out) == (2, "") and err.startswith("--device cuda:99: ")
    assert file_contents(here / "run") == before
    assert not list(here.glob("run.old*"))


def test_a_run_that_is_overwritten_is_moved_and_it_is_said_where(here: Path, tiny: list[str], run: Run) -> None:
    assert run(*tiny, "--epochs=1", "--output-dir=run").status == 0
    before = (here / "run/journal.jsonl").read_bytes()
    assert detach(here, *tiny, "--overwrite", "--epochs=200000")[:2] == (
        0,
        f"the old run is in run.old-1 now\n{STARTED}",
    )
    assert (here / "run.old-1/journal.jsonl").read_bytes() == before
    assert run("stop", "run").status == 0
    until(lambda: not is_held(here / "run"))


def worker_of(pid: int) -> int:
    """The process that trains for a start that waits for it."""
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (
                f"PPid:\t{pid}\n" in (place / "status").read_text()
                and b"spawn_main" in (place / "cmdline").read_bytes()
            ):
                return int(place.name)
    return 0


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc to find the run's process")
@pytest.mark.parametrize("breaks", ["its process is killed", "interrupted", "no file can be written"])
def test_a_start_that_breaks_while_it_loads_puts_the_old_run_back(
    here: Path, tiny: list[str], run: Run, breaks: str
) -> None:
    assert run(*tiny, "--epochs=1", "--output-dir=run").status == 0
    before = file_contents(here / "run")
    command = [*PROGRAM, *tiny, "--output-dir=run", "--overwrite", "--detach"]
    if breaks == "no file can be written":  # found when the run begins
        command = ["sh", "-c", 'ulimit -f 1; exec "$0" "$@"', *command]
    starting = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    until(lambda: (here / "run.old-1").exists() or starting.poll() is not None)
    until(lambda: (here / "run/engine.log").exists() or starting.poll() is not None)
    worker = worker_of(starting.pid)
    if breaks == "its process is killed":
        os.kill(worker, signal.SIGKILL)
    elif breaks == "interrupted":
        starting.send_signal(signal.SIGINT)
    err = starting.communicate(timeout=PATIENCE)[1].lstrip()
    told = {
        "its process is killed": (2, "the run did not start: killed by SIGKILL\n"),
        "interrupted": (130, ""),
        "no file can be written": (2, "the old run is in run.old-1 now\nrun: File too large\n"),  # its journal says so
    }
    assert (starting.returncode, err) == told[breaks] and not Path(f"/proc/{worker}/cmdline").exists()
    old = here / ("run.old-1" if breaks == "no file can be written" else "run")
    assert file_contents(old) == before
    assert len(list(here.glob("run*"))) == (2 if breaks == "no file can be written" else 1)


def test_of_two_that_start_at_once_one_is_refused(here: Path, tiny: list[str]) -> None:
    """The second does not take for its own what the first says in the journal."""
    starts = [
        subprocess.Popen(
            [*PROGRAM, *tiny, "--epochs=200000", f"--seed={seed}", "--output-dir=run", "--detach"],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )
        for seed in (1, 2)
    ]  # fmt: skip
    ends = sorted((one.wait(PATIENCE), one.stderr.read() if one.stderr else "") for one in starts)
    (start,) = written(here, events.RunStarted)
    where = f"process {start.pid} on {start.host}"
    assert ends[0] == (0, "") and ends[1][0] == 2, ends
    assert ends[1][1] in (f"run: is being written by {where}\n", REFUSED), ends
    os.kill(start.pid, signal.SIGTERM)
    until(lambda: not is_held(here / "run"))
