"""What is shown all the time: the status line in fixed columns, so that the eye finds each number where it was, and
below a small terminal's panes the newest numbers."""

from collections.abc import Callable

from rich.cells import cell_len
from textual.content import Content
from textual.widget import Widget

from fundamentallm.config.format import format_duration, format_loss, format_norm, format_rate
from fundamentallm.run.describe import describe_best
from fundamentallm.run.events import Finished
from fundamentallm_tui.format import clean, fit, shorten, truncate
from fundamentallm_tui.panes.health import health_line
from fundamentallm_tui.state.store import Store
from fundamentallm_tui.theme import FAINT
from fundamentallm_tui.throttle import RedrawThrottle

COLOURS = {
    "FINISHED": "$text-success", "IDLE": "$foreground", "STOPPED": "$foreground", "PAUSING": "$text-warning",
    "PAUSED": "$text-warning", "STOPPING": "$text-warning", "FAILED": "$text-error", "NOT SAVED": "$text-error",
    "INTERRUPTED": "$text-warning",
}  # fmt: skip
ACTIVE = "$text-primary"  # of every other status
SMALLEST_NAME, LARGEST_NAME = 10, 24
SMALLEST_BAR = 5
LABELLED = ("step", "epoch", "eta")  # columns that begin with a word, which is fainter than the numbers
WORD = 10  # characters of what the run does
STEPS, EPOCHS = 5, 2  # digits that have room before it is known how many there will be
LOSS = 5  # characters
LOSSES_FROM = 110  # columns; in a narrower terminal the losses stand below the panes
LEAST_VERDICT = 26  # columns for the verdict beside them: a headline and a key
DROPPED = ("bits", "grad", "rate", "bar", "epoch", "best", "share")  # the first of them first, where there is no room


class StoreLine(Widget):
    """One line of the store's numbers; ask its throttle when they have changed."""

    def __init__(self, store: Store, train: Callable[[], str], *, id: str) -> None:
        """`train` returns the training loss as the chart has it."""
        super().__init__(id=id)
        self._store, self._train = store, train
        self.throttle = RedrawThrottle(self, self.refresh, min_interval=1.0)


class StatusLine(StoreLine):
    """What the run does, how far it is, and where there is room its losses."""

    def on_mount(self) -> None:
        self.set_interval(1.0, self._tick)

    def _tick(self) -> None:
        if self._store.under_way and not self._store.paused:
            self.throttle.request()

    def render(self) -> Content:
        return Content.assemble(*layout(self._store, self.size.width, self._train()))


class NumbersLine(StoreLine):
    """The newest losses and the verdict, where neither has a place elsewhere."""

    def render(self) -> Content:
        losses = losses_of(self._store, self._train()) if self.size.width < LOSSES_FROM else []
        width = self.size.width - 1
        pieces = [(f" {text} ", style) for _, text, style in losses]
        while pieces and width - sum(len(text) for text, _ in pieces) < LEAST_VERDICT:
            pieces.pop()
        return Content.assemble(*pieces, health_line(self._store, width - sum(len(text) for text, _ in pieces)))


def layout(store: Store, width: int, train: str = "") -> list[tuple[str, str]]:
    """The line's pieces and their styles. Which columns there are depends on the width and the run's length only."""
    columns = _columns(store)
    if width >= LOSSES_FROM and store.folder is not None:
        columns[-2:-2] = [*losses_of(store, train), *_bits_of(store)]
    width -= 1  # no text touches the right edge
    whole = max(SMALLEST_NAME, min(LARGEST_NAME, cell_len(_name(store, LARGEST_NAME))))
    own = cell_len(clean(store.folder.name)) if store.folder else 0
    names = {"bits": whole, "grad": whole, "rate": whole, "bar": max(SMALLEST_NAME, min(own, whole))}
    gap = 2
    for drop in DROPPED:
        left = width - 1 - names.get(drop, SMALLEST_NAME)
        gap = 2 if _wide(columns, 2) <= left else 1
        if _wide(columns, gap) <= left:
            break
        columns = [column for column in columns if column[0] != drop]
    room = max(0, width - _wide(columns, gap) - 1)
    name = _name(store, room)
    rest = max(0, room - max(SMALLEST_NAME, cell_len(name))) if any(kind == "bar" for kind, _, _ in columns) else 0
    pieces = [(" " + fit(name, room - rest), "bold")]
    for kind, text, style in columns:
        label = text.index(" ") if kind in LABELLED else 0
        pieces.append((" " * gap, ""))
        pieces += _bar(store, rest + len(text)) if kind == "bar" else [(text[:label], FAINT), (text[label:], style)]
    return [*pieces, (" ", "")]


def _columns(store: Store) -> list[tuple[str, str, str]]:
    """The columns by name, with their texts and styles."""
    word = f"{store.status():<{WORD}}"
    steps, epochs = max(STEPS, len(str(store.total_steps))), max(EPOCHS, len(str(store.epochs)))
    return [
        ("word", word, f"bold {colour_of(store.status())}"),
        ("bar", " " * (SMALLEST_BAR + WORD - len(word)), ""),  # a longer word takes its room from the bar
        ("share", f"{100 * _share(store):>3.0f}%", ""),
        ("step", f"step {store.step:>{steps}}/{store.total_steps or '–':<{steps}}", ""),
        ("epoch", f"epoch {store.epoch:>{epochs}}/{store.epochs or '–':<{epochs}}", ""),
        ("eta", _time(store), ""),
        ("rate", f"{format_rate(store.tokens_per_second):>5} tok/s", FAINT),
        ("grad", f"grad {format_norm(store.grad_norm):<5}", FAINT),
    ]


def _time(store: Store) -> str:
    """How long the run still takes, or how long it took."""
    end = store.history.end
    if not store.under_way and isinstance(end, Finished):
        return f"took{format_duration(end.seconds):>6}"
    return f"ETA {format_duration(store.eta()):>6}"


def losses_of(store: Store, train: str) -> list[tuple[str, str, str]]:
    """The columns of the newest losses; the log has the mean of an epoch, so that a smoothed one is marked with "~"."""
    val, at = store.val.last, describe_best(store.history.best, store.history.best_left_behind)
    return [
        ("train", fit(train, len("train ~") + LOSS), "$text-primary"),
        ("val", f"val {fit(format_loss(val[1] if val else None), LOSS)}", "$text-accent"),
        ("best", f"best {fit(at, LOSS + len(' in epoch ') + max(EPOCHS, len(str(store.epochs))))}", "$text-success"),
    ]


def _bits_of(store: Store) -> list[tuple[str, str, str]]:
    """The column of the newest validation loss that compares across tokenizers; older journals have none."""
    evaluations = store.history.evaluations
    bits = evaluations[-1].bits_per_byte if evaluations else None
    return [] if bits is None else [("bits", f"{fit(format_loss(bits), LOSS)} bits/byte", FAINT)]


def colour_of(status: str) -> str:
    """Return the colour in which a status is written, in whatever letters."""
    return COLOURS.get(status.upper(), ACTIVE)


def _share(store: Store) -> float:
    """How much of the run is done, from 0 to 1."""
    return min(1.0, max(0, store.step) / store.total_steps) if store.total_steps > 0 else 0.0


def _bar(store: Store, width: int) -> list[tuple[str, str]]:
    halves = round(2 * width * _share(store))
    done = "━" * (halves // 2) + "╸" * (halves % 2)
    return [(done, colour_of(store.status())), ("─" * (width - len(done)), "$foreground 25%")]


def _wide(columns: list[tuple[str, str, str]], gap: int) -> int:
    return sum(gap + len(text) for _, text, _ in columns)


def _name(store: Store, space: int) -> str:
    """Preset and folder, or the folder's own name where that is too long."""
    folder = clean(str(store.folder)) if store.folder else ""
    whole = " · ".join(part for part in (clean(store.name), folder) if part) or "fundamentallm"
    if cell_len(whole) <= space or store.folder is None:
        return whole
    if store.replayed:  # the first thing to know, and whole: a part of its speed would be another speed
        room = space - cell_len(store.name) - 1
        return f"{store.name} {shorten(clean(store.folder.name), room)}" if room > 3 else truncate(store.name, space)
    return folder if cell_len(folder) <= space else shorten(clean(store.folder.name), space)
