"""The folder of a run when its start fails, or two start at once."""

from pathlib import Path

import pytest

from fundamentallm.config.config import Config
from fundamentallm.errors import UserError
from fundamentallm.process.prepare import prepared_folder
from fundamentallm.process.start import new_spec
from fundamentallm.run.events import Notice
from fundamentallm.run.journal import Journal, read_journal
from fundamentallm.run.locks import RunLock, is_held
from fundamentallm.run.spec import RunSpec
from tests.conftest import file_contents


def test_a_start_that_came_second_leaves_the_files_of_the_first_alone(tmp_path: Path, data: str) -> None:
    spec = RunSpec(Config(data=(data,)), tmp_path / "run")
    with pytest.raises(UserError, match="is being written"), prepared_folder(spec, False, print):
        first, journal = RunLock(spec.folder), Journal(spec.folder)  # which has no event yet
        RunLock(spec.folder)
    event = journal.append(Notice(step=0, level="info", text="a"))
    assert list(read_journal(spec.folder)) == [event] and is_held(spec.folder)
    first.release()
    journal.close()


def test_of_two_starts_that_chose_the_same_number_the_second_gets_the_next(here: Path, data: str) -> None:
    first, second = (new_spec("tiny", None, {"data": (data,)}, False, None, print) for _ in range(2))
    assert first.folder == second.folder == Path("runs/tiny-1")
    with prepared_folder(first, False, print) as first:
        with pytest.raises(ValueError), prepared_folder(second, False, print) as second:
            assert (first.folder.name, second.folder.name) == ("tiny-1", "tiny-2") and second.folder.is_dir()
            raise ValueError
        assert [path.name for path in Path("runs").iterdir()] == ["tiny-1"]


def test_a_folder_that_holds_the_log_of_a_failed_start_is_kept(tmp_path: Path, data: str) -> None:
    """The old run stays where it was moved, and a line says so."""
    folder, told = tmp_path / "run", list[str]()
    folder.mkdir()
    Journal(folder).close()
    with pytest.raises(ValueError), prepared_folder(RunSpec(Config(data=(data,)), folder), True, told.append):
        (folder / "engine.log").write_text("Traceback")
        raise ValueError
    assert told == [f"the old run is in {folder}.old-1 now"] and (tmp_path / "run.old-1").is_dir()
    assert (folder / "engine.log").read_text() == "Traceback"


def test_a_failed_start_leaves_a_folder_that_was_there_as_it_was(tmp_path: Path, data: str) -> None:
    with pytest.raises(ValueError), prepared_folder(RunSpec(Config(data=(data,)), tmp_path), False, print):
        with RunLock(tmp_path):
            Journal(tmp_path).close()
        raise ValueError
    assert file_contents(tmp_path).keys() == {Path(data).name}  # with a journal it would seem to hold a run


def test_a_failed_resume_leaves_the_empty_journal_of_a_run_that_lost_what_it_had(tmp_path: Path, data: str) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    Journal(folder).close()
    (folder / "last.pt").touch()  # the list of runs finds such a run by its journal
    spec = RunSpec(Config(data=(data,)), folder, auto=True)
    with pytest.raises(ValueError), prepared_folder(spec, False, print):
        raise ValueError
    assert file_contents(folder) == {"journal.jsonl": b"", "last.pt": b""}
