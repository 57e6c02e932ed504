"""The library of runs: a screen that lists them and ends with what shall be done with one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen, Screen
from textual.widgets import Input, Static

from fundamentallm.config.format import format_loss, format_parameters, format_time, format_value
from fundamentallm.errors import UserError
from fundamentallm.run.folder import delete_run
from fundamentallm.run.history import RunSummary, changed_from_defaults
from fundamentallm_tui import keys
from fundamentallm_tui.format import clean, clip, fit, wrap
from fundamentallm_tui.screens.dialogs import delete_question
from fundamentallm_tui.screens.run_list import RunList
from fundamentallm_tui.screens.run_table import LIVE, ORDERS, RESUMABLE, all_runs, arrange, differences, spark_of

AGAIN = 3.0  # seconds after which the runs are looked at again


@dataclass(frozen=True)
class Wanted:
    """What a person chose: `act` is open, resume or removed."""

    act: str
    folder: Path


class Runs(Screen[Wanted]):
    """Every run of this place."""

    BINDINGS = [
        *keys.run_bindings(),
        Binding("escape", "back", "Close", id="run.back"),
        Binding("ctrl+o,o", "dismiss", "Close", id="run.close"),
    ]
    AUTO_FOCUS = "#list"

    def __init__(self, current: Path | None) -> None:
        super().__init__()
        self._current = current
        self._runs: list[RunSummary] = []
        self._order = ORDERS[0]
        self._looked = False
        self.list = RunList(id="list")

    def compose(self) -> ComposeResult:
        with Horizontal(id="search"):
            yield Static(id="told")
            yield Input(placeholder="/ filters", compact=True, id="filter")
        yield Static(id="heads")
        yield self.list
        yield Static(id="details")
        yield Static(id="does")

    def on_mount(self) -> None:
        self.query_one("#does", Static).auto_links = False  # the colours here are our own
        self._look()
        self.set_interval(AGAIN, self._look)
        self._arrange()

    def on_resize(self) -> None:
        self.call_after_refresh(self._arrange)

    @work(thread=True, exclusive=True)
    def _look(self) -> None:
        """Read how the runs stand, then their curves; journals may be long, so not on the screen's thread."""
        runs = all_runs(self._current)
        self.app.call_from_thread(self._found, runs)
        for run in runs:
            spark_of(run.folder)
            if not self.is_attached:
                return
            self.app.call_from_thread(self.list.refresh)

    def _found(self, runs: list[RunSummary]) -> None:
        if self.is_attached:
            self._runs, self._looked = runs, True
            self._arrange()

    def _arrange(self) -> None:
        self.list.show(arrange(self._runs, self.query_one("#filter", Input).value, self._order))
        live = sum(run.state in LIVE for run in self._runs)
        told = f"{len(self._runs)} run{'s' if len(self._runs) != 1 else ''}, {live} under way, {self._order} first"
        if not self._looked:
            told = "looking for runs"
        elif self._order == "best loss":
            told = told.removesuffix(" first")
        self.query_one("#told", Static).update(Content.assemble((" Runs  ", "bold"), (told, "$foreground 60%")))
        self.query_one("#heads", Static).update(Content.styled(self.list.head(), "$foreground 50%"))
        self._describe()

    @on(RunList.Moved)
    def _describe(self) -> None:
        run = self.list.current
        width = max(20, self.size.width - 2)
        rows: list[Content] = []
        if run is None:
            words = (
                "" if not self._looked else "No run fits the filter." if self._runs else "There are no runs here yet."
            )
            rows.append(Content.styled(words, "$foreground 60%"))
        else:
            val = f", best val {format_loss(run.best.val_loss)} in epoch {run.best.epoch}" if run.best else ""
            what = (
                f"{run.folder}  {format_parameters(run.parameters)} params, epoch {run.epoch}/{run.epochs}{val}, began"
            )
            rows += map(Content, _two(f"{what} {format_time(run.started)}", width))
            settings = changed_from_defaults(run.config)
            rest = ", ".join(f"{k} {format_value(v)}" for k, v in settings.items() if k not in ("data", "output_dir"))
            rest = f"{run.data}: {rest}" if run.data else rest
            rows += (
                Content.styled(row, "$foreground 60%") for row in _two(rest or "all settings as by default", width)
            )
            why = {"interrupted": "Its process is gone; r goes on from its last checkpoint."}.get(run.state, run.why)
            rows.append(Content.styled(clip(clean(why), width), "$text-warning"))
        self.query_one("#details", Static).update(Content("\n").join(rows))
        self._show_keys()

    def _show_keys(self) -> None:
        """The footer: what cannot be done with this run is dim."""
        items = []
        for key in keys.RUN_KEYS:
            name = keys.written(key.key)
            if self.check_action(key.action, ()):
                items.append(f"[@click=screen.{key.action}][b $text-accent]{name}[/] {key.label}[/]")
            else:
                items.append(f"[$foreground 35%]{name} {key.label}[/]")
        items.append("[@click=screen.back][b $text-accent]escape[/] close[/]")
        line = Content.from_markup(" " + "  ".join(items))
        if line.cell_length > self.size.width:
            line = Content.from_markup(" " + " ".join(items))
        self.query_one("#does", Static).update(line)

    # What can be done

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        run = self.list.current
        can = {
            "open": run is not None,
            "mark": run is not None,
            "resume": run is not None and run.state in RESUMABLE,
            "delete": run is not None and run.state not in LIVE,
            "compare": len(self._marked()) == 2,
        }
        return can.get(action, True) or None

    def _marked(self) -> list[RunSummary]:
        return [run for run in self._runs if run.folder in self.list.marked]

    def action_open(self) -> None:
        if (run := self.list.current) is not None:
            self.dismiss(Wanted("open", run.folder))

    on_run_list_opened = action_open

    def action_resume(self) -> None:
        if (run := self.list.current) is not None:
            self.dismiss(Wanted("resume", run.folder))

    def action_mark(self) -> None:
        self.list.mark()
        self._show_keys()

    def action_sort(self) -> None:
        self._order = ORDERS[(ORDERS.index(self._order) + 1) % len(ORDERS)]
        self._arrange()

    def action_filter(self) -> None:
        self.query_one("#filter", Input).focus()

    def action_back(self) -> None:
        """Leave the filter, then the library."""
        if self.query_one("#filter", Input).has_focus:
            self.list.focus()
        else:
            self.dismiss()

    @on(Input.Changed, "#filter")
    def _filtered(self) -> None:
        self._arrange()

    @on(Input.Submitted, "#filter")
    def _filter_done(self) -> None:
        self.list.focus()

    def action_compare(self) -> None:
        left, right = self._marked()
        self.app.push_screen(Compare(left, right))

    def action_delete(self) -> None:
        if (run := self.list.current) is not None:
            folder = run.folder

            def answered(answer: str | None) -> None:
                if answer == "delete":
                    self._delete(folder)

            self.app.push_screen(delete_question(clean(str(folder))), answered)

    def _delete(self, folder: Path) -> None:
        try:
            left = delete_run(folder)
        except UserError as error:
            self.notify(clean(str(error)), severity="error", markup=False)
            return
        if left:
            self.notify(f"Kept, as no run wrote it: {clean(', '.join(left))}", markup=False)
        self._runs = [run for run in self._runs if run.folder != folder]
        self._arrange()
        if self._current is not None and folder.resolve() == self._current.resolve():
            self.dismiss(Wanted("removed", folder))


class Compare(ModalScreen[None]):
    """Two runs side by side: the settings in which they differ."""

    BINDINGS = [Binding("escape,enter,c,q", "dismiss", "Close")]

    def __init__(self, left: RunSummary, right: RunSummary) -> None:
        super().__init__()
        self._pair = left, right

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="dialog") as box:
            box.border_title = "Compare"
            box.border_subtitle = "escape closes"
            yield Static(self._text())

    def _text(self) -> Content:
        rows = [("", *(clean(str(run.folder)) for run in self._pair))]
        settings = differences(*self._pair)
        rows += settings
        for name, get in (
            ("steps", lambda run: f"{run.steps:,}"),
            ("best val", _best),
            ("state", lambda run: run.state),
        ):
            rows.append((name, *(get(run) for run in self._pair)))
        pieces: list[Any] = []
        for n, (name, left, right) in enumerate(rows):
            style = "bold" if n == 0 else ""
            pieces += [
                (fit(name, 20), "$foreground 60%"),
                (fit(left, 28) + " ", style),
                (f"{clip(right, 28)}\n", style),
            ]
            if n == len(settings):
                pieces.append("\n" if settings else "All settings are the same.\n\n")
        return Content.assemble(*pieces)


def _best(run: RunSummary) -> str:
    return format_loss(run.best.val_loss if run.best else None)


def _two(text: str, width: int) -> list[str]:
    """A stranger's text in one row or two."""
    first, *more = wrap(clean(text[: 4 * width]), width)
    return [first, clip(" ".join(more), width)] if more else [first]
