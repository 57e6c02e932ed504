"""Files that an earlier version wrote stay readable, and its runs resume to the same bits.

The fixtures in `tests/fixtures/before_house` were written by that version; their README says how.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from fundamentallm.config.config import Config, to_dict
from fundamentallm.config.files import load_config
from fundamentallm.run import commands, events
from fundamentallm.run.health import assess_run
from fundamentallm.run.history import read_history
from fundamentallm.run.journal import read_journal
from fundamentallm.run.summary import summarize
from fundamentallm.train.checkpoint import Checkpoint, load
from fundamentallm.train.device import hardware
from tests.compare_runs import TIMING, without

FIXTURES = Path(__file__).parents[1] / "fixtures" / "before_house"
CHECKPOINTS = sorted(str(path.relative_to(FIXTURES)) for path in FIXTURES.glob("*/*.pt"))
JOURNALS = sorted(str(path.relative_to(FIXTURES)) for path in FIXTURES.glob("*/journal.jsonl"))
LATER = {  # kinds that a later version added
    commands.Evaluate, commands.Explain, commands.Attend, commands.Neighbours,
    events.Pinned, events.Inspected, events.Explained, events.Attended, events.Nearest,
}  # fmt: skip


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a copy of the text and of all runs."""
    shutil.copytree(FIXTURES, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.md"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fundamentallm(*arguments: str) -> str:
    """Run the command line in its own process; return what it printed."""
    done = subprocess.run([sys.executable, "-m", "fundamentallm", *arguments], capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return done.stdout


def bits_are_reproducible(written: Checkpoint) -> bool:
    """Whether this machine computes the same bits as the one that wrote the checkpoint."""
    here = (str(torch.__version__), hardware(torch.device("cpu")))
    there = (written.torch, f"{written.device} AuthenticAMD")  # it did not write the maker down
    return there == here and written.threads <= (os.cpu_count() or 1)


def assert_same_checkpoint(path: Path, expected: Path) -> None:
    """Compare bits where they are reproducible, and close numbers elsewhere."""
    found, wanted = load(path), load(expected)
    exact = bits_are_reproducible(wanted)
    for a, b in ((found.model, wanted.model), (found.optimizer, wanted.optimizer)):
        assert list(a) == list(b)
        for name in b:
            same = torch.equal(a[name], b[name]) if exact else torch.allclose(a[name], b[name], atol=1e-3)
            assert same, f"{name} differs by up to {(a[name] - b[name]).abs().max():g}"
    added = {name: to_dict(Config())[name] for name in found.config.keys() - wanted.config.keys()}
    other = ("output_dir", "mixed_precision")  # off by default then, and for a model so small now
    assert without(found.config, *other) == without({**wanted.config, **added}, *other)
    assert found.mixed_precision == wanted.mixed_precision
    assert (found.vocabulary, found.fingerprint) == (wanted.vocabulary, wanted.fingerprint)
    others = without(wanted.counters, *TIMING)
    counters = {name: found.counters[name] for name in others}  # a later version may add some
    assert counters == (others if exact else pytest.approx(others, rel=1e-3))
    if exact:
        assert (found.threads, found.compiled) == (wanted.threads, wanted.compiled)


# ---- files ----


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_an_old_checkpoint_opens(name: str) -> None:
    checkpoint = load(FIXTURES / name)
    config = checkpoint.settings()
    optimizer = "adamw" if "adamw" in name else "muon"
    assert (config.model_dim, config.num_layers, config.num_heads, config.optimizer) == (16, 1, 2, optimizer)
    assert to_dict(config).items() >= checkpoint.config.items(), "a setting was removed or its value changed"
    assert asdict(checkpoint.progress()).items() >= checkpoint.counters.items()
    text = (FIXTURES / "text.txt").read_bytes().decode()
    assert checkpoint.tokenizer().vocabulary == "".join(sorted(set(text)))


@pytest.mark.parametrize("name", [*JOURNALS, "events.jsonl"])
def test_every_old_event_is_read_with_all_its_fields(name: str) -> None:
    assert_decodes(FIXTURES / name, events, complete=name == "events.jsonl")


@pytest.mark.parametrize("name", ["commands.jsonl", "killed_adamw/commands.jsonl"])
def test_every_old_command_is_read_with_all_its_fields(name: str) -> None:
    assert_decodes(FIXTURES / name, commands, complete=name == "commands.jsonl")


def assert_decodes(path: Path, protocol: Any, *, complete: bool) -> None:
    """Each line decodes and keeps its fields; a newer version may add fields. `complete`: every type occurs."""
    lines = path.read_bytes().splitlines()
    decoded = [protocol.decode(line) for line in lines]
    assert lines and None not in decoded
    for line, message in zip(lines, decoded, strict=True):
        assert json.loads(protocol.encode(message)).items() >= json.loads(line).items()
    if complete:
        assert {type(message) for message in decoded} == set(protocol.NAMES) - LATER


@pytest.mark.parametrize("name", ["finished_muon", "stopped_muon", "killed_adamw", "rewound"])
def test_an_old_configuration_is_read(name: str) -> None:
    values = load_config(FIXTURES / name / "config.yaml").values
    started = [event for event in read_journal(FIXTURES / name) if isinstance(event, events.RunStarted)]
    assert {**values, "data": ["text.txt"]} == started[-1].config


# ---- runs ----


def test_an_old_run_that_was_stopped_resumes_to_the_same_bits(copied: Path) -> None:
    folder = Path("stopped_muon")
    assert summarize(folder).state == "stopped" and load(folder / "last.pt").progress().step == 26
    fundamentallm("train", "--resume-from", "stopped_muon/last.pt")
    assert_same_checkpoint(folder / "final_model.pt", folder / "expected.pt")
    assert summarize(folder).state == "finished" and list(read_history(folder).steps) == list(range(1, 57))
    numbers = [event.seq for event in read_journal(folder)]
    assert numbers == list(range(1, 1 + len(numbers)))


@pytest.mark.parametrize("partial_line", [b"", b'{"event":"progress","seq":'])
def test_an_old_run_that_was_killed_resumes_to_the_same_bits_with_its_interventions(
    copied: Path, partial_line: bytes
) -> None:
    folder = Path("killed_adamw")
    (folder / "expected.pt").rename("expected.pt")  # `--resume auto` would choose it: it is valid and the newest
    with (folder / "journal.jsonl").open("ab") as file:
        file.write(partial_line)
    assert summarize(folder).state == "interrupted" and load(folder / "last.pt").progress().step == 20
    fundamentallm("train", "--resume", "auto", "--output-dir", "killed_adamw")
    assert_same_checkpoint(folder / "final_model.pt", Path("expected.pt"))
    assert summarize(folder).state == "finished" and list(read_history(folder).steps) == list(range(1, 57))
    changes = [event for event in read_journal(folder) if isinstance(event, events.Intervention)]
    made = [(21, "learning_rate", 0.01, 0.004), (22, "dropout", 0.1, 0.2)]
    assert [(event.step, event.setting, event.old, event.new) for event in changes] == 2 * made


@pytest.mark.parametrize("moment", ["whole", "begun_again"])
def test_an_old_journal_with_a_rewind_reads_as_it_did(here: Path, moment: str) -> None:
    """`begun_again` ends at the second start: the later steps are superseded and nothing has replaced them yet."""
    expected = json.loads((FIXTURES / "rewound" / "expected.json").read_text(encoding="utf-8"))[moment]
    if moment == "begun_again":  # the version before forgot the evaluation at the very step that the run went back to
        expected["list"][0]["val_loss"] = expected["summary"]["val_loss"] = 2.9124446231871843
    lines = (FIXTURES / "rewound" / "journal.jsonl").read_bytes().splitlines(keepends=True)
    starts = [number for number, line in enumerate(lines, 1) if isinstance(events.decode(line), events.RunStarted)]
    Path("rewound").mkdir()
    Path("rewound/journal.jsonl").write_bytes(b"".join(lines if moment == "whole" else lines[: starts[1]]))
    # the version before showed the loss of the last step, as if it were the mean that an evaluation has
    mean = {"whole": 2.5106501133962267, "begun_again": 3.2571484673584905}[moment]
    expected["list"][0]["train_loss"] = expected["summary"]["train_loss"] = mean
    (found,) = json.loads(fundamentallm("runs", "list", "--json"))
    assert found.items() >= expected["list"][0].items()
    assert fundamentallm("runs", "export", "rewound") == expected["csv"]
    summary = asdict(summarize(Path("rewound")))
    summary["last_heard"] = summary.pop("last_event")
    assert summary["best"].pop("bits_per_byte") is None  # which versions before did not measure
    assert {**summary, "folder": "rewound"}.items() >= expected["summary"].items()


def test_an_old_run_that_failed_is_summarized_as_failed() -> None:
    summary = summarize(FIXTURES / "failed")
    assert summary.state == "failed" and "not finite" not in summary.why and "nan" in summary.why
    end = list(read_journal(FIXTURES / "failed"))[-1]
    assert isinstance(end, events.Failed) and end.saved == "last.pt" and end.advice.startswith("--learning-rate 0.1")
    verdict = assess_run(read_history(FIXTURES / "failed"))  # its journal lacks the cause; the losses say it, too
    assert verdict is not None and verdict.kind == "diverged" and verdict.advice == end.advice and end.cause == ""
