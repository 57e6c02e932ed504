"""Curves of other runs: read once, followed while they grow, bounded, and in the same colours everywhere."""

import queue
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fundamentallm.run import journal
from fundamentallm_tui.charts.palette import run_styles
from fundamentallm_tui.charts.series import MAX_POINTS
from fundamentallm_tui.state import overlays
from fundamentallm_tui.state.overlays import Overlays
from tests.engine.run.conftest import write_journal
from tests.events import evaluated


class Watch:
    """Overlays, and what their threads hand over, taken in as a screen does it."""

    def __init__(self) -> None:
        self._handed = queue.Queue[Callable[[], None]]()
        self.changes = 0
        owner: Any = SimpleNamespace(app=None, call_later=lambda *call: self._handed.put(partial(*call)))
        self.overlays = Overlays(owner, self._changed)

    def _changed(self) -> None:
        self.changes += 1

    def take(self, count: int) -> None:
        """Take in so many changes."""
        wanted = self.changes + count
        self.overlays.read()
        while self.changes < wanted:
            self._handed.get(timeout=20)()
        assert self.changes == wanted

    def take_next(self) -> None:
        """Take in what one thread hands over, which may change nothing."""
        self._handed.get(timeout=20)()


@pytest.fixture
def watch() -> Watch:
    return Watch()


def test_runs_are_read_in_the_background_and_grow(make: Any, workshop: Any, watch: Watch) -> None:
    a, b = make("a", evaluated(40, 2.5)), make("b")
    watch.overlays.choose([a, b])
    watch.take(2)
    first, second = watch.overlays.beside(None)
    assert (first.folder, first.store.train.last, first.store.val.last) == (a, (40, 3.8), (40, 2.5))
    assert (second.store.train.last, second.store.val.last) == ((40, 3.8), None)
    write_journal(b, workshop.progress(41, 60))
    watch.take(1)
    assert second.store.train.last == (60, 3.7) and len(first.store.train) == 40
    watch.overlays.read()
    watch.take_next()
    assert watch.changes == 3, "nothing has come"


def test_a_long_journal_is_read_in_pieces_into_bounded_series(
    make: Any, workshop: Any, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "BATCH", 50)
    many = [workshop.progress(n, n + 99) for n in range(41, 30_041, 100)]
    long = make("long", *many)
    sizes: list[int] = []
    apply = overlays.Overlay.apply
    monkeypatch.setattr(
        overlays.Overlay, "apply", lambda run, events: (sizes.append(len(events)), apply(run, events))[1]
    )
    watch.overlays.choose([long])
    watch.take(1)
    (run,) = watch.overlays.beside(None)
    assert run.store.train.end == 30_040 and len(run.store.train) <= MAX_POINTS
    assert max(sizes) == 50 and sum(sizes) >= 300
    assert run.store.take_lines() == []


def test_the_run_that_is_shown_is_not_laid_over_itself(
    make: Any, watch: Watch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folders = [make(name) for name in ("x", "y", "z")]
    watch.overlays.choose(folders[1:])
    watch.take(2)
    styles = run_styles(folder.resolve() for folder in folders[1:])
    for shown in (folders[0], folders[0].resolve()):
        assert [run.style for run in watch.overlays.beside(shown)] == [styles[f.resolve()] for f in folders[1:]]
    assert [run.folder for run in watch.overlays.beside(folders[1])] == [folders[2]]


def test_a_run_keeps_its_sign_whichever_others_come_and_go(make: Any, watch: Watch) -> None:
    folders = [make(f"r{n}") for n in (0, 1, 2, 3, 4, 5, 8, 9)]
    signs = {folder: run_styles([folder])[folder].mark for folder in folders}
    first, rival = next((a, b) for a in folders for b in folders if a != b and signs[a] == signs[b])
    for chosen in ([first], [first, rival], folders, [rival, first], [first]):
        watch.overlays.choose(chosen)
        assert watch.overlays.marks[first].mark == signs[first]
        assert len({style.mark for style in watch.overlays.marks.values()}) == len(chosen)
    watch.overlays.choose([rival])
    assert watch.overlays.marks[rival].mark == signs[rival], "its own as soon as it is free"


def test_at_most_eight_are_read_and_one_that_was_kept_is_not_read_again(make: Any, watch: Watch) -> None:
    folders = [make(f"r{n}") for n in range(9)]
    watch.overlays.choose(folders)
    watch.take(8)
    before = watch.overlays.beside(None)
    assert [run.folder for run in before] == folders[:8]
    watch.overlays.choose([folders[8], *folders[:2]])
    watch.take(1)
    assert watch.overlays.beside(None)[1:] == before[:2]
    watch.overlays.choose([folders[2]])
    watch.overlays.choose([])
    watch.take_next()
    assert watch.overlays.beside(None) == [] and watch.changes == 9, "it is no longer overlaid when it was read"


def test_a_parent_that_the_user_marks_again_stays(make: Any, watch: Watch) -> None:
    parent = make("parent")
    watch.overlays.choose_parent(parent)
    watch.overlays.toggle(parent)
    watch.overlays.toggle(parent)
    watch.overlays.choose_parent(None)
    assert watch.overlays.folders == [parent]


def test_a_parent_has_the_path_of_the_list_where_a_journal_names_a_longer_one(make: Any, watch: Watch) -> None:
    parent = make("parent")
    watch.overlays.choose_parent(parent.absolute())
    assert [*watch.overlays.marks] == [parent] != [parent.absolute()]
