"""Who looks at a run, and what becomes of a paused one when nobody does any more."""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from fundamentallm.config.config import Config
from fundamentallm.process.session import AttachedRun
from fundamentallm.run import events
from fundamentallm.run.commands import CancelSample, Command, Pause, Resume, Sample, Stop
from fundamentallm.run.folder import move_aside
from fundamentallm.run.journal import Journal
from fundamentallm.run.locks import ConsoleLock, ConsoleMonitor

needs_shared_locks = pytest.mark.skipif(os.name == "nt", reason="no shared locks")


@needs_shared_locks
def test_a_paused_run_is_lost_when_the_last_of_its_consoles_goes(tmp_path: Path) -> None:
    Journal(tmp_path).close()
    consoles = ConsoleMonitor(tmp_path)
    consoles.begin_pause(False)
    assert not consoles.lost()  # a shell paused it: it may rest for ever
    ada = ConsoleLock(tmp_path)
    ada.close()
    assert not consoles.lost()  # whoever has a look
    ada, bob = ConsoleLock(tmp_path), ConsoleLock(tmp_path)
    consoles.begin_pause(False)
    assert not consoles.lost()
    ada.close()
    assert not consoles.lost()
    bob.close()
    assert consoles.lost()
    consoles.begin_pause(False)  # paused anew, by a shell
    assert not consoles.lost()
    consoles.begin_pause(True)  # by a console that died before anybody looked
    assert consoles.lost()


@needs_shared_locks
def test_where_it_cannot_be_told_nothing_is_lost(tmp_path: Path) -> None:
    consoles = ConsoleMonitor(tmp_path)  # no journal, as on a mount that is gone
    consoles.begin_pause(True)
    assert not consoles.lost()


@needs_shared_locks
@pytest.mark.parametrize("stays", [True, False])
def test_a_run_paused_by_an_attached_console_ends_with_it_and_one_paused_by_a_shell_does_not(
    train: Callable[..., Any], small: Callable[..., Config], tmp_path: Path, stays: bool
) -> None:
    console: list[AttachedRun] = []
    rested = 0.0

    def listen(trainer: Any) -> Sequence[Command]:
        nonlocal rested
        if trainer.state.step == 5 and not console:
            console.append(AttachedRun(tmp_path / "run", stays=stays))
            return [Pause(stays=stays)]
        if trainer.control.paused:
            rested = rested or time.monotonic()
            console[0].close()
            if time.monotonic() - rested > 1:
                return [Resume()]
        return []

    run = train(small(), script=listen)
    assert (run.result.reason, run.result.step) == (("stopped", 5) if stays else ("completed", 36))
    assert [event.who for event in run.of(events.Answered) if event.command == "stop"] == ["its lost console"] * stays


def test_a_sample_that_waits_for_its_turn_can_be_cancelled(
    train: Callable[..., Any], small: Callable[..., Config]
) -> None:
    first, second, third = (Sample(prompt="the ", max_tokens=n, seed=1) for n in (60_000, 9, 5))
    waiting: list[list[Command]] = [[first], [second, third], [CancelSample(sample=second.id)], []]
    told: list[str] = []

    def listen(trainer: Any) -> Sequence[Command]:
        if trainer.state.step < 3:
            return []
        told.append(trainer.current_phase)
        if waiting:
            return waiting.pop(0)
        return [CancelSample(sample=first.id)] if trainer.current_phase == "sampling" and len(told) == 5 else []

    run = train(small(), script=listen)
    answers = [(event.id, event.ok) for event in run.of(events.Answered) if event.command == "sample"]
    assert answers == [(second.id, True), (first.id, True), (third.id, True)]
    text = {sample.id: "" for sample in (first, second, third)}
    for piece in run.of(events.Sampled):
        text[piece.id] += piece.text
    assert text[second.id] == "" and len(text[third.id]) == 5 and 0 < len(text[first.id]) < 60_000


def test_stop_ends_a_sample(train: Callable[..., Any], small: Callable[..., Config]) -> None:
    waiting: list[list[Command]] = [[Sample(prompt="", max_tokens=60_000)], [Stop()]]
    run = train(small(), script=lambda trainer: waiting.pop(0) if trainer.state.step >= 3 and waiting else [])
    assert (run.result.reason, run.result.step) == ("stopped", 3)
    assert sum(len(piece.text) for piece in run.of(events.Sampled)) < 60_000


@needs_shared_locks
def test_a_console_looks_at_the_run_that_is_there_now(tmp_path: Path) -> None:
    """Else a run that took the place of the one it was attached to would end when that console pauses it."""
    folder = tmp_path / "run"
    folder.mkdir()
    Journal(folder).close()
    console = AttachedRun(folder, stays=True)
    move_aside(folder)
    folder.mkdir()
    Journal(folder).close()
    consoles = ConsoleMonitor(folder)
    console.send(Pause(stays=True))
    consoles.begin_pause(True)
    assert not consoles.lost()
    console.close()
    assert consoles.lost()
