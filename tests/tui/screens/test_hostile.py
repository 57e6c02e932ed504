"""Runs of someone else: nothing in a journal, a folder or a setting controls the console or stops it."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.style import Style

from fundamentallm.config.config import Config
from fundamentallm.config.format import format_clock, format_time, wrap
from fundamentallm.errors import UserError
from fundamentallm.run import events
from fundamentallm.run.events import JOURNAL, CheckpointSaved, Failed, Notice, Phase
from fundamentallm.run.journal import journal_reader
from fundamentallm.run.notes import delete_run
from fundamentallm.run.spec import RunSpec
from fundamentallm.run.summary import differing_settings, summarize, why_incomparable
from fundamentallm_tui.charts import chart
from fundamentallm_tui.charts.chart import Chart, Line
from fundamentallm_tui.format import clean
from fundamentallm_tui.panes.status import layout
from fundamentallm_tui.screens.run_table import arrange, sparkline
from fundamentallm_tui.state.event_log import MAX_EVENT_LINES, MAX_LINE_CHARS
from fundamentallm_tui.state.launch import attached_config, resumable_checkpoint
from fundamentallm_tui.state.replay import Replay
from fundamentallm_tui.state.store import Store
from tests.hostile import lines
from tests.tui.fakes import progress, started

EVIL = "\x1b]52;c;AAAA\x07\x1b[2J\x9b31m\u202e\u2066\u200b\u2028\u2060\ufeff\r\x00\U000e0041[@click=app.quit]漢字[/]"
STEERS = set(EVIL) - set("]52;c;AAAA[2J31m[@click=app.quit]漢字[/]")
SPEC = RunSpec(Config(("a.txt",)), Path("run"))


def write(folder: Path, found: list[bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / JOURNAL).write_bytes(b"".join(line + b"\n" for line in found))
    return folder


def encoded(*said: events.Event) -> list[bytes]:
    return [events.encode(event).encode() for event in said]


@given(found=st.lists(lines(), max_size=12))
def test_any_journal_can_be_attached_to_drawn_listed_and_played_back(
    found: list[bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = write(tmp_path_factory.mktemp("run"), [*encoded(started(SPEC)), *found])
    store = Store()
    store.attach(folder, "")
    said = journal_reader(folder).read()
    for batch in (said[:3], said[3:]):
        store.apply(batch)
        for width in (40, 120):
            assert sum(len(text) for text, _ in layout(store, width))
    lines = store.take_lines()
    assert all(not STEERS & set(line.text) and format_clock(line.time) and wrap(line.text, 60) for line in lines)

    curves = [Line(*series.reduced(100)) for series in (store.train, store.val, store.rate)]
    for log in (False, True):
        chart.draw(Chart(curves, log=log), 60, 12, lambda *_: Style())
    summary = summarize(folder)
    assert sparkline(summary.val_losses, 20) is not None and format_time(summary.started)
    assert arrange([summary, summary], "a", "best loss") is not None and not why_incomparable(summary, summary)
    assert differing_settings([summary.config, summary.config]) == []
    attached_config(store)
    target = resumable_checkpoint(store)
    assert target is None or target.resolve().is_relative_to(folder.resolve())
    replay = Replay(folder, 1e15)
    played: list[events.Event] = []
    while replay.alive:
        played += [event for event in replay.events(0.001)]
    assert played == said or said != said  # nan is not itself
    store.disconnected("", ["\x1b" * 9])


@pytest.mark.parametrize(
    "path", ["../outside.pt", "{out}", "sub/../../outside.pt", "..", "", "\0", "x" * 9000], ids=range(7)
)
def test_what_a_journal_calls_its_checkpoint_leads_nowhere_else(path: str, tmp_path: Path) -> None:
    outside = tmp_path / "outside.pt"
    outside.touch()
    folder = write(tmp_path / "run", [])
    store = Store()
    store.attach(folder, "")
    name = path.format(out=outside)
    store.apply([started(SPEC), CheckpointSaved(step=1, path=name, kind="hand", bytes=1, seconds=0.0)])
    store.apply([Failed(step=1, error="x", saved=name)])
    assert resumable_checkpoint(store) is None
    (folder / "last.pt").touch()
    assert resumable_checkpoint(store) == folder / "last.pt"


def test_texts_without_end_become_few_short_lines() -> None:
    store = Store()
    store.apply([Notice(step=1, level="info", text="word " * 10**6), Notice(step=1, level="info", text="a\n" * 10**6)])
    store.apply([events.Intervention(step=1, setting="x" * 10**6, old="y" * 10**6, new=None, who="z" * 10**6)])
    lines = store.take_lines()
    assert len(lines) <= 2 + MAX_EVENT_LINES and max(len(line.text) for line in lines) <= 4 * MAX_LINE_CHARS
    store.apply([events.Sampled(step=1, id="", prompt="", text="x" * 10**6)])
    assert store.sample.text == ""


def test_losses_that_are_no_numbers_do_not_make_a_step_come_twice() -> None:
    store, nan = Store(), float("nan")
    gap = events.Evaluated(step=5, epoch=1, train_loss=nan, val_loss=nan, perplexity=nan, epoch_ended=True, best=False)
    store.apply([progress(1, 3), progress(1, 3)])
    broken = progress(4, 6)
    store.apply([events.Progress(**{**vars(broken), "train_loss": (nan,) * 3})])
    store.apply([broken, progress(5, 7), gap, gap])
    assert store.train.reduced(9)[0] == [1, 2, 3, 4, 5, 6, 7] and store.val.reduced(9)[0] == [5]


def test_deleting_a_run_follows_no_link_out_of_it(tmp_path: Path) -> None:
    for name in ("precious", "precious.pt", "precious.lock"):
        (tmp_path / name).write_text("mine")
    folder = write(tmp_path / "run", encoded(started(SPEC)))
    for name in ("last.pt", "best.pt", "config.yaml", "engine.log", "commands.jsonl", ".best.pt.1.tmp"):
        (folder / name).symlink_to(tmp_path / "precious")
    (folder / "wandb").symlink_to(tmp_path, target_is_directory=True)
    assert delete_run(folder) == ["wandb"]
    assert {path.name: path.read_text() for path in tmp_path.glob("precious*")} == {
        name: "mine" for name in ("precious", "precious.pt", "precious.lock")
    }
    write(folder, encoded(started(SPEC)))
    (folder / "lock").symlink_to(tmp_path / "precious.lock")
    with pytest.raises(UserError, match="cannot be opened"):
        delete_run(folder)
    assert (tmp_path / "precious.lock").read_text() == "mine" and (folder / JOURNAL).exists()
    other = write(tmp_path / "other", encoded(started(SPEC)))
    (tmp_path / "link").symlink_to(other, target_is_directory=True)
    with pytest.raises(UserError, match="is a link"):
        delete_run(tmp_path / "link")
    assert (other / JOURNAL).exists()


def test_what_steers_is_shown_as_dots_and_other_scripts_stay() -> None:
    assert not STEERS & set(clean(EVIL)) and not STEERS & set(clean(EVIL, newlines=True))
    assert clean("a\r\nb\x07") == "a· b·" and clean("é 漢 🙂\nb", newlines=True) == "é 漢 🙂\nb"
    assert clean("نص می‌خواهم שלום 👩‍👩‍👧 e\u0301") == "نص می‌خواهم שלום 👩‍👩‍👧 e\u0301"


async def test_an_attached_run_of_someone_else_steers_neither_screen_nor_console(workshop: Any) -> None:
    evil = EVIL.replace("\x00", "").replace("/", "")
    start = started(SPEC)
    values = {"data": [EVIL, EVIL], "project": EVIL, "wandb": True, "tensorboard": True, "log_dir": "/etc"}
    said = [
        replace(start, config=start.config | {**values, "device": EVIL}, resumed_from=f"{EVIL}/a/b"),
        progress(1, 3),
        Notice(step=3, level="error", text=EVIL),
        events.Intervention(step=3, setting=EVIL, old=EVIL, new=EVIL, who=EVIL),
        events.Answered(step=3, id=EVIL, command="set", ok=False, why=EVIL, who=EVIL),
        CheckpointSaved(step=3, path=EVIL, kind="hand", bytes=1, seconds=0.0), Phase(step=3, phase=EVIL),
        Failed(step=3, error=EVIL, advice=EVIL, saved=EVIL),
    ]  # fmt: skip
    folder = write(workshop.folder / "runs" / f"a{evil}", encoded(*said))
    (folder / "engine.log").write_bytes(EVIL.encode() * 99)
    os.mkfifo(write(workshop.folder / "runs" / "pipe", encoded(started(SPEC), progress(1, 3))) / "engine.log")
    async with workshop.console(size=(160, 46)) as seen:
        for name in (folder, workshop.folder / "runs" / "pipe"):
            seen.main.open_run(name)
            await seen.until(lambda: seen.main.store.loaded and not seen.main.store.under_way)
            await seen.pilot.pause(0.2)
            assert not STEERS & set(seen.screen)
        seen.main.open_run(folder)
        await seen.until(lambda: seen.main.store.step == 3 and seen.main.reader and not seen.main.reader.alive)
        await seen.pilot.pause(0.2)
        values = {name: cell.value for name, cell in seen.cells.items()}
        assert (values["wandb"], values["log_dir"], values["tensorboard"]) == ("off", "runs", "on")
        await seen.press("ctrl+o")
        await seen.until(lambda: "pipe" in seen.screen)
        for key in ("home", "space", "down", "space", "c"):
            await seen.press(key)
            assert not STEERS & set(seen.screen)
        await seen.press("escape", "home", "d")
        assert not STEERS & set(seen.screen) and seen.app.is_running
