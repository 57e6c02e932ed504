"""Several processes that train one run: the curve of one process, one that decides, and one that dies comes back."""

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from fundamentallm.cli import main
from fundamentallm.process.session import AttachedRun
from fundamentallm.run import commands, events
from fundamentallm.run.locks import is_held
from fundamentallm.run.notes import read_notes
from fundamentallm.train.checkpoint import load
from tests.conftest import Listener, file_contents, journal_events, until
from tests.end_to_end.conftest import Ask, serve
from tests.engine.conftest import steps_in

Group = Callable[..., list[Any]]
# A step has 24 windows in micro-batches of 6, but the last of an epoch 6: others than the first process have none then.
SETTINGS = [
    "train", "text.txt", "--model-dim=16", "--num-layers=2", "--max-seq-len=16", "--stride=16", "--batch-size=6",
    "--accumulation-steps=4", "--dropout=0.2", "--augment=casing,punctuation", "--device=cpu", "--epochs=1000",
]  # fmt: skip
EPOCH, EPOCH_WINDOWS = 8, 7 * 24 + 6
TOLERANCE = 1e-4
PATIENCE = 300.0  # seconds


@pytest.fixture(scope="module")
def fork_server() -> Iterator[Ask]:
    yield from serve("torch._dynamo")  # which DistributedDataParallel imports


@pytest.fixture(autouse=True)
def text(tmp_path: Path, tiny: list[str]) -> None:
    """The text of `tiny`, in the current folder of every program here."""


@pytest.fixture
def group(launch: Callable[..., Any]) -> Group:
    """Start a command in so many processes, as an agent does; `prepare` is Python for all or one text for each."""

    def start(number: int, *arguments: object, prepare: str | list[str] = "") -> list[Any]:
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        shared = {"WORLD_SIZE": number, "MASTER_ADDR": "localhost", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "test"}
        members = []
        for rank in range(number):
            variables = {name: str(value) for name, value in {**shared, "RANK": rank, "LOCAL_RANK": rank}.items()}
            hook = prepare if isinstance(prepare, str) else prepare[rank]
            members.append(launch(*arguments, prepare=f"import os\nos.environ.update({variables})\n{hook}"))
        return members

    return start


def wait(*members: Any) -> list[int]:
    """The exit statuses of processes, which on busy cores take ten times as long as alone."""
    until(lambda: all(member.has_ended() for member in members), timeout=PATIENCE)
    return [member.status for member in members]


def reach(program: Any, condition: Callable[[], Any]) -> None:
    """Wait until something holds that this program brings about."""
    until(lambda: condition() or program.has_ended(), timeout=PATIENCE)
    assert condition(), program.err


@pytest.fixture
def run(launch: Callable[..., Any]) -> Callable[..., Any]:
    def start(*arguments: object) -> Any:
        program = launch(*arguments)
        wait(program)
        return program

    return start


def assert_ended(members: list[Any], *statuses: int) -> None:
    """Assert that all processes have ended with these statuses, and that only rank 0 has printed anything."""
    assert wait(*members) == list(statuses), [member.err for member in members]
    assert not any(member.out + member.err for member in members[1:]), [member.err for member in members]


def assert_same_curve(folder: Path, reference: Path, steps: int) -> None:
    ours, theirs = steps_in(folder), steps_in(reference)
    assert list(ours) == list(theirs) == list(range(1, steps + 1))
    worst = max(abs(ours[step] - theirs[step]) for step in ours)
    assert worst < TOLERANCE, worst
    for mine, other in zip(*(journal_events(each, events.Evaluated) for each in (folder, reference)), strict=True):
        assert abs(mine.val_loss - other.val_loss) < TOLERANCE and abs(mine.train_loss - other.train_loss) < TOLERANCE


COUNTED = """
import atexit, os
from fundamentallm.train import optimizer
real, done = optimizer.orthogonalise, []
def counted(matrices, **options):
    done.extend(tuple(matrix.shape) for matrix in matrices)
    return real(matrices, **options)
optimizer.orthogonalise = counted
atexit.register(lambda: open(f"done.{os.environ['RANK']}", "w").write(repr(done)))
"""


@pytest.mark.parametrize(("number", "epochs"), [(2, 25), (4, 5)])
def test_several_processes_have_the_curve_of_one(
    run: Any, group: Group, tmp_path: Path, number: int, epochs: int
) -> None:
    folder, alone, steps = tmp_path / "run", tmp_path / "alone", epochs * EPOCH
    settings = [*SETTINGS, f"--max-steps={steps}"]
    assert run(*settings, "--output-dir=alone").status == 0
    assert load(alone / "last.pt").progress().tokens == epochs * EPOCH_WINDOWS * 16
    assert_ended(group(number, *settings, "--output-dir=run", prepare=COUNTED), *[0] * number)
    assert_same_curve(folder, alone, steps)
    (started,) = journal_events(folder, events.RunStarted)
    assert started.processes == load(folder / "last.pt").processes == number
    assert {*file_contents(folder)} == {*file_contents(alone)}
    # Each matrix was made orthogonal by one process.
    done = [eval((tmp_path / f"done.{rank}").read_text()) for rank in range(number)]
    # each layer: queries, keys, values and the output, 16 x 16; the feed-forward's, 64 x 16 and 16 x 64
    assert sorted(sum(done, [])) == sorted(steps * 2 * [*4 * [(16, 16)], (64, 16), (16, 64)])
    for shape in ((16, 16), (64, 16), (16, 64)):
        counts = [shapes.count(shape) for shapes in done]
        assert max(counts) - min(counts) <= steps, "at most one matrix more a step than another process"


def test_a_console_controls_all_at_the_same_step_and_a_signal_to_any_stops_all(
    run: Any, group: Group, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    members = group(2, *SETTINGS, "--output-dir=run", "--lr-schedule=constant", "--warmup-steps=0", "--pin=the owl")
    reach(members[0], lambda: is_held(folder) and journal_events(folder, events.Progress))
    attached = AttachedRun(folder)
    console = Listener(attached)
    assert console.answer(commands.Set(setting="dropout", value=0.5)).ok
    assert console.answer(commands.Set(setting="learning_rate", value=0.004)).ok
    paused = console.answer(commands.Pause())
    assert paused.ok and console.answer(commands.Save()).ok
    assert console.answer(commands.Evaluate()).step == paused.step
    assert console.answer(commands.Sample(prompt="Once", max_tokens=5)).ok
    assert steps_in(folder) and max(steps_in(folder)) == paused.step
    assert console.answer(commands.Resume()).ok
    console.until(lambda event: isinstance(event, events.Progress) and event.step[-1] > paused.step + 5)
    members[1].signal(signal.SIGTERM)
    assert_ended(members, 0, 0)
    (end,) = journal_events(folder, events.Finished)
    assert end.reason == "stopped" and load(folder / "last.pt").progress().step == end.step == max(steps_in(folder))
    assert load(folder / f"checkpoint_step_{paused.step}.pt").settings().dropout == 0.5
    # Only if all processes change what they compute at the same step is the curve that of one process. At so high a
    # rate rounding grows a hundredfold in 50 steps, so that only the first of those can be compared.
    repeat = ["--apply-interventions=run", "--lr-schedule=constant", "--warmup-steps=0", "--output-dir=alone"]
    assert run(*SETTINGS, *repeat, f"--max-steps={end.step}").status == 0
    assert len(journal_events(tmp_path / "alone", events.Intervention)) == 2
    ours, alone = steps_in(folder), steps_in(tmp_path / "alone")
    assert list(ours) == list(alone)
    assert max(abs(ours[step] - alone[step]) for step in ours if step <= paused.step + 5) < TOLERANCE


def test_a_batch_that_cannot_be_shared_is_refused(group: Group, tmp_path: Path) -> None:
    members = group(2, *SETTINGS, "--batch-size=9", "--accumulation-steps=3", "--output-dir=run")
    assert_ended(members, 2, 0)
    what = "a step's 27 windows cannot be shared over 2 processes"
    rule = "batch size x accumulation steps must be a multiple of 2"
    assert members[0].err == f"--batch-size 9: {what}; {rule}\n"
    assert not (tmp_path / "run").exists()


def test_processes_that_see_different_text_are_refused(group: Group, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "text.txt").write_text((tmp_path / "text.txt").read_text().replace("owl", "cat"))
    members = group(2, *SETTINGS, "--output-dir=run", prepare=["", "os.chdir('other')"])
    assert_ended(members, 2, 2)
    where = f"process 1 on {socket.gethostname()}: text.txt"
    expected = f"{where}: is not the text that process 0 reads; restore the text, or start a new run\n"
    assert members[0].err == expected and not (tmp_path / "run").exists()


NOT_A_NUMBER = """
from fundamentallm.train import step
real = step.loss_sum
count = [0]
def broken(*arguments):
    count[0] += 1
    return real(*arguments) * (float("nan") if count[0] > 12 else 1.0)
step.loss_sum = broken
"""


BROKEN_EVALUATION = "from fundamentallm.train import trainer\ntrainer.evaluate = lambda *_: 1 / 0"
BROKEN_STEP = "from fundamentallm.train import step\nstep.DropoutMasks = lambda *_: 1 / 0"


@pytest.mark.parametrize(
    ("prepare", "statuses", "cause"),
    [
        (["", NOT_A_NUMBER], [1, 0], events.NOT_FINITE),
        ([BROKEN_EVALUATION, ""], [1, 0], events.FAULT),
        ([BROKEN_STEP, ""], [1, 1], events.FAULT),  # the other waits for its gradient
    ],
    ids=["a loss that is not finite", "rank 0 between steps", "rank 0 within a step"],
)
def test_a_fault_of_one_process_ends_all_in_good_order(
    group: Group, tmp_path: Path, prepare: list[str], statuses: list[int], cause: str
) -> None:
    folder = tmp_path / "run"
    members = group(2, *SETTINGS, "--output-dir=run", prepare=prepare)
    assert_ended(members, *statuses)
    (failed,) = journal_events(folder, events.Failed)
    assert failed.cause == cause and not is_held(folder)
    if cause == events.NOT_FINITE:
        assert load(folder / "last.pt").progress().step == failed.step
    else:
        assert "ZeroDivisionError" in members[0].err


def test_a_process_that_is_lost_before_the_first_step_is_a_line(group: Group, tmp_path: Path) -> None:
    lost = "from fundamentallm.train import step\nstep.build_state = lambda *_: os.kill(os.getpid(), 9)"
    members = group(2, *SETTINGS, "--output-dir=run", prepare=["", lost])
    assert wait(*members) == [1, -signal.SIGKILL]
    assert members[0].err == "another process of the run has ended\n" and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("agent", "options", "line"),
    [
        (True, ["--output-dir=run", "--detach"], "--detach: starts one process"),
        (True, ["--output-dir=run", "--processes=2"], "--processes: torchrun has started"),
        (True, [], "--output-dir: name the run's folder"),
        (False, ["--output-dir=run", "--processes=2", "--detach"], "--detach: "),
    ],
)
def test_what_several_processes_refuse(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], agent: bool, options: list[str], line: str
) -> None:
    variables = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "TORCHELASTIC_RUN_ID": "test"}
    for name, value in variables.items() if agent else ():
        monkeypatch.setenv(name, value)
    assert main([*SETTINGS, *options]) == 2
    said = capsys.readouterr().err
    assert said.startswith(line) and said.count("\n") == 1


def test_more_processes_than_a_machine_can_hold_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    monkeypatch.chdir(tmp_path)
    assert main([*SETTINGS, "--output-dir=run", "--processes=13"]) == 2
    assert capsys.readouterr().err == "--processes 13: at most 12 on this machine, 4 for each of its cores\n"
    assert not (tmp_path / "run").exists()
    assert main([*SETTINGS, "--output-dir=run", "--processes=5", "--dry-run"]) == 2
    refused = capsys.readouterr()
    assert not refused.out and " windows cannot be shared over 5 processes; " in refused.err
    assert main([*SETTINGS, "--output-dir=run", "--processes=3", "--dry-run"]) == 0


AGAIN = "nothing was trained yet: give the same command again\n"


@pytest.mark.parametrize(
    ("end", "status", "said"), [(ChildProcessError("one was killed"), 1, f"one was killed; {AGAIN}"), (143, 143, "")]
)
def test_processes_that_are_lost_or_signalled_before_anything_was_trained_leave_no_folder(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], end: Any, status: int, said: str
) -> None:
    monkeypatch.setattr("fundamentallm.train.distributed.launch", Mock(side_effect=[end]))
    assert main([*SETTINGS, "--output-dir=run", "--processes=2"]) == status
    assert capsys.readouterr().err.endswith(said) and not Path("run").exists()


# ---- with torch's agent ----


def pids_of(parent: int) -> list[int]:
    """The processes that a process has started and that run ours, oldest first."""
    # -ww: in 80 columns, which some environments ask for, a long path leaves no room for what is looked for below
    listing = ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(parent)]
    listed = subprocess.run(listing, capture_output=True, text=True).stdout
    return [int(line.split()[0]) for line in listed.splitlines() if "spawn_main" in line]


def open_to_others(pids: list[int]) -> list[str]:
    """Where processes listen for other machines: address and port, as /proc/net has them."""
    sockets, found = set[str](), []
    for link in (link for pid in pids for link in Path(f"/proc/{pid}/fd").iterdir()):
        with suppress(FileNotFoundError):  # it was closed meanwhile
            sockets.add(os.readlink(link))
    for line in (Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()).splitlines():
        _, address, _, state, *_, inode = line.split()[:10]
        host = address.partition(":")[0]
        is_own = host.endswith("7F") or host == "0" * 24 + "01000000"  # 127.0.0.1, also in IPv6, or ::1
        if state == "0A" and f"socket:[{inode}]" in sockets and not is_own:
            found.append(address)
    return found


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds processes by /proc")
def test_a_killed_process_comes_back_and_another_number_resumes(launch: Any, run: Any, tmp_path: Path) -> None:
    folder, settings = tmp_path / "run", [*SETTINGS, "--lr-schedule=constant", "--warmup-steps=0"]
    folder.mkdir()
    (folder / "journal.jsonl").touch()
    program = launch(*settings, "--output-dir=run", "--processes=2", "--max-restarts=1", "--overwrite")
    reach(program, lambda: len(journal_events(folder, events.Progress)) > 2)
    assert read_notes(tmp_path / "run.old-1").former_names == ("run",)
    # torch's usual meeting place is open to all machines, and whoever reaches it runs code here
    assert not open_to_others([program.pid, *pids_of(program.pid)])
    first, *_ = journal_events(folder, events.RunStarted)
    follower = next(pid for pid in pids_of(program.pid) if pid != first.pid)
    os.kill(follower, signal.SIGKILL)
    reach(program, lambda: len(journal_events(folder, events.RunStarted)) == 2)
    (failed,) = journal_events(folder, events.Failed)
    assert failed.cause == events.PROCESS and failed.saved == "last.pt"
    assert failed.error == "another process of the run has ended"
    assert "a process was lost or failed; all start again, restart 1 of at most 1\n" in program.err
    assert "finishing the step" not in program.err  # the agent ended rank 0, not a user
    again = journal_events(folder, events.RunStarted)[1]
    saved = [event for event in journal_events(folder, events.CheckpointSaved) if event.seq < again.seq]
    # The newest: that of the step before, unless the optimizer was moving the weights when the other was killed.
    assert again.step == saved[-1].step > 0 and again.processes == 2 and again.recovered
    reach(program, lambda: max(steps_in(folder)) > again.step)
    os.kill(again.pid, signal.SIGKILL)
    assert wait(program) == [1]
    last = program.err.splitlines()[-1]
    resume = "resume with: fundamentallm train --resume auto --output-dir run --processes 2"
    assert program.err.count("the old run is in run.old-1 now\n") == 1
    assert last == f"process 0 was killed by signal 9; --max-restarts 1 allows no other start; {resume}"
    until(lambda: not is_held(folder))
    resumed = run("train", "--resume=auto", "--output-dir=run", f"--max-steps={max(steps_in(folder)) + 20}")
    assert resumed.status == 0, resumed.err
    assert "the run resumes, but not to the same bits: processes 2 then, 1 now" in resumed.err
    notices = [event.text for event in journal_events(folder, events.Notice)]
    assert any(text.endswith("processes 2 then, 1 now") for text in notices)
    assert run(*settings, f"--max-steps={max(steps_in(folder))}", "--output-dir=plain").status == 0
    ours, plain = steps_in(folder), steps_in(tmp_path / "plain")
    assert list(ours) == list(plain) and max(abs(ours[step] - plain[step]) for step in ours) < TOLERANCE


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds processes by /proc")
def test_a_signal_between_two_starts_ends_with_the_command_that_resumes(launch: Any, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    program = launch(*SETTINGS, "--output-dir=run", "--processes=2")
    reach(program, lambda: journal_events(folder, events.Progress))
    (first,) = journal_events(folder, events.RunStarted)
    os.kill(next(pid for pid in pids_of(program.pid) if pid != first.pid), signal.SIGKILL)
    reach(program, lambda: journal_events(folder, events.Failed))
    program.signal(signal.SIGTERM)
    assert wait(program) == [143], program.err
    resume = "resume with: fundamentallm train --resume auto --output-dir run --processes 2"
    assert program.err.splitlines()[-1] == f"ended by SIGTERM; {resume}"
    assert len(journal_events(folder, events.RunStarted)) == 1


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds processes by /proc")
def test_a_paused_run_that_loses_a_process_comes_back_paused(launch: Any, tmp_path: Path) -> None:
    folder = tmp_path / "run"

    def started() -> list[events.RunStarted]:
        return journal_events(folder, events.RunStarted)

    def phases_since(seq: int) -> list[str]:
        return [event.phase for event in journal_events(folder, events.Phase) if event.seq > seq]

    program = launch(*SETTINGS, "--output-dir=run", "--processes=2", "--max-restarts=2")
    reach(program, lambda: journal_events(folder, events.Progress))
    console = Listener(AttachedRun(folder))
    paused = console.answer(commands.Pause())
    assert paused.ok and console.answer(commands.Save()).ok
    first = started()[0]
    os.kill(next(pid for pid in pids_of(program.pid) if pid != first.pid), signal.SIGKILL)
    reach(program, lambda: len(started()) == 2 and phases_since(started()[1].seq)[-1:] == ["paused"])
    os.kill(started()[1].pid, signal.SIGKILL)
    reach(program, lambda: len(started()) == 3 and phases_since(started()[2].seq)[-1:] == ["paused"])
    assert "training" not in phases_since(started()[1].seq)  # or the pause would end if a process is lost just then
    assert [start.step for start in started()] == [0, paused.step, paused.step] and max(steps_in(folder)) == paused.step
    texts = [event.text for event in journal_events(folder, events.Notice)]
    assert texts.count("the run is paused, as it was when a process was lost") == 2
    assert console.answer(commands.Resume()).ok
    console.until(lambda event: isinstance(event, events.Progress) and event.step[-1] > paused.step + 5)
    assert console.answer(commands.Stop()).ok and wait(program) == [0], program.err


def test_a_signal_to_the_command_stops_all_its_processes(launch: Any, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    (tmp_path / "temporary").mkdir()
    elsewhere = "import os, tempfile\nos.environ['TMPDIR'] = tempfile.tempdir = os.path.abspath('temporary')"
    program = launch(*SETTINGS, "--output-dir=run", "--processes=2", prepare=elsewhere)
    reach(program, lambda: journal_events(folder, events.Progress))
    program.signal(signal.SIGINT)
    assert wait(program) == [130], program.err
    (end,) = journal_events(folder, events.Finished)
    assert end.reason == "stopped" and load(folder / "last.pt").progress().step == end.step
    assert "resume with: fundamentallm train --resume-from run/last.pt --processes 2\n" in program.err
    assert not [path for path in (tmp_path / "temporary").iterdir() if "torch" in path.name or "fundam" in path.name]
