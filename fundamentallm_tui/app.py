"""The console: theme, commands, and the ways out. Everything else is on the main screen."""

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from textual.app import App, SystemCommand
from textual.events import Event, InputEvent
from textual.screen import ModalScreen, Screen
from textual.theme import Theme

from fundamentallm.config.config import Config
from fundamentallm.process.session import RunHandle
from fundamentallm.run.spec import RunSpec
from fundamentallm_tui.screens.dialogs import quit_question
from fundamentallm_tui.screens.main import MainScreen
from fundamentallm_tui.state.launch import Options
from fundamentallm_tui.state.reader import Starter
from fundamentallm_tui.throttle import RedrawThrottle

PATIENCE = 1.5  # seconds for the terminal to be restored after a signal

CALM = Theme(
    name="calm", dark=True,
    background="#12161c", surface="#181d25", panel="#222933", foreground="#d4dae3",
    primary="#7aa7e0", secondary="#5d7fa8", accent="#e8b363",
    success="#8fc58a", warning="#e3c567", error="#e87878",
    variables={
        "text-accent": "#e8b363", "text-primary": "#7aa7e0", "text-success": "#8fc58a", "text-warning": "#e3c567",
        "text-error": "#e87878",
    },
)  # fmt: skip


class Console(App[int]):
    """`fllm-tui`."""

    TITLE = "fllm-tui"
    CSS_PATH = "app.tcss"
    ENABLE_COMMAND_PALETTE = True

    def __init__(self, options: Options, config: Config | None = None, start: Starter | None = None) -> None:
        """
        Args:
            options: what was asked for on the command line.
            config: `options.resolve()`, if that was done already.
            start: starts a run, raises UserError where it cannot be done; tests have their own.
        """
        super().__init__()
        self.animation_level = "none"
        self.register_theme(CALM)
        self.theme = CALM.name
        self._options = options
        self.left: Path | None = None  # the run that was left under way
        self.main = MainScreen(options, config or options.resolve(), start or begin)

    def get_default_screen(self) -> Screen[Any]:
        return self.main

    def on_mount(self) -> None:
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None:
                with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):
                    asyncio.get_running_loop().add_signal_handler(number, self._signalled, number)
        if hasattr(signal, "SIGCONT") and threading.current_thread() is threading.main_thread():
            self._mind_stops()
        if self._options.attach is not None:
            self.call_after_refresh(self.main.open_run, self._options.attach, speed=self._options.speed)
        elif self._options.library:
            self.call_after_refresh(self.main.action_runs)
        elif self._options.start:
            self.call_after_refresh(self.main.action_start)

    def _mind_stops(self) -> None:
        """A SIGSTOP cannot be noticed, only its end: give the terminal back then, before it is taken again.

        Textual does so for ctrl+z alone; without it a second thread would read the keyboard beside the first, and the
        console could not be left. In the loop, not wherever a signal finds the program: both wait for a queue that may
        just be locked by whoever was interrupted.
        """
        stop, go_on = signal.getsignal(signal.SIGTSTP), signal.getsignal(signal.SIGCONT)
        if not (callable(stop) and callable(go_on)):
            return
        given_back = False

        def stopped() -> None:
            nonlocal given_back
            given_back = True
            stop(signal.SIGTSTP, None)

        def continued() -> None:
            nonlocal given_back
            if not given_back and self._driver is not None:
                self._driver.suspend_application_mode()
            given_back = False
            go_on(signal.SIGCONT, None)
            self.refresh(layout=True)

        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTSTP, stopped)
        loop.add_signal_handler(signal.SIGCONT, continued)

    def _signalled(self, number: int) -> None:
        """The terminal is restored; a run that is under way runs on."""
        # A terminal that is gone can keep Textual waiting for ever.
        last_resort = threading.Timer(PATIENCE, os._exit, (128 + number,))
        last_resort.daemon = True
        last_resort.start()
        self.exit(return_code=128 + number)

    async def on_event(self, event: Event) -> None:
        """Someone is here: charts may cost more for a while."""
        if isinstance(event, InputEvent):
            RedrawThrottle.touched = time.monotonic()
        await super().on_event(event)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """In a dialog only its own keys act."""
        return not (action == "quit" and isinstance(self.screen, ModalScreen))

    async def action_quit(self) -> None:
        """Quit; with a run under way, ask first."""
        store = self.main.store
        if not store.under_way or store.replayed:
            self.exit(return_code=0)
        elif self.main.quitting:
            self.notify("Saving; the console closes when that is done.")
        else:
            self.push_screen(quit_question(store.word(), lonely=store.paused), self._quit_answered)

    def _quit_answered(self, answer: str | None) -> None:
        if answer == "leave":
            self._leave()
        if answer != "stop":
            return
        if not self.main.store.under_way:
            self.exit(return_code=0)
            return
        self.main.quitting = True
        if not self.main.store.stopping:
            self.main.action_stop()

    def _leave(self) -> None:
        """Exit; the run does not depend on this console."""
        self.left = self.main.store.folder if self.main.store.under_way else None
        if self.main.link is None:
            self.main.leaving = True  # its process is just being started
        else:
            self.exit(return_code=0)

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """What the palette offers: what can be done now."""
        main, rests = self.main, not self.main.store.under_way
        commands = [
            ("start", "Start", "Start a run, or go on with one that rests", main.action_start),
            ("pause", "Pause or resume", "Stand still after the step under way, or go on", main.action_pause),
            ("save", "Save", "Write a checkpoint now", main.action_save),
            ("stop", "Stop", "Finish the step, save, end the run", main.action_stop),
            ("prompt", "Sample", "Go to the prompt", main.action_prompt),
        ]
        for action, title, text, run in commands:
            if main.check_action(action, ()):
                yield SystemCommand(title, text, run)
        if rests and main.store.folder is not None:
            yield SystemCommand("New run", "Let go of this run; the next start makes a new one", main.action_new_run)
        yield SystemCommand("Runs", "The library of runs: attach, look, resume, compare, delete", main.action_runs)
        yield SystemCommand("Theme", "Choose the colours", self.action_change_theme)
        yield SystemCommand("Help", "The keys, and how to read the screen", main.action_help)
        yield SystemCommand("Quit", "Leave the console", self.action_quit)


def begin(job: RunSpec) -> RunHandle:
    """A run in a process of its own."""
    from fundamentallm.process.session import (
        WorkerRun,  # what it needs takes as long to import as the first picture may take
    )

    return WorkerRun(job)
