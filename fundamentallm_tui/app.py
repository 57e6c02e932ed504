"""The console: its theme, the command palette, signals, and how it quits. The rest is on the main screen."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

from platformdirs import user_log_path
from textual import on
from textual._ansi_sequences import ANSI_SEQUENCES_KEYS
from textual.app import App, SystemCommand
from textual.events import Event, InputEvent, Key, Paste
from textual.message import Message
from textual.notifications import Notify
from textual.screen import ModalScreen, Screen
from textual.widget import Widget
from textual.widgets import OptionList

from fundamentallm.errors import describe_error, describe_fault
from fundamentallm.paths import quoted_path, user_folder
from fundamentallm.process.session import SamplerRun, WorkerRun
from fundamentallm.run.folder import holds_run, named
from fundamentallm_tui import keys
from fundamentallm_tui.background import ThreadFailed, in_thread
from fundamentallm_tui.dialogs import CANCEL, Answer, Question, TextDialog
from fundamentallm_tui.format import clean
from fundamentallm_tui.keymap import load_keymap
from fundamentallm_tui.panes.bars import takes_text
from fundamentallm_tui.screens.help import help_text
from fundamentallm_tui.screens.main import MainScreen
from fundamentallm_tui.screens.running import ENDED, IF_PAUSED, STARTED
from fundamentallm_tui.state import notices
from fundamentallm_tui.state.launch import Options
from fundamentallm_tui.state.preferences import load, remember
from fundamentallm_tui.state.reader import EventsReceived, RunDisconnected, Starter
from fundamentallm_tui.state.sampler import SamplerStarter
from fundamentallm_tui.state.store import Store
from fundamentallm_tui.theme import CALM, THEMES
from fundamentallm_tui.throttle import RedrawThrottle

HELP_TITLE = "Help"
NEED_A_RUN = ("report", "export_model")  # that the screen is about
TYPING_SECONDS = 5.0  # after a key in a text field, during which only the end of a run is announced
KEY_TIMEOUT = 0.5  # seconds to wait for a key whose widget went away before it was done
EXIT_TIMEOUT = 1.5  # seconds for Textual to restore the terminal after a signal

# Textual takes escape and a digit in quick succession for a character, such as "™", that would land in a text field.
# It has no public way to change that. Without these it reports alt and the digit, which `on_event` takes apart.
for digit in "0123456789":
    cast(dict[str, Any], ANSI_SEQUENCES_KEYS).pop(f"\x1b{digit}", None)


def _without_lines(move: Callable[[OptionList], None]) -> Callable[[OptionList], None]:
    """Do nothing where Textual raises a KeyError: in a list that has items, and none of their lines yet."""

    def moved(options: OptionList) -> None:
        with suppress(KeyError):
            move(options)

    return moved


for name in ("action_page_up", "action_page_down"):
    setattr(OptionList, name, _without_lines(getattr(OptionList, name)))


class Acted(Message):
    """Follows a key from what has the focus up to the app, and then what the key had sent there, such as a submission.

    When it arrives there for the second time, the key has acted.
    """


class Console(App[int]):
    """`fllm-tui`."""

    TITLE = "fllm-tui"
    CSS_PATH = "app.tcss"
    BINDINGS = keys.bindings(keys.MAIN, of_app=True)

    def __init__(self, options: Options, start: Starter = WorkerRun, sample: SamplerStarter = SamplerRun) -> None:
        """Tests start runs and samplers of their own."""
        super().__init__()
        self.animation_level = "none"
        for theme in THEMES:
            self.register_theme(theme)
        for name in self.available_themes.keys() - {theme.name for theme in THEMES}:
            self.unregister_theme(name)  # in most of Textual's own, faint text is hard to read
        preferences, problem = load()
        self.theme = preferences.theme if preferences.theme in self.available_themes else CALM.name
        keymap, wrong_keys = load_keymap()
        self._problems = [*filter(None, (problem, wrong_keys))]
        self.set_keymap(keymap)
        keys.use(keymap)
        self._options = options
        self.error: Exception | None = None  # the fault of the program that ended the console
        self.leaves = False  # the run to itself, after the console has quit
        self.main = MainScreen(options, start, sample, preferences)
        self._notices = notices.Notices(self.main.store)
        self._typed: deque[Key | Paste] = deque()  # that wait for the key before them
        self._acting, self._acting_until = Acted(), 0.0  # what follows the newest key, and how long it is waited for
        self._acting_on: Widget | None = None  # what had the focus, until it has followed once
        self._window_title = ""  # the terminal's; empty: it has still its own

    def get_default_screen(self) -> Screen[Any]:
        return self.main

    def on_mount(self) -> None:
        self._handle_signals()
        self.theme_changed_signal.subscribe(self, self._theme_changed)
        if self._options.attach is not None:
            self.call_after_refresh(self.main.open_run, self._options.attach, speed=self._options.speed)
        elif self._options.list_runs:
            self.call_after_refresh(self.main.action_runs)
        elif self._options.start:
            self.call_after_refresh(self.main.action_start)
        for problem in self._problems:  # last: opening a run empties the log
            self.call_after_refresh(self.main.log_line, problem, "warn")

    def _handle_signals(self) -> None:
        """Exit on SIGTERM and SIGHUP; give the terminal back after SIGSTOP, before Textual takes it again.

        SIGSTOP itself cannot be caught, only the SIGCONT after it, and Textual gives the terminal back for ctrl+z
        alone: without this, two threads would read the keyboard, and no key would quit. Textual's handlers are called
        from the event loop, because they wait for a queue that may be locked by the code that a signal interrupts.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._exit_by_signal, number)
        suspend, resume = signal.getsignal(signal.SIGTSTP), signal.getsignal(signal.SIGCONT)
        if not (callable(suspend) and callable(resume)):
            return  # Textual has no terminal
        suspended = False

        def on_suspend() -> None:
            nonlocal suspended
            suspended = True
            suspend(signal.SIGTSTP, None)

        def on_continue() -> None:
            nonlocal suspended
            if not suspended and self._driver is not None:
                self._driver.suspend_application_mode()
            suspended = False
            resume(signal.SIGCONT, None)
            self.refresh(layout=True)

        loop.add_signal_handler(signal.SIGTSTP, on_suspend)
        loop.add_signal_handler(signal.SIGCONT, on_continue)

    def _exit_by_signal(self, number: int) -> None:
        """Restore the terminal and exit; an active run continues."""
        # Textual can wait for ever on a terminal that is gone.
        timer = threading.Timer(EXIT_TIMEOUT, os._exit, (128 + number,))
        timer.daemon = True
        timer.start()
        self.exit(return_code=128 + number)

    def _theme_changed(self, _theme: object) -> None:
        if self.theme is not None:
            remember(theme=self.theme)
        for widget in self.main.query("*"):
            widget.refresh()

    async def on_event(self, event: Event) -> None:
        """Note each key and click, as drawing may cost more while the user is active; a key waits, see `_deliver`."""
        if isinstance(event, InputEvent):
            RedrawThrottle.last_input = time.monotonic()
        if isinstance(event, Key | Paste) and not event.is_forwarded:
            self._typed.append(event)
            await self._deliver()
        else:
            await super().on_event(event)

    @on(Acted)
    async def _deliver(self, acted: Acted | None = None) -> None:
        """Hand on the next key once the one before has acted: what that opened gets it, not the screen below."""
        if acted is self._acting:  # not that of an earlier key, which took too long
            target, self._acting_on, self._acting = self._acting_on, None, Acted()
            if target is not None and target.post_message(self._acting):
                return
            self._acting_until = 0.0
        if not self._typed or not self.screen_stack:
            return
        if (left := self._acting_until - time.monotonic()) > 0:
            self.set_timer(left, self._deliver)  # should no `Acted` come
            return
        while not self.screen.is_mounted:  # before, nothing in it has the focus
            await asyncio.sleep(0.001)
        event = self._typed.popleft()
        if isinstance(event, Key) and event.key.startswith("alt+") and event.is_printable:
            event = await self._after_escape(event)
        target, self._acting_until = self.focused or self.screen, time.monotonic() + KEY_TIMEOUT
        self._acting, self._acting_on = Acted(), target
        await super().on_event(event)
        target.post_message(self._acting)

    async def _after_escape(self, event: Key) -> Key:
        """Take alt and a key for what it mostly is: escape, and the key before the terminal could separate them."""
        if takes_text(self.focused) and not isinstance(self.screen, ModalScreen):
            await self.run_action("screen.blur")
        return Key(event.character or "", event.character)

    def _handle_exception(self, error: Exception) -> None:
        """Keep the fault for the lines after the console, and restore the terminal; Textual would print a traceback."""
        if self.error is not None or self.is_headless:  # the tests want to see it
            return super()._handle_exception(error)
        self.error, self._return_code = error, 1
        self.panic()

    def on_notify(self, event: Notify) -> None:
        """Show a message that is shown already anew, not twice."""
        new = event.notification
        for shown in [*self._notifications]:
            if (shown.title, shown.message) == (new.title, new.message):
                self._unnotify(shown, refresh=False)

    @on(EventsReceived)
    @on(RunDisconnected)
    def _show_notices(self) -> None:
        """Show what has happened; so do the title and, behind other windows, a notification."""
        if not self.screen_stack:
            return  # events came while the console closes
        typing = takes_text(self.focused) and time.monotonic() - RedrawThrottle.last_input < TYPING_SECONDS
        for notice in self._notices.take(typing=typing):
            self.notify(notice.text, title=notice.title, severity=notice.severity, markup=False)
            if not self.app_focus:
                self._write(notices.desktop_notification(notice))
        title = notices.window_title(self.main.store)
        if title and title != self._window_title:
            self._write(("" if self._window_title else notices.PUSH_TITLE) + notices.SET_TITLE.format(title))
            self._window_title = title

    def on_unmount(self) -> None:
        if self._window_title:
            self._write(notices.POP_TITLE)

    def _write(self, sequence: str) -> None:
        if self._driver is not None and os.environ.get("TERM", "") not in notices.PRINTS:
            self._driver.write(sequence)

    @on(ThreadFailed)
    def _thread_failed(self, message: ThreadFailed) -> None:
        raise message.error

    def action_help(self) -> None:
        if isinstance(self.screen, TextDialog) and self.screen.title == HELP_TITLE:
            self.screen.dismiss()
        else:
            self.push_screen(TextDialog(HELP_TITLE, partial(help_text, self.screen)))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """A dialog leaves only its own keys active, and those for help and quitting."""
        if action in NEED_A_RUN:
            return _shows_run(self.screen) or None
        return not (action == "command_palette" and isinstance(self.screen, ModalScreen))

    def action_report(self) -> None:
        """Write a report of the run that the screen is about, in a process: reading a long journal takes seconds."""
        if (folder := getattr(self.screen, "run_folder", None)) is not None:
            self._run_command("The report is in", "runs", "report", "--", str(folder))

    def action_export_model(self) -> None:
        """Export the model of the run that the screen is about, its best.pt, in a process: this one has no torch."""
        if (folder := getattr(self.screen, "run_folder", None)) is not None:
            self._run_command("The model is in", "export", "--", str(folder), f"{named(folder)}-hf")

    def _run_command(self, where: str, *words: str) -> None:
        """Run a command that prints the path of what it wrote, and tell `where` that is, or what is wrong."""
        command = [sys.executable, "-m", "fundamentallm", *words]

        def tell(done: subprocess.CompletedProcess[str]) -> None:
            text = clean(f"{where} {done.stdout.strip()}" if done.returncode == 0 else done.stderr.strip())
            self.notify(text, severity="error" if done.returncode else "information", markup=False)

        run = partial(subprocess.run, command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        in_thread(self, run, tell)

    async def action_quit(self) -> None:
        store = self.main.store
        if not store.under_way or store.replayed:
            self.exit(return_code=0)
        elif self.screen.id != "quit":
            left = f"Leave it; {IF_PAUSED}" if store.paused else "Leave it running; fllm-tui attach shows it again"
            stopped = "Stop and save it, then quit"
            if store.stopping:
                left, stopped = "Leave it; it saves and ends by itself", "Quit as soon as it is saved"
            leave = Answer("l", left, partial(self._quit, leave=True))
            stop = Answer("s", stopped, partial(self._quit, leave=False))
            about = f"The run is {store.status()}. What should happen to it?"
            question = Question("Quit", about, leave, stop, CANCEL)
            question.id = "quit"
            self.push_screen(question)

    def _quit(self, *, leave: bool) -> None:
        """Quit when the run is left to itself, or has stopped."""
        main, quit = self.main, partial(self.exit, return_code=0)
        self.leaves = leave
        if not main.store.under_way or (leave and main.reader is not None):
            quit()
        elif leave:  # its process is just being started
            main.then(STARTED, quit)
        else:
            main.then(ENDED, quit)
            if not main.store.stopping:
                main.action_stop()

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """List for the palette what the user can do now; on the list of runs, nothing with the run behind it."""
        for command in keys.MAIN:
            name, _, _ = command.action.partition("(")
            if name.startswith("app."):
                possible: object = name.removeprefix("app.") not in NEED_A_RUN or _shows_run(screen)
            else:
                possible = screen is self.main and screen.check_action(name, ())
            if command.title and possible:
                action = partial(self.run_action, command.action, self.main)
                key = f" ({keys.named(command.id or command.action)})" if command.key else ""
                yield SystemCommand(command.title, keys.spell(command.help) + key, action)


def _shows_run(screen: Screen[Any]) -> bool:
    """Whether a screen is about a run that has begun."""
    folder: Path | None = getattr(screen, "run_folder", None)
    return folder is not None and holds_run(folder)


def describe_outcome(store: Store, *, lost: bool = False) -> str:
    """Return what becomes of the run that is shown, now that the console is gone; empty where there is none.

    `lost`: the user did not leave it.
    """
    if store.folder is None or store.replayed:
        return ""
    folder = quoted_path(store.folder)
    if not store.under_way:
        return f"The run is {store.phase}; fllm-tui {folder} shows it again."
    if not store.loaded:
        return (
            f"The run was being started; fllm-tui {folder} shows it, or fundamentallm runs list whether there is one."
        )
    if store.paused:
        return f"The run is paused, and ends saved if this console paused it; fllm-tui {folder} shows it again."
    ends = lost and not store.attached and store.config is not None and store.config.on_console_loss == "stop"
    if store.stopping or ends:
        return f"The run saves and ends; fllm-tui {folder} shows it again."
    return f"The run continues; fllm-tui attach {folder} shows it again."


def record_fault(error: Exception) -> str:
    """Write the traceback of a fault of the program into a file; return the fault in a line that names the file."""
    line = describe_fault(error)
    path = user_folder(user_log_path) / f"console-{time.strftime('%Y%m%d-%H%M%S')}.log"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(traceback.format_exception(error)), encoding="utf-8", errors="backslashreplace")
    except OSError as unwritten:
        return f"{line} (its traceback could not be written to {path}: {describe_error(unwritten)})"
    return f"{line} (its traceback is in {path})"
