"""A text token by token: how the model predicted each, what it expected instead, and branches that go on from there."""

import re
from contextlib import suppress
from functools import partial

from rich.cells import cell_len
from textual import on
from textual.app import ComposeResult
from textual.containers import Container, Vertical
from textual.content import Content
from textual.widgets import TextArea

from fundamentallm.config.config import Config
from fundamentallm.config.format import format_count, format_size
from fundamentallm.data.source import read_source
from fundamentallm.errors import UserError
from fundamentallm.paths import user_path
from fundamentallm_tui import keys
from fundamentallm_tui.background import in_thread
from fundamentallm_tui.dialogs import Dialog, Entry
from fundamentallm_tui.format import clean
from fundamentallm_tui.panes.sample import Prompt, SamplePane
from fundamentallm_tui.panes.tokens import Alternatives, TokenText, glyph_alone, legend, percent, style_of
from fundamentallm_tui.panes.values import split_paths
from fundamentallm_tui.screens.base import Page
from fundamentallm_tui.screens.file_picker import MAX_BYTES
from fundamentallm_tui.state.looked import LookedText, LookedTexts, loss
from fundamentallm_tui.theme import FAINT

HINT = (
    "The redder a token, the less the model expected it. The bars show what it expected most: choose one, and enter "
    "lets the text go on with that."
)
LIKE_A_PATH = re.compile(r"\S*/\S+|\S+\.\w{1,5}")
QUESTION = "How well does the model predict it?"
LEAST = 32  # tokens whose attention is shown where the cursor stands before: a map of two would say nothing
BEGINS = "The text begins here: there is nothing to predict its first token from."


class Look(Page[None]):
    """Shows the current one of the texts; an answer that comes later is shown when it comes."""

    BINDINGS = keys.bindings(keys.LOOK)
    AUTO_FOCUS = "#tokens"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (110, "-wide")]
    VERTICAL_BREAKPOINTS = [(23, "-tall")]
    table = keys.LOOK

    def __init__(self, texts: LookedTexts, pane: SamplePane, *, score: bool) -> None:
        """`pane` has the options of branches; `score`: ask for a text at once, as where there is none."""
        super().__init__(id="look")
        self._texts, self._pane, self._asks = texts, pane, score
        self._worst = 0  # how many of the worst places were gone to, one after the other
        self.text, self.alternatives = TokenText(self._go, id="tokens"), Alternatives(id="alternatives")
        self.expected = Vertical(self.alternatives, id="expected")

    def compose_body(self) -> ComposeResult:
        with Container(id="looked"):
            yield self.text
            yield self.expected
        yield self.explanation

    def on_mount(self) -> None:
        self.explanation.update(HINT)
        self.text.border_subtitle = legend()
        self._texts.changed = self.show
        self.show()
        if (self._asks or self._texts.current is None) and self._texts.sampler.model:
            self.action_score()

    def on_unmount(self) -> None:
        self._texts.changed = lambda: None

    @property
    def _current(self) -> LookedText:
        return self._texts.current or LookedText(0, "", "")

    def show(self) -> None:
        text, self._worst = self._current, 0
        if text.number:
            about = text.describe()
        elif self._texts.sampler.model:
            about = f"No text yet: {keys.named('look.score')} scores one."
        else:
            about = self._pane.why_no_model()
        self.head.update(Content.styled(clean(about), "$text-warning" if text.problem else ""))
        self.text.border_title = self._names()
        self.text.show(text.tokens, [style_of(text.probability(n)) for n in range(len(text.tokens))], text.place)
        self._point(text.place)
        self.refresh_bindings()

    def on_resize(self) -> None:
        self.text.border_title = self._names()

    def _names(self) -> Content:
        """The names of the texts, as many as there is room for, the current one among them; … for those before."""
        kept, current = self._texts.kept, self._texts.current
        shown = kept[: kept.index(current) + 1] if current is not None else []
        room = (self.size.width if self.has_class("-narrow") else self.size.width // 2) - 8
        while len(shown) > 1 and sum(cell_len(text.title) + 3 for text in shown) > room:
            shown = shown[1:]
        before = ["…"] if shown and shown[0] is not kept[0] else []
        shown += kept[len(kept) - kept[::-1].index(shown[-1]) :] if shown else []
        style = {True: "bold $background on $accent", False: ""}
        names = [Content.styled(f" {text.title} ", style[text is current]) for text in shown]
        return Content(" ").join([*map(Content, before), *names])

    def _point(self, place: int) -> None:
        """Put the cursor on a token, and show how it was predicted."""
        text = self._current
        text.place = place = max(0, min(place, len(text.tokens) - 1))
        self.text.point(place)
        self.alternatives.show(*text.alternatives(place))
        title, subtitle = "", ""
        if text.explained is not None and place:
            found, n = text.explained, place - 1
            probability = found.probability[n]
            title = f"“{glyph_alone(text.tokens[place])}” probability {percent(probability)}, rank {found.rank[n]:,}"
            title += f", entropy {found.entropy[n]:.2f} nats"
            worst = f"worst {self._worst}: " if self._worst else ""
            subtitle = f"{worst}loss {loss(probability):.2f} nats, token {place + 1:,} of {len(text.tokens):,}"
        elif text.explained is not None:
            title = BEGINS
        self.expected.border_title, self.expected.border_subtitle = Content(title), Content(subtitle)

    # What the keys do

    def possible(self) -> dict[str, object]:
        return {
            **dict.fromkeys(("worst", "choose"), self._current.explained),
            **dict.fromkeys(("rename", "attention"), self._texts.current),
            "text": len(self._texts.kept) > 1,
            "score": self._texts.sampler.model,
        }

    def _go(self, place: int) -> None:
        self._worst = 0
        self._point(place)

    def action_move(self, by: int) -> None:
        self._go(self._current.place + by)

    def action_line(self, by: int) -> None:
        self._go(self.text.above(self._current.place, by))

    def action_worst(self) -> None:
        places = self._current.worst()
        self._worst = self._worst % len(places) + 1
        self._point(places[self._worst - 1])

    def action_choose(self) -> None:
        """Go to the alternatives, and from there continue the text with one of them."""
        chosen, text = self.alternatives.highlighted, self._current
        if self.focused is not self.alternatives:
            self.set_focus(self.alternatives)
        elif chosen is None:
            return
        elif not self.alternatives.tokens[chosen][0]:
            self.notify("This token is a part of a character: no text goes on with it.", severity="warning")
        elif (options := self._pane.read_options()) is None:
            self.notify("An option in the sample pane is wrong; correct it first.", severity="warning")
        else:
            self._texts.continue_from(text.place, self.alternatives.tokens[chosen][0], {**options, "num_samples": 1})
            self.set_focus(self.text)
            self.show()

    def action_attention(self, nearest: bool = False) -> None:
        """Show what the tokens so far attend to, or which are `nearest` to the one under the cursor."""
        from fundamentallm_tui.screens.attention import AttentionScreen

        shown = self._current.place + 1 if nearest else max(self._current.place + 1, LEAST)
        text = self._current.before + "".join(self._current.tokens[:shown])
        self.app.push_screen(AttentionScreen(self._texts.sampler, text, nearest=nearest))

    def action_text(self, by: int) -> None:
        self._texts.go(by)
        self.show()

    def action_rename(self) -> None:
        take = partial(self._rename, self._current)
        self.app.push_screen(Entry("Name the text", self._current.name, take=take))

    def _rename(self, text: LookedText, name: str) -> None:
        text.name = " ".join(name.split())[:40]
        self.text.border_title = self._names()

    def action_score(self) -> None:
        self.app.push_screen(ScoreDialog(), self._score)

    def _score(self, text: str | None) -> None:
        if text:
            self._texts.look_at(text)
            self.show()


class ScoreDialog(Dialog[str]):
    """Asks for a text, or the path of a file; ends with the text."""

    def __init__(self) -> None:
        self._prompt, self._warned_of = Prompt(), ""  # what is no file, of which the user was told
        self._prompt.placeholder = "paste or write a text, or the path of a file"
        super().__init__("Score a text", self._prompt, hint=QUESTION)
        self.id, self.box.border_subtitle = "score", "enter takes it, escape cancels"

    @on(TextArea.Changed)
    def _changed(self) -> None:
        text, (path, problem) = self._prompt.text, self._path()
        found = f"the file {path}" if path else f"a text of {format_count(len(text), 'character')}"
        found = f"{problem}: {found}" if problem else found
        self.hint.update(Content.styled(clean(found if text.strip() else QUESTION), FAINT))

    def _path(self) -> tuple[str, str]:
        """The path of a file that was typed or dropped, or why what looks like a path is none; else it is a text."""
        text = self._prompt.text.strip()
        paths = split_paths(text) if "\n" not in text else []
        with suppress(UserError, OSError):  # it cannot be a path
            if len(paths) == 1 and user_path(paths[0]).is_file():
                return paths[0], ""
            if len(paths) == 1 and user_path(paths[0]).is_dir():
                return "", "a folder, not a file"
        return "", "no such file" if LIKE_A_PATH.fullmatch(text) else ""

    @on(Prompt.Submitted)
    def _submitted(self) -> None:
        text, (path, problem) = self._prompt.text, self._path()
        if path:
            in_thread(self, partial(read_text, path), self._read, self.refuse)
        elif problem and text != self._warned_of:
            self._warned_of = text
            self.refuse(UserError(f"{text.strip()}: {problem}; enter again scores it as a text"))
        elif text.strip():
            self.dismiss(text)

    def _read(self, text: str) -> None:
        if self.is_active:  # no help is above it
            self.dismiss(text)


def read_text(path: str) -> str:
    """Read a file; a UserError says why it is no text, or too long for a look."""
    if user_path(path).stat().st_size > MAX_BYTES:
        raise UserError(f"{path}: is larger than {format_size(MAX_BYTES)}; `fundamentallm score` reads it")
    return read_source(Config(data=(path,))).text()
