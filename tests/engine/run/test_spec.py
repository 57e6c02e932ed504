"""What a run does when torch's agent starts its processes again."""

import time
from dataclasses import replace
from pathlib import Path

from fundamentallm.config.config import Config
from fundamentallm.run.spec import RunSpec
from tests.engine.run.conftest import CONFIG, started, write_journal


def test_a_restart_resumes_what_this_command_had_begun_with_all_that_it_asked_for(tmp_path: Path) -> None:
    write_journal(tmp_path, started())
    spec = RunSpec(Config(), tmp_path, tmp_path / "best.pt", {"epochs": "9", "track": ["mlflow"]})
    began = time.time()
    write_journal(tmp_path, started(20, config={**CONFIG, "epochs": 9, "track": ["mlflow"]}))
    again = spec.again(began - 1)
    assert again.auto and again.agent_began == began - 1 and again.resume_from is None and not again.changes
    expected = Config(data=("texts/sea.txt",), epochs=9, learning_rate=0.002, track=("mlflow",))
    assert again.config == expected


def test_a_restart_of_what_had_not_begun_does_what_was_asked_for(tmp_path: Path) -> None:
    """What the folder holds is another run, or is to be resumed from an earlier state or with other settings."""
    held, new = tmp_path / "held", tmp_path / "new"
    write_journal(held, started())
    config, began = Config(data=("a.txt",)), time.time() + 1
    for spec in (
        RunSpec(config, held), RunSpec(config, held, auto=True, changes={"epochs": "9"}),
        RunSpec(Config(), held, held / "best.pt"), RunSpec(Config(), new, held / "best.pt"),
        RunSpec(config, new, init_from=held / "best.pt"),
    ):  # fmt: skip
        assert spec.again(began) == spec
    fresh = RunSpec(config, new)
    assert fresh.again(began) == replace(fresh, auto=True)  # its journal may be there already
    piped = RunSpec(Config(data=("-",)), new)
    assert piped.again(began).config.data == (str(new / "input.txt"),)
