"""What happens while the user looks elsewhere is announced once, at the right moment; never of the past or a replay."""

import time
from typing import Any

import pytest
from textual.events import AppBlur, AppFocus

from fundamentallm.config.config import Config
from fundamentallm.run.events import Event, Failed, Phase
from fundamentallm.run.health import BAD, GOOD, Verdict
from fundamentallm.run.spec import RunSpec
from fundamentallm_tui.state import notices
from fundamentallm_tui.state.notices import Notice, Notices, desktop_notification, window_title
from fundamentallm_tui.state.store import Store
from tests.events import OVERFITTING, epochs, evaluated
from tests.tui.others import alive


class Announced:
    """A store, and what is announced of it."""

    def __init__(self, workshop: Any) -> None:
        self.workshop, self.store, self.clock = workshop, Store(), 1000.0
        self.notices = Notices(self.store)

    def begin(self) -> None:
        folder = self.workshop.folder / "runs" / "prose"
        self.store.begin(folder, "tiny", Config(), resumes=False)
        self.say(self.workshop.started(RunSpec(Config(), folder)), Phase(step=0, phase="training"))

    def say(self, *events: Event, typing: bool = False) -> list[Notice]:
        self.store.apply(list(events))
        return self.notices.take(typing=typing)

    def best(self, step: int, loss: float, **flags: Any) -> list[Notice]:
        return self.say(evaluated(step, loss), self.workshop.saved(step, "best.pt", "best"), **flags)


@pytest.fixture
def announced(workshop: Any, monkeypatch: pytest.MonkeyPatch) -> Announced:
    announced = Announced(workshop)
    monkeypatch.setattr(time, "monotonic", lambda: announced.clock)
    announced.begin()
    return announced


def test_a_new_best_is_announced_every_half_minute_and_not_while_the_user_types(announced: Announced) -> None:
    assert announced.best(10, 3.0) == []  # the first
    assert announced.best(20, 2.5) == [Notice("New best", "prose: validation loss 2.500")]
    announced.clock += 29
    assert announced.best(30, 2.0) == announced.say(evaluated(35, 2.2)) == []
    announced.clock += 31
    assert announced.best(40, 1.9, typing=True) == announced.say() == []
    assert announced.best(50, 1.8) == [Notice("New best", "prose: validation loss 1.800")]


@pytest.mark.parametrize(
    ("last", "notice"),
    [
        (Failed(step=3, error="out of\nmemory"), Notice("Failed", "prose: out of memory", "error")),
        ("completed", Notice("Finished", "prose: best validation loss 3.000")),
        ("stopped", None),
        ("killed", Notice("Interrupted", "prose: its process is gone", "warning")),
    ],
)
def test_the_end_of_a_run_is_announced_also_while_the_user_types(
    announced: Announced, last: Any, notice: Notice | None
) -> None:
    announced.best(2, 3.0)
    if last == "killed":
        announced.store.disconnected("killed by SIGKILL", [])
    events = [last] if isinstance(last, Failed) else [] if last == "killed" else [announced.workshop.finished(3, last)]
    assert announced.say(*events, typing=True) == ([notice] if notice else [])
    assert announced.say() == []


def test_a_verdict_is_announced_when_it_changes_and_not_again_and_again(
    announced: Announced, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = Verdict("overfitting", BAD, "overfitting", "validation rose by 0.2", "…")
    good = Verdict("healthy", GOOD, "healthy", "the gap is 6 %", "…")
    expected = [
        (good, []), (bad, ["Overfitting"]), (bad, []), (good, ["Healthy"]), (bad, []), (good, []),
    ]  # fmt: skip
    for verdict, titles in expected:
        monkeypatch.setattr(notices, "assess_run", lambda history, verdict=verdict: verdict)
        announced.clock += 11
        assert [notice.title for notice in announced.say()] == titles
    announced.clock += 400
    monkeypatch.setattr(notices, "assess_run", lambda history: bad)
    assert announced.say(typing=True) == []
    assert announced.say() == [Notice("Overfitting", "prose: validation rose by 0.2", "warning")]


async def test_a_real_verdict_and_a_failure_are_shown_with_their_numbers(
    workshop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "VERDICT_INTERVAL", 0.0)
    async with workshop.training((200, 60), toasts=True) as (seen, run):
        *before, last = epochs(OVERFITTING)
        run.say(*before)
        await seen.until(lambda: seen.main.store.step == 240)
        run.say(last)

        def toast(title: str) -> str:
            return next((found.message for found in seen.app._notifications if found.title == title), "")

        await seen.until(lambda: toast("Overfitting"))
        numbers = "since epoch 2 the validation loss rose from 1.800 to 2.100 while the training loss fell to 1.000"
        assert toast("Overfitting").startswith(f"{run.folder.name}: {numbers}")
        run.say(Failed(step=330, error="out of memory", advice="--batch-size 8"))
        await seen.until(lambda: toast("Failed"))
        assert toast("Failed") == f"{run.folder.name}: out of memory"
        await seen.see("Failed")


async def test_of_an_attached_run_what_happens_from_now_on_is_announced_and_not_its_past(
    workshop: Any, make: Any
) -> None:
    folder = make("old", *(event for n in (10, 20) for event in (evaluated(n, 40.0 - n),)))
    async with workshop.console(toasts=True) as seen:
        with alive(folder) as journal:
            seen.main.open_run(folder)
            await seen.until(lambda: seen.main.store.history.best)
            assert not seen.app._notifications
            journal.append(evaluated(30, 1.0))
            journal.append(workshop.saved(30, "best.pt", "best"))
            await seen.see("old: validation loss 1.000")
        await seen.see("old: its process is gone")


async def test_a_replay_tells_nothing(workshop: Any, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    folder = make("old", evaluated(10, 3.0), evaluated(20, 2.0), workshop.finished(40))
    async with workshop.console(toasts=True) as seen:
        written = written_by(seen, monkeypatch)
        seen.app.post_message(AppBlur())
        seen.main.open_run(folder, speed=1000.0)
        await seen.status_is("FINISHED")
        assert not seen.app._notifications and not written


@pytest.mark.parametrize("term", ["xterm-256color", "tmux-256color", "screen"])
async def test_a_terminal_that_is_not_in_front_gets_a_notification_and_a_title(
    workshop: Any, monkeypatch: pytest.MonkeyPatch, term: str
) -> None:
    monkeypatch.setenv("TERM", term)
    monkeypatch.delenv("VTE_VERSION", raising=False)
    async with workshop.console(toasts=True) as seen:
        written = written_by(seen, monkeypatch)
        run = await seen.started()
        run.say(workshop.progress(1, 200), evaluated(200, 2.5), workshop.saved(200, "best.pt", "best"))
        await seen.until(lambda: "val 2.500" in "".join(written))
        assert written[0].startswith("\x1b[22;0t\x1b]2;")
        assert written[-1] == f"\x1b]2;TRAINING 50% val 2.500 · {run.folder.name}\x1b\\"
        seen.app.post_message(AppFocus())
        run.say(evaluated(210, 2.4), workshop.saved(210, "best.pt", "best"))
        await seen.see("New best")
        assert not any(text.startswith("\x1b]9") for text in written), "the user sees the toast"
        seen.app.post_message(AppBlur())
        run.finish(400)
        await seen.see("Finished")
        assert f"\x1b]9;Finished: {run.folder.name}: best validation loss 2.400\x1b\\" in written
    assert written[-1] == "\x1b[23;0t"


def test_what_a_folder_is_called_cannot_steer_the_terminal(
    announced: Announced, monkeypatch: pytest.MonkeyPatch
) -> None:
    announced.store.folder = announced.workshop.folder / "a\x1b]0;b\x07;c"
    assert "\x1b" not in window_title(announced.store) and "\x07" not in window_title(announced.store)
    (notice,) = announced.say(announced.workshop.finished(3))
    monkeypatch.setenv("TERM", "foot")
    assert desktop_notification(notice) == "\x1b]777;notify;Finished;a·]0,b·,c: best validation loss –\x1b\\"


@pytest.mark.parametrize("term", ["dumb", "linux", ""])
async def test_a_plain_terminal_gets_no_sequences(workshop: Any, monkeypatch: pytest.MonkeyPatch, term: str) -> None:
    monkeypatch.setenv("TERM", term)
    async with workshop.console(toasts=True) as seen:
        written = written_by(seen, monkeypatch)
        seen.app.post_message(AppBlur())
        (await seen.started()).finish(400)
        await seen.see("Finished")
    assert not written


def written_by(seen: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the console writes to the terminal beside the screen."""
    written: list[str] = []
    monkeypatch.setattr(seen.app._driver, "write", written.append)
    return written
