"""The list of all runs: a screen that ends with what the user wants to do with one of them."""

from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from pathlib import Path

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Input, OptionList, Static

from fundamentallm.config.format import format_count, format_parameters, format_time, format_value
from fundamentallm.errors import UserError
from fundamentallm.run.describe import describe_best
from fundamentallm.run.history import RunHistory, read_history
from fundamentallm.run.notes import Notes, delete_run, parse_tags, rename_run, write_notes
from fundamentallm.run.summary import LIVE_STATES, RunSummary, changed_from_defaults, why_incomparable
from fundamentallm_tui import keys
from fundamentallm_tui.background import Newest, in_thread
from fundamentallm_tui.dialogs import CANCEL, Answer, Entry, Question, TextDialog
from fundamentallm_tui.format import clean, wrap_rows
from fundamentallm_tui.screens.base import Page
from fundamentallm_tui.screens.compare import comparison
from fundamentallm_tui.screens.run_table import ORDERS, RunChoice, RunList, all_runs, arrange, as_tree, check_order
from fundamentallm_tui.state.launch import BranchPoint, find_branch_point
from fundamentallm_tui.state.overlays import Overlays
from fundamentallm_tui.theme import FAINT

REFRESH_INTERVAL = 3.0  # seconds between two readings of the journals


class Runs(Page[RunChoice]):
    """Lists the runs of this folder, with details of the one under the cursor."""

    BINDINGS = [*keys.bindings(keys.RUNS), *keys.refusals(keys.RUNS, "resume", "compare", "rename", "delete")]
    AUTO_FOCUS = "#list"
    table = keys.RUNS

    def __init__(self, current: Path | None, overlays: Overlays) -> None:
        """`current` is the run that the console shows; those that are marked are its `overlays`."""
        super().__init__()
        self._current, self._overlays = current, overlays
        self._runs: list[RunSummary] | None = None  # None: not read yet
        self._order = "newest"
        self._problem = ""  # of the filter
        self._changed: RunChoice | None = None  # the run that the console shows was renamed or deleted
        self._reading, self._deleting, self._told = Newest(self), set[Path](), set[str]()
        self.list = RunList(self.action_open, id="list")
        self.filter = Input(placeholder=f"{keys.named('run.filter')} filters", compact=True, id="filter")
        self.columns, self.details = Static(id="columns"), Static(id="details")

    def compose(self) -> ComposeResult:
        with Horizontal(id="search"):
            yield self.head
            yield self.filter
        yield self.columns
        yield self.list
        yield self.details
        yield self.footer

    def on_mount(self) -> None:
        self._show_marks()
        self._read_runs()
        self.set_interval(REFRESH_INTERVAL, self._read_again)
        self.show()

    def _read_runs(self) -> None:
        """Read how the runs stand, in a thread: journals may be long."""
        current = self._current

        def read(_: object) -> tuple[list[RunSummary], list[str]]:
            unread: list[str] = []
            return all_runs(current, unread.append), unread

        self._reading.run(read, self._take_runs)

    def _read_again(self) -> None:
        if not self._reading.busy:  # or very many runs would never be shown
            self._read_runs()

    def _take_runs(self, found: tuple[list[RunSummary], list[str]]) -> None:
        runs, unread = found
        for text in unread:
            if text not in self._told:
                self.notify(clean(text), severity="warning", markup=False)
        self._told.update(unread)
        self._runs = [run for run in runs if run.folder not in self._deleting]
        self.show()

    @on(Input.Changed, "#filter")
    def show(self) -> None:
        runs, self._problem = self._runs or [], ""
        try:
            shown = arrange(runs, self.filter.value, self._order)
        except UserError as error:
            shown, self._problem = [], str(error)
        if self._order.removeprefix("-") in ("newest", "name"):
            depths, by_folder = as_tree(shown), {run.folder: run for run in shown}
            self.list.show([by_folder[folder] for folder in depths], depths)
        else:
            self.list.show(shown, {})
        if self._runs is None:
            summary = "looking for runs"
        else:
            live = sum(run.state in LIVE_STATES for run in runs)
            order = f"{self._order} first" if self._order == "newest" else f"by {self._order}"
            whole = format_count(len(runs), "run")
            found = f"{len(shown)} of {whole}" if self.filter.value.strip() else whole
            # padded, so that the filter stays in its place
            summary = f"{found}, {live} under way, {order}{' ' * (len(f'{len(runs)} of {whole}') - len(found))}"
        self.show_head("Runs", summary)
        self.columns.update(Content.styled(self.list.head(), FAINT))
        self._show_details()

    @on(OptionList.OptionHighlighted)
    def _show_details(self) -> None:
        run = self.list.current
        if run is not None:
            why = {why for other in self.list.runs for why in why_incomparable(run, other).split(", ") if why}
            details = _details(run, max(20, self.size.width - 2), why)
        elif self._runs is None:
            details = Content("")
        else:
            text = self._problem or ("No run fits the filter." if self._runs else "There are no runs here yet.")
            rows = wrap_rows(clean(text), max(20, self.size.width - 2), 2)
            details = Content.styled("\n".join(rows), "$text-error" if self._problem else FAINT)
        self.details.update(details)
        self._show_keys()

    @property
    def run_folder(self) -> Path | None:
        """The folder of the run under the cursor."""
        return self.list.current.folder if self.list.current is not None else None

    # What the keys do

    def possible(self) -> dict[str, object]:
        run = self.list.current
        state = run.state if run is not None else ""
        return {
            **dict.fromkeys(("open", "branch", "mark", "note", "tag"), bool(state)),
            "resume": run is not None and run.resumable,
            **dict.fromkeys(("delete", "rename"), bool(state) and state not in LIVE_STATES),
            "compare": len(self._marked()) > 1,
        }

    def action_refuse(self, action: str) -> None:
        """Say why a key does nothing."""
        run, live = self.list.current, "is under way: it can be renamed or deleted when it has ended."
        if action == "compare":
            self.notify(f"Mark two runs or more with {keys.named('run.mark')} to compare them.")
        elif run is not None:
            attach, branch = keys.named("run.open"), keys.named("run.branch")
            if action == "resume" and run.state in LIVE_STATES:
                live = f"is under way: {attach} attaches to it."
            why = live if run.state in LIVE_STATES else f"has finished: {branch} starts a new run from it."
            self.notify(f"{clean(run.folder.name)} {why}", markup=False)

    def _marked(self) -> list[RunSummary]:
        """In the order in which they were marked."""
        runs = {run.folder: run for run in self._runs or []}
        return [runs[folder] for folder in self._overlays.folders if folder in runs]

    @property
    def _run(self) -> RunSummary:
        """The run under the cursor; `possible` lets nothing happen without one."""
        assert self.list.current is not None
        return self.list.current

    def action_open(self) -> None:
        self.dismiss(RunChoice("open", self._run.folder))

    def action_resume(self) -> None:
        self.dismiss(RunChoice("resume", self._run.folder))

    def action_branch(self) -> None:
        """Ask for a step to branch at; that of the newest checkpoint is offered as soon as the journal is read."""
        run, lasting, read = self._run, self._run.state in LIVE_STATES, list[RunHistory]()
        why = ["its journal is still being read; press enter again in a moment"]

        def point(step: int | None) -> BranchPoint:
            if not read:
                raise UserError(why[-1])
            return find_branch_point(read[0], run.folder, step, lasting=lasting)

        def find(step: str) -> BranchPoint:
            if not step.strip().isdecimal():
                raise UserError("write a number of steps")
            return point(int(step))

        def offer(history: RunHistory) -> None:
            read.append(history)
            try:
                newest = point(None)
            except UserError as error:
                return entry.refuse(error)
            steps = sorted({saved.step for saved in history.checkpoints(run.folder, lasting=lasting)})
            last = "… " * (len(steps) > 6) + ", ".join(map(str, steps[-6:]))
            hint = f"It begins with the newest checkpoint of this step or before. Saved at step {last}."
            entry.offer(str(newest.step), hint)

        def refuse(error: Exception) -> None:
            why.append(str(error))
            entry.refuse(error)

        entry = Entry(f"Branch {clean(run.folder.name)} at step", "", "reading its journal …", find, self._branch_at)
        entry.id = "rewind"
        self.app.push_screen(entry)  # at once: the next key belongs to it
        in_thread(self, partial(read_history, run.folder, steps=False), offer, refuse)  # journals may be long

    def _branch_at(self, point: BranchPoint) -> None:
        self.dismiss(replace(self._changed or RunChoice("branch", point.folder), point=point))

    def action_mark(self) -> None:
        if (gone := self._overlays.toggle(self._run.folder)) is not None:
            self.notify(clean(f"Eight runs at most lie over the chart: {gone.name} no longer does."))
        self._show_marks()
        self._show_keys()

    def _show_marks(self) -> None:
        self.list.marks = self._overlays.marks
        self.list.draw(len(self.list.runs))

    def _show_keys(self) -> None:
        self.footer.labels = {"back": "leave" if self.filter.has_focus else "close"}
        self.refresh_bindings()

    on_descendant_focus = on_descendant_blur = _show_keys

    def action_compare(self) -> None:
        def compare() -> Content:
            return comparison(runs, self.app.size.width * 9 // 10 - 7)  # what the dialog's frame and scrollbar leave

        runs = self._marked()
        self.app.push_screen(TextDialog("Compare", compare, classes="-as-wide-as-text"))

    def action_sort(self) -> None:
        orders = [*ORDERS]
        self._sort_by(orders[(orders.index(self._order) + 1) % len(orders) if self._order in ORDERS else 0])

    def action_sort_by(self) -> None:
        hint = "A setting, or best, val_loss, train_loss, steps, epoch, parameters; - in front turns it round"
        self.app.push_screen(Entry("Sort by", "" if self._order in ORDERS else self._order, hint, self._sort_by))

    def _sort_by(self, order: str) -> None:
        order = order.strip() or next(iter(ORDERS))  # an empty box: as at first
        check_order(order)
        name = order.removeprefix("-")
        has_column = order in ORDERS or name in ("name", "last_event", "best", "steps")
        self._order, self.list.column = order, "" if has_column else name
        self.show()

    # What the user says about a run

    def action_rename(self) -> None:
        folder = self._run.folder
        self._ask(f"Rename {clean(folder.name)}", folder.name, "", partial(rename_run, folder))

    def action_note(self) -> None:
        run = self._run
        title = f"A note on {clean(run.folder.name)}"
        self._ask(title, run.note, "", lambda text: write_notes(run.folder, note=text.strip()))

    def action_tag(self) -> None:
        run, hint = self._run, "Words with spaces between them; tag:word in the filter finds them"
        title = f"The tags of {clean(run.folder.name)}"
        self._ask(title, " ".join(run.tags), hint, lambda text: write_notes(run.folder, tags=parse_tags(text)))

    def _ask(self, title: str, value: str, hint: str, change: Callable[[str], Path | Notes]) -> None:
        self.app.push_screen(Entry(title, value, hint, partial(self._change, self._run, change)))

    def _change(self, run: RunSummary, change: Callable[[str], Path | Notes], text: str) -> None:
        """Change what the user says about a run, and show it."""
        done = change(text)
        if isinstance(done, Path):
            if self._current is not None and run.folder.resolve() == self._current.resolve():
                self._current, self._changed = done, RunChoice("renamed", done)
            self._overlays.choose(done if folder == run.folder else folder for folder in self._overlays.folders)
            self._show_marks()
            changed = replace(run, folder=done)
        else:
            changed = replace(run, note=done.note, tags=done.tags)
        self._read_runs()  # one that is under way may have seen the run as it was
        for runs in (self._runs or [], self.list.runs):  # in the list, too: the cursor stays on it
            runs[:] = [changed if other.folder == run.folder else other for other in runs]
        self.show()

    def action_filter(self) -> None:
        self.set_focus(self.filter)  # at once: the next key belongs to it

    def action_back(self) -> None:
        self.action_blur() if self.filter.has_focus else self.action_close()

    def action_close(self) -> None:
        self.dismiss(self._changed)

    @on(Input.Submitted, "#filter")
    def action_blur(self) -> None:
        self.set_focus(self.list)

    def action_delete(self) -> None:
        folder = self._run.folder
        text = f"Delete {clean(str(folder))} with all of its checkpoints? This cannot be undone."
        delete = Answer("d", "Delete it", partial(self._delete, folder))
        self.app.push_screen(Question("Delete", text, CANCEL, delete))

    def _delete(self, folder: Path) -> None:
        self._deleting.add(folder)
        before = self._changed
        if self._current is not None and folder.resolve() == self._current.resolve():
            self._changed = RunChoice("deleted", folder)
        self._take_runs((self._runs or [], []))
        deleted, refused = partial(self._deleted, folder), partial(self._not_deleted, folder, before)
        in_thread(self.app, partial(delete_run, folder), deleted, refused)  # which stays when the list is closed

    def _not_deleted(self, folder: Path, before: RunChoice | None, error: Exception) -> None:
        self._changed = before
        self.notify(clean(str(error)), severity="error", markup=False)
        self._deletion_ended(folder)

    def _deleted(self, folder: Path, left: list[str]) -> None:
        if left:
            self.notify(f"Left in its folder: {clean(', '.join(left))}", markup=False)
        if folder in self._overlays.folders:
            self._overlays.toggle(folder)
        self._deletion_ended(folder)

    def _deletion_ended(self, folder: Path) -> None:
        self._deleting.discard(folder)
        if self.is_attached:
            self._show_marks()
            self._read_runs()


def _details(run: RunSummary, width: int, incomparable: Collection[str]) -> Content:
    """Return six rows at most: a run's size and progress, note and tags, settings, and why it is not complete.

    `incomparable`: why the losses of others do not compare with its own.
    """
    best = f", best val {describe_best(run.best, run.best_left_behind)}" if run.best else ""
    size = f"{format_parameters(run.parameters)} params, epoch {run.epoch}/{run.epochs}"
    changed = changed_from_defaults(run.config)
    names = [name for name in changed if name not in ("data", "output_dir")]
    settings = ", ".join(f"{name} {format_value(changed[name])}" for name in names)
    resume = f"{keys.named('run.resume')} resumes it from its last checkpoint."
    why = f"{run.state_text}; {resume}" if run.unsaved else run.why
    if run.state == "interrupted":
        why = f"Its process is gone; {resume}"
    differs = f"≠ marks losses that do not compare with this run's: {', '.join(sorted(incomparable))}"
    parts = (
        (f"{run.folder}  {size}{best}, began {format_time(run.started)}{_parent(run)}", "", 2),
        (" ".join([run.note, *(f"#{tag}" for tag in run.tags)]).strip(), "$text-accent", 1),
        (f"{run.data}: {settings}" if run.data else settings or "all settings have their defaults", FAINT, 2),
        (why, "$text-warning", 1) if why or not incomparable else (differs, FAINT, 2),
    )
    rows: list[Content] = []
    for text, style, most in parts:
        shown = wrap_rows(clean(text[: 4 * width]), width, min(most, 6 - len(rows))) if text else []
        rows += [Content.styled(row, style) for row in shown]
    return Content("\n").join(rows)


def _parent(run: RunSummary) -> str:
    """Say which run's weights a run began with."""
    folder = run.parent_folder
    return f", from {folder / Path(run.parent).name}" if folder is not None else ""
