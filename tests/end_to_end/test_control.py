"""A run under way is controlled, and never written, from other processes."""

import getpass
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fundamentallm.cli.terminal import SEPARATOR
from fundamentallm.process.session import AttachedRun
from fundamentallm.run import events
from fundamentallm.run.history import read_history
from fundamentallm.run.locks import holder, is_held
from fundamentallm.train.checkpoint import load
from tests.conftest import file_contents, journal_events

Run = Callable[..., Any]
CONSTANT = ("--lr-schedule=constant", "--warmup-steps=0")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "runs/far"


@pytest.fixture
def training(launch: Run, tiny: list[str], folder: Path) -> Any:
    """A `fundamentallm train` that has taken a step."""
    program = launch(*tiny, "--output-dir=runs/far", "--epochs=200000", "--keep-checkpoints=1", *CONSTANT)
    program.until(lambda: journal_events(folder, events.Progress))
    return program


def test_a_shell_has_every_control(training: Any, launch: Run, run: Run, folder: Path) -> None:
    watching = launch("watch", "far")  # its name below runs is enough
    watching.until_printed("Epoch 1/200000 | ")
    assert printed(run("pause", "far")) == "runs/far: paused\n"
    at = read_history(folder).steps[-1]
    assert printed(run("save", "runs/far")) == "runs/far: saved\n"
    assert load(folder / f"checkpoint_step_{at}.pt").progress().step == at

    assert printed(run("set", "runs/far", "learning-rate=0.0007")) == "runs/far: learning-rate=0.0007 from now on\n"
    assert printed(run("set", "runs/far", " epochs = 100000 ")) == "runs/far:  epochs = 100000  from now on\n"
    changes = [
        (event.step, event.setting, event.old, event.new) for event in journal_events(folder, events.Intervention)
    ]
    assert changes == [(at, "learning_rate", 0.005, 0.0007), (at, "epochs", 200_000, 100_000)]

    two = ("pin=owl", "pin=low")
    assert printed(run("set", "runs/far", *two)) == "runs/far: pin=owl pin=low from now on\n"
    assert printed(run("set", "runs/far", "pin=")) == "runs/far: pin is empty from now on\n"
    pins = [event.new for event in journal_events(folder, events.Intervention)[2:]]
    assert pins == [["owl", "low"], []]

    first = printed(run("sample", "far", "--prompt", "owl", "--max-tokens=30", "--seed=1"))
    assert first.startswith("owl") and len(first) == 3 + 30 + 1
    assert first == printed(run("sample", "far", "--prompt=owl", "--max-tokens=30", "--seed=1"))
    two = printed(run("sample", "far", "--prompt=owl", "--max-tokens=30", "--seed=1", "--num-samples=2"))
    assert two.startswith(first.removesuffix("\n") + SEPARATOR + "owl") and len(two.split(SEPARATOR)) == 2
    greedy = printed(run("sample", "far", "--prompt=owl", "--max-tokens=30", "--temperature=0"))
    assert greedy == printed(run("sample", "far", "--prompt=owl", "--max-tokens=30", "--top-k=1")) != first

    assert printed(run("resume", "far")) == "runs/far: resumed\n"
    training.until(lambda: read_history(folder).steps[-1] > at)
    assert printed(run("stop", "far")) == "runs/far: stopping; it saves first\n"
    assert training.wait() == 0 and journal_events(folder, events.Finished)[0].reason == "stopped"
    assert watching.wait() == 0
    rates = read_history(folder).learning_rate
    assert set(rates[:at]) == {0.005} and set(rates[at:]) == {0.0007}
    answers = journal_events(folder, events.Answered)
    assert {event.who for event in answers} == {getpass.getuser()} and all(event.ok for event in answers)
    step = journal_events(folder, events.Finished)[0].step
    assert f"stopped after {step} steps" in watching.err and watching.out.count("Epoch ") == step // 11
    over = run("watch", "far")  # a run that is over is shown as well
    assert (over.status, over.out) == (0, watching.out)


def printed(program: Any) -> str:
    assert (program.status, program.err) == (0, "")
    return str(program.out)


def test_a_wrong_command_is_refused_in_one_line(training: Any, run: Run, folder: Path) -> None:
    assert run("pause", "far").status == 0
    unknown = "no such setting of a running run"
    wrong = {
        ("pause", "runs/fra"): "runs/fra: no such run; did you mean runs/far?",
        ("set", "far", "learning_rate"): "learning_rate: write SETTING=VALUE, as in learning_rate=0.0005",
        ("set", "far", "learning_rat=1"): f"far: learning_rat: {unknown}; did you mean learning_rate?\n",
        ("set", "far", "learning_rate=fast"): "far: learning_rate: fast is not a number",
        ("set", "far", "model_dim=32"): "far: model_dim: cannot change during a run; ",
        ("set", "far", "epochs="): "far: epochs: ",
        ("set", "far", "epochs=3", "dropout=0"): "epochs=3 dropout=0: change one setting at a time",
        ("set", "far", "epochs=3", "epochs=4"): "epochs=3 epochs=4: change one setting at a time",
        ("sample", "far", "--prompt", "owl é"): "far: ",
        ("sample", "far", "--max-tokens=0"): "",
        ("pause",): "Missing argument 'RUN'; see fundamentallm pause --help",
    }
    for arguments, words in wrong.items():
        refused = run(*arguments)
        assert (refused.status, refused.out) == (2, ""), arguments
        assert refused.err.startswith(words) and refused.err.count("\n") == 1, refused.err
    assert not journal_events(folder, events.Intervention) and training.status is None


def test_a_run_that_has_ended_takes_no_command(run: Run, tiny: list[str], folder: Path) -> None:
    assert run(*tiny, "--output-dir=runs/far", "--epochs=1").status == 0
    before = file_contents(folder)
    acts = (["pause"], ["resume"], ["save"], ["stop"], ["sample", "--prompt=owl"], ["set", "learning_rate=0.1"])
    for act, *rest in acts:
        refused = run(act, "far", *rest)
        assert (refused.status, refused.out) == (2, ""), act
        generate = "; fundamentallm generate runs/far/best.pt samples it" if act == "sample" else ""
        assert refused.err == f"far: has finished{generate}\n"
    assert file_contents(folder) == before


def test_ctrl_c_in_a_shell_leaves_the_run_alone_and_a_kill_of_the_run_is_noticed(
    training: Any, launch: Run, run: Run, folder: Path
) -> None:
    asking, watching = launch("sample", "far", "--max-tokens=100000"), launch("watch", "far")
    training.until(lambda: journal_events(folder, events.Sampled))
    asking.signal(signal.SIGINT)
    assert asking.wait() == 130 and "Traceback" not in asking.err
    training.until(lambda: any(event.done for event in journal_events(folder, events.Sampled)))
    assert sum(len(event.text) for event in journal_events(folder, events.Sampled)) < 100_000
    watching.signal(signal.SIGINT)
    assert watching.wait() == 130 and "Traceback" not in watching.err
    at = journal_events(folder, events.Progress)[-1].step[-1]
    training.until(lambda: journal_events(folder, events.Progress)[-1].step[-1] > at)

    watching, console = launch("watch", "far"), AttachedRun(folder)
    watching.until_printed("Epoch 1/")
    training.signal(signal.SIGKILL)
    assert training.wait() == -9 and not is_held(folder)
    assert not console.alive and console.exit_reason == "its process is gone"
    assert watching.wait() == 1 and "far: its process is gone; resume with" in watching.err


def test_every_way_to_start_a_second_writer_is_refused_with_pid_and_host(
    training: Any, run: Run, tiny: list[str], folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to("runs/far")
    owner = f"process {training.pid} on {socket.gethostname()}"
    training.signal(signal.SIGSTOP)  # a process that is stopped still holds its run
    for name in ("runs/far", "link", "runs/../runs/far", str(folder)):
        for how in (["--resume=auto"], ["--overwrite"]):
            second = run(*tiny, f"--output-dir={name}", *how)
            assert (second.status, second.out) == (2, ""), (name, how)
            assert second.err.endswith(f"{Path(name)}: is being written by {owner}\n"), second.err
    for command in (["train", "--resume-from=link/last.pt", "--epochs=300000"], [*tiny, "--output-dir=link"]):
        second = run(*command)
        assert (second.status, second.err) == (2, f"link: is being written by {owner}\n")
    assert is_held(folder) and holder(folder) == owner
    training.signal(signal.SIGCONT)
    assert len(journal_events(folder, events.RunStarted)) == 1 and training.status is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "runs", "text.txt"]
