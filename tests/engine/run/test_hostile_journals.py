"""Someone else's journals: whatever stands in them, reading ends soon, takes little memory, and never raises."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fundamentallm.cli import main
from fundamentallm.cli.report import Report
from fundamentallm.config.config import Config, to_dict
from fundamentallm.process.session import AttachedRun
from fundamentallm.run import events, locks
from fundamentallm.run.events import JOURNAL
from fundamentallm.run.history import find_runs, read_history, summarize
from fundamentallm.run.journal import JournalReader, read_journal
from fundamentallm.untrusted import MAX_EVENT_BYTES, MAX_TIME
from tests.engine.run.conftest import evaluated, finished, progress, started, write_journal

STARTED, PROGRESS, FINISHED = started(), progress(1, 3), finished(3)
REAL: list[events.Event] = [
    STARTED, PROGRESS, FINISHED,
    events.Phase(step=1, phase="training"),
    evaluated(3, 1.0),
    events.CheckpointSaved(step=3, path="last.pt", kind="last", bytes=1000, seconds=0.1),
    events.CheckpointFailed(step=3, path="last.pt", kind="last", why="full"),
    events.Sampled(step=3, id="a", prompt="the", text=" sea", probabilities=(0.5,), done=True),
    events.Intervention(step=3, setting="learning_rate", old=0.1, new=0.2, who="ada"),
    events.Answered(step=3, id="a", command="pause", ok=True, who="ada"),
    events.Notice(step=3, level="info", text="words"),
    events.Failed(step=3, error="no memory", advice="less", saved="last.pt"),
]  # fmt: skip
NUMBERS = [
    0, -1, 1, 3, 2**31, 2**53, 2**53 + 1, 10**18, 10**30, 10**300, -(10**30), 0.0, -0.0, 1e-300, 1e100, 1e300, -1e300,
    1.7e308, float("nan"), float("inf"), -float("inf"),
]  # fmt: skip
TEXTS = ["", "\x1b[2J", "\u202e", "a\nb\r\nc\x85d", "x" * 20_000, "\ud800", "../../x", "/etc/passwd", "last.pt", "\0"]
LEAVES = st.sampled_from([*NUMBERS, *TEXTS, None, True, False])
NONSENSE = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*to_dict(Config()), "x"]), inner),
    max_leaves=6,
)


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    """A line of a journal: real, with some values exchanged, or not an event at all."""
    values = json.loads(events.encode(draw(st.sampled_from(REAL))))
    values |= {"seq": 1, "time": 1.7e9}
    for _ in range(draw(st.integers(0, 3))):
        name = draw(st.sampled_from([*values]))
        if name == "config" and draw(st.booleans()):
            values[name][draw(st.sampled_from([*values[name]]))] = draw(NONSENSE)
        elif isinstance(values[name], list) and draw(st.booleans()):
            values[name] = draw(st.lists(st.sampled_from(NUMBERS) | LEAVES, max_size=5))
        else:
            values[name] = draw(st.sampled_from(NUMBERS) | NONSENSE)
    return draw(
        st.just(json.dumps(values).encode()) | st.binary(max_size=20) | NONSENSE.map(lambda v: json.dumps(v).encode())
    )


JOURNALS = st.lists(lines(), max_size=8).map(lambda found: [events.encode(STARTED).encode(), *found])


@given(found=JOURNALS)
def test_any_journal_can_be_listed_shown_compared_drawn_exported_and_watched(
    found: list[bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("runs")
    (folder / JOURNAL).write_bytes(b"".join(line.replace(b"\n", b" ") + b"\n" for line in found))
    summary, history = summarize(folder), read_history(folder)
    assert summary.steps >= 0 and 0 <= summary.started <= MAX_TIME
    assert list(history.steps) == sorted(set(history.steps))
    assert {len(column) for column in (history.train_loss, history.learning_rate, history.grad_norm)} == {
        len(history.steps)
    }
    for words in (["list", str(folder)], ["list", "--json", str(folder)], ["show", str(folder)],
                  ["compare", str(folder), str(folder)], ["plot", str(folder)], ["plot", "--log", str(folder)],
                  ["export", str(folder), "--csv", str(folder / "x.csv")]):  # fmt: skip
        assert main(["runs", *words]) == 0 or words[0] == "plot", words  # there may be nothing to draw
    report = Report(folder, ours=False)
    for event in read_journal(folder):
        report.on_event(event)


READ = """
import resource, sys
from pathlib import Path
from fundamentallm.run.history import find_runs, read_history, summarize
from fundamentallm.run.journal import Journal, JournalReader
from fundamentallm.process.session import AttachedRun
folder = Path(sys.argv[1])
limit = 300 << 20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
attached = AttachedRun(folder)
print(len(JournalReader(folder).read()), len(attached.events(0.0)), len(attached.events(0.0)), summarize(folder).steps)
print(list(read_history(folder).steps), [run.steps for run in find_runs(folder)], Journal(folder).events_written)
"""


def test_a_gigabyte_without_a_line_end_is_skipped_in_little_memory(tmp_path: Path) -> None:
    with write_journal(tmp_path, STARTED).open("ab") as file:
        file.write(b'{"event":"progress","step":[' + b"1," * MAX_EVENT_BYTES + b"\n")
    with write_journal(tmp_path, PROGRESS).open("ab") as file:
        file.truncate(file.tell() + 2**29)  # zeros that take no room on the disk
        file.seek(0, os.SEEK_END)
        file.write(b"\n" + events.encode(FINISHED).encode().replace(b'"seq":0', b'"seq":7') + b"\n")
        file.truncate(file.tell() + 2**29)
    result = subprocess.run([sys.executable, "-c", READ, str(tmp_path)], capture_output=True, text=True, timeout=300)
    assert result.stderr == "" and result.stdout.splitlines() == ["3 3 0 3", "[1, 2, 3] [3] 7"]


def test_a_pipe_or_a_device_in_place_of_a_file_is_not_waited_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, make in (("pipe", os.mkfifo), ("zero", lambda path: os.symlink("/dev/zero", path))):
        refused = [
            f"train {name}/text.txt", f"train --config {name}/config.yaml", f"train --resume-from {name}/x.pt",
            f"generate {name}/x.pt", f"evaluate {name}/x.pt {name}/text.txt", f"data inspect {name}/text.txt",
        ]  # fmt: skip
        folder = tmp_path / name
        folder.mkdir()
        make(folder / JOURNAL)
        assert find_runs(folder) == [] and JournalReader(folder).read() == []
        for command in (f"runs show {name}", f"runs export {name}"):
            assert main(command.split()) == 2
        (folder / JOURNAL).unlink()
        write_journal(folder, STARTED)
        for other in ("engine.log", "lock", "commands.jsonl", "tokenizer.json", "config.yaml", "text.txt", "x.pt"):
            make(folder / other)
        attached = AttachedRun(folder)
        assert attached.log_tail() == [] and not attached.alive and locks.holder(folder) == ""
        assert main(["runs", "show", name]) == 0
        for command in refused:
            capsys.readouterr()
            assert main(command.split()) == 2
            assert len(capsys.readouterr().err.splitlines()) == 1, command
