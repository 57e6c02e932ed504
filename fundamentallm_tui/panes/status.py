"""The status line: fixed columns, so that the eye finds each number where it was."""

from rich.cells import cell_len
from textual.content import Content
from textual.timer import Timer
from textual.widget import Widget

from fundamentallm.config.format import format_duration, format_norm, format_rate
from fundamentallm_tui.format import clean, fit, truncate
from fundamentallm_tui.state.store import BRIEF_PHASES, BRIEF_SECONDS, Store
from fundamentallm_tui.throttle import RedrawThrottle

COLOURS = {
    "TRAINING": "$text-success", "EVALUATING": "$text-success", "SAVING": "$text-success", "SAMPLING": "$text-success",
    "FINISHED": "$text-accent", "STOPPED": "$text-accent", "LOADING": "$text-primary", "COMPILING": "$text-primary",
    "PAUSING": "$text-warning", "PAUSED": "$text-warning", "STOPPING": "$text-warning", "FAILED": "$text-error",
    "NOT SAVED": "$text-error",
}  # fmt: skip
SMALLEST_NAME = 10
GAP = 2
STEPS, EPOCHS = 5, 2  # digits that have room before it is known how many there will be


class StatusLine(Widget):
    """Shows the store's numbers; call `show` when they have changed."""

    def __init__(self, store: Store, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._store = store
        self._throttle = RedrawThrottle(self, self._draw, min_interval=0.5, cpu_share=0.01)
        self._timer: Timer | None = None

    def on_mount(self) -> None:
        self.set_interval(1.0, self._tick)

    def show(self, *, now: bool = False) -> None:
        """Show the numbers when the throttle allows it, or at once."""
        self._throttle.request(now=now)
        if self._store.phase in BRIEF_PHASES and self._timer is None:  # it is shown only if it lasts
            self._timer = self.set_timer(BRIEF_SECONDS, self._show_passing_phase)

    def _show_passing_phase(self) -> None:
        self._timer = None
        self._throttle.request(now=True)

    def _tick(self) -> None:
        if self._store.under_way and not self._store.paused:
            self._throttle.request()

    def _draw(self) -> float:
        self.refresh()
        return 0.0

    def render(self) -> Content:
        colour = COLOURS.get(self._store.status(), "$foreground")
        pieces: list[tuple[str, str]] = []
        for text, style in layout(self._store, self.size.width):
            pieces.append((text, f"bold {colour}" if style == "word" else style))
        return Content.assemble(*pieces)


def layout(store: Store, width: int) -> list[tuple[str, str]]:
    """The line's pieces and their styles. Which columns there are depends on the width and the run's length only."""
    columns, gap = _columns(store), GAP
    for drop in ("grad", "rate", "percent"):
        if _wide(columns, gap) + SMALLEST_NAME + 1 <= width:
            break
        gap = 1 if _wide(columns, 1) + SMALLEST_NAME + 1 <= width else GAP
        if gap == GAP:
            columns = [column for column in columns if column[0] != drop]
    space = max(0, width - _wide(columns, gap) - 1)
    pieces = [(" " + fit(_name(store, space), space), "bold")]
    for _, text, style in columns:
        pieces += [(" " * gap, ""), (text, style)]
    return pieces


def _columns(store: Store) -> list[tuple[str, str, str]]:
    steps, epochs = max(STEPS, len(str(store.total_steps))), max(EPOCHS, len(str(store.epochs)))
    share = f"{100 * store.step // store.total_steps}%" if store.total_steps else "0%"
    return [
        ("word", f"{store.status():<10}", "word"),
        ("step", f"step {store.step:>{steps}}/{store.total_steps or '–':<{steps}}", ""),
        ("epoch", f"epoch {store.epoch:>{epochs}}/{store.epochs or '–':<{epochs}}", ""),
        ("percent", f"{share:>4}", ""),
        ("eta", f"ETA {format_duration(store.eta()):>6}", ""),
        ("rate", f"{format_rate(store.tokens_per_second):>5} tok/s", "$foreground 60%"),
        ("grad", f"grad {format_norm(store.grad_norm):<5}", "$foreground 60%"),
    ]


def _wide(columns: list[tuple[str, str, str]], gap: int) -> int:
    return sum(gap + len(text) for _, text, _ in columns)


def _name(store: Store, space: int) -> str:
    """Preset and folder, or the folder's own name where that is too long."""
    folder = clean(str(store.folder)) if store.folder else ""
    whole = " · ".join(part for part in (clean(store.name), folder) if part) or "fundamentallm"
    if cell_len(whole) <= space or store.folder is None:
        return whole
    if store.replayed:  # the first thing to know
        return truncate(f"{clean(store.name)} {clean(store.folder.name)}", space)
    return folder if cell_len(folder) <= space else truncate(clean(store.folder.name), space)
