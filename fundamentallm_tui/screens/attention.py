"""A look inside: what each token of a text attends to, and which tokens have embeddings near to one another's."""

from functools import partial

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Static

from fundamentallm.run.commands import Attend, Neighbours
from fundamentallm.run.events import Attended, Event, Nearest
from fundamentallm_tui import keys
from fundamentallm_tui.dialogs import Entry
from fundamentallm_tui.format import bar, clean
from fundamentallm_tui.panes.heat_map import HeatMap, weights
from fundamentallm_tui.panes.tokens import SIGNS, aligned, glyph_alone
from fundamentallm_tui.screens.base import Page
from fundamentallm_tui.state.sampler import Sampler
from fundamentallm_tui.theme import FAINT

READING = 28  # columns at least, beside the map
CONTEXT = 7  # characters before a token that tell it from the same one elsewhere
MAX_BARS = 12
ASKING = "The model is asked …"
NO_MODEL = "No model can be asked now: start a run, or open one that left a checkpoint."
ATTENTION = (
    "Each row is a token of the text, each column one that it can look back at: the stronger the colour, the more "
    "of its attention goes there. A row adds up to 1, and what comes later cannot be seen."
)
EMBEDDING = (
    "To the model each token is a direction in space, its embedding, which training turns. Those that it uses "
    "alike come to point the same way: 1 is the same direction, 0 has nothing in common, -1 is the opposite."
)


class AttentionScreen(Page[None]):
    """Shows the attention over a text in one head of one layer, or beside it the tokens nearest to one of the text."""

    BINDINGS = keys.bindings(keys.ATTENTION)
    AUTO_FOCUS = "#attention"
    table = keys.ATTENTION

    def __init__(self, sampler: Sampler, text: str, *, nearest: bool = False) -> None:
        """Of `text` is shown what the model can take in, its end; `nearest`: begin with what is near to the last."""
        super().__init__()
        self._sampler, self._text, self._nearest = sampler, text, nearest
        self._layer, self._head = 0, 1  # the head that is shown; 0: the mean of all
        self._attended: dict[int, Attended] = {}  # by layer
        self._neighbours: dict[str, Nearest] = {}  # by token
        self._shown: Attended | None = None
        self.asked: Attend | Neighbours | None = None  # and not answered yet
        self._problem = ""
        self.map = HeatMap(self._moved, beside=READING + 2, id="attention")
        self.reading = Static(id="reading")

    def compose_body(self) -> ComposeResult:
        with Horizontal(id="inside"):
            yield self.map
            yield self.reading
        yield self.explanation

    def on_mount(self) -> None:
        if self._text:
            self._ask_next()
        else:
            self.action_type_text()
        self.show()

    # Questions, one at a time: whoever holds a key down is answered for where it ends

    def _ask_next(self) -> None:
        """Ask for what is to be shown and not known yet."""
        question: Attend | Neighbours
        if self.asked is not None:
            return
        if self._layer not in self._attended:
            question = Attend(text=self._text, layer=self._layer)
        elif (
            self._nearest and self.map.tokens and (token := self.map.tokens[self.map.cursor[0]]) not in self._neighbours
        ):
            question = Neighbours(text=token)
        else:
            return
        self.asked, self._problem = question, ""
        if not self._sampler.ask(question, partial(self._take, question)):
            self.asked, self._problem = None, NO_MODEL

    def _take(self, question: Attend | Neighbours, event: Event) -> None:
        """Take in the answer to a question, or why there is none."""
        if question is not self.asked:
            return  # another text is asked about meanwhile
        self.asked = None
        match event:
            case Attended() if isinstance(question, Attend):
                self._attended[question.layer] = event
            case Nearest():
                self._neighbours[question.text] = event
            case _:
                self._problem = getattr(event, "why", "") or "the answer is damaged"
        if self.is_running:
            self._update()

    def _update(self) -> None:
        """Show what is known of what is wanted, and ask for the rest."""
        event = self._shown = self._attended.get(self._layer, self._shown)
        if event is not None:
            self._head %= len(event.heads) + 1
            self.map.show(event.tokens, weights(event, self._head))
        if not self._problem:
            self._ask_next()
        self.show()

    # What is seen

    def show(self) -> None:
        event, parts = self._shown, []
        if event is not None:
            heads = len(event.heads)
            head = f"head {self._head} of {heads}" if self._head else f"mean of {heads} heads"
            parts = [f"layer {event.layer + 1} of {event.layers}", head, f"step {event.step:,}"]
            if self.map.shown < len(self.map.rows):
                parts.append(f"last {self.map.shown} of {len(self.map.rows)} tokens")
            parts += ["asking …"] if self.asked is not None else []
        self.show_head("Nearest tokens" if self._nearest else "Attention", " · ".join(parts))
        self.explanation.update(Content.styled(EMBEDDING if self._nearest else ATTENTION, FAINT))
        self.reading.update(self._reading())

    def _reading(self) -> Content:
        """What is read off at the cursor, and bars for what is most or nearest."""
        if self._problem:
            return Content.styled(clean(self._problem), "$text-warning")
        if not self.map.rows:
            return Content.styled(ASKING if self.asked else "", FAINT)
        row, column = self.map.cursor
        token, rows = self.map.tokens[row], self.map.rows[row]
        if not self._nearest:
            other = _quoted(self.map.tokens[column])
            head = Content.assemble(_quoted(token), " attends to ", other, f" with {rows[column]:.2f}")
            most = sorted(range(len(rows)), key=lambda at: -rows[at])
            names = aligned([self.map.tokens[at] for at in most[:MAX_BARS]], 2)
            bars = [(self._in_context(at, name), rows[at]) for at, name in zip(most, names, strict=False)]
            return Content("\n").join([head, Content(""), Content.styled("most goes to", FAINT), *self._bars(bars)])
        head = Content.assemble("nearest to ", _quoted(token))
        found = self._neighbours.get(token)
        if found is None:
            return Content("\n").join([head, Content(""), Content.styled(ASKING, FAINT)])
        near = zip(aligned(found.tokens[:MAX_BARS], 2), found.cosine, strict=False)
        bars = [(Content.styled(name, "bold $text-accent"), cosine) for name, cosine in near]
        return Content("\n").join([head, Content(""), *self._bars(bars)])

    def _in_context(self, at: int, name: str) -> Content:
        before = "".join(map(glyph_alone, self.map.tokens[max(0, at - CONTEXT) : at]))
        while cell_len(before) > CONTEXT:
            before = before[1:]
        before = " " * (CONTEXT - cell_len(before)) + before
        return Content.assemble((before, FAINT), (name, "bold $text-accent"))

    def _bars(self, values: list[tuple[Content, float]]) -> list[Content]:
        """Named shares of 1 as bars."""
        width = self.reading.content_size.width
        return [
            Content.assemble(name, f" {value:5.2f} ", (bar(value, width - name.cell_length - 7), "$text-primary"))
            for name, value in values
        ]

    # What the keys do

    def action_move(self, rows: int, columns: int) -> None:
        self.map.move(rows, columns)
        self._moved()

    def _moved(self) -> None:
        self._problem = ""
        self._update()

    def action_layer(self, by: int) -> None:
        layers = max(1, self._shown.layers) if self._shown is not None else 1
        self._layer = (self._layer + by) % layers
        self._moved()

    def action_head(self, by: int) -> None:
        """Show another head; before the first and after the last is their mean."""
        self._head += by
        self._moved()

    def action_mean(self) -> None:
        self._head = 0
        self._moved()

    def action_nearest(self) -> None:
        self._nearest = not self._nearest
        self._moved()

    def action_type_text(self) -> None:
        hint = "↵ is the end of a line, ⇥ a tab. The model has to know each character."
        self.app.push_screen(Entry("Attention over a text", self._text.translate(SIGNS), hint), self._typed)

    def _typed(self, text: str | None) -> None:
        if text:
            self._text = text.translate({ord(sign): character for character, sign in SIGNS.items()})
            self.action_ask_again()
        elif not self._text:
            self.dismiss()

    def action_ask_again(self) -> None:
        self._attended.clear()
        self._neighbours.clear()
        self.asked = None
        self._moved()


def _quoted(token: str) -> Content:
    return Content.assemble("“", (glyph_alone(token), "bold $text-accent"), "”")
