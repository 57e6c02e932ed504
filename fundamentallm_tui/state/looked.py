"""The texts that are looked at token by token: what the model answers about each, and branches from one to another."""

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, chain
from typing import Any

from fundamentallm.config.format import format_count
from fundamentallm.data.encoding import normalize
from fundamentallm.run.commands import MAX_EXPLAINED, CancelSample, Explain, Sample
from fundamentallm.run.events import Answered, Event, Explained, Sampled
from fundamentallm_tui.format import clean, truncate
from fundamentallm_tui.state.sampler import Question, Sampler

MAX_KEPT = 16
LABEL_CHARS = 8
NO_NUMBERS = "the model's probabilities are no numbers: it has diverged, or its answer is damaged"


@dataclass
class LookedText:
    """A text, and how the model predicts it."""

    number: int
    text: str  # after `before`; once it is explained, what the model knows of it
    label: str
    before: str = ""  # what is left out at the beginning of a text that is too long to be explained as a whole
    place: int = 1  # the token under the cursor
    length: int = 0  # of the whole text, in characters
    name: str = ""  # what the user calls it; empty: `label` has to do
    model: str = ""  # who was asked last
    doing: str = ""  # what that does
    problem: str = ""
    explained: Explained | None = None

    @property
    def title(self) -> str:
        return f"{self.number}: {clean(self.name or self.label)}"

    @property
    def tokens(self) -> tuple[str, ...]:
        return self.explained.tokens if self.explained is not None else tuple(self.text)

    def probability(self, place: int) -> float | None:
        """Return how likely the model held a token; None where it was not asked, as for the first."""
        return self.explained.probability[place - 1] if self.explained is not None and place else None

    def alternatives(self, place: int) -> tuple[list[tuple[str, float]], int]:
        """Return the likeliest tokens at a place with their probabilities, and which of them came; else it is the last.

        A part of a character has no text of its own: whether it came is known by its probability.
        """
        if self.explained is None or not place:
            return [], 0
        answer, n = self.explained, place - 1
        found = [*zip(answer.likeliest[n], answer.likeliest_probability[n], strict=True)]
        came = self.tokens[place], answer.probability[n]
        same = (at for at, row in enumerate(found) if row[0] == came[0] != "" or row == ("", came[1]))
        at = next(same, len(found))
        found[at : at + 1] = [came]
        return found, at

    def worst(self) -> list[int]:
        """Return the places of all predicted tokens, the most surprising first."""
        return sorted(range(1, len(self.tokens)), key=lambda place: self.probability(place) or 0.0)

    def describe(self) -> str:
        """Say what the model does with the text, or has found."""
        if self.problem:
            return f"{self.problem[:1].upper()}{self.problem[1:].rstrip('.')}."
        if self.explained is None:
            return f"{self.model} {self.doing}…"
        found, n = self.explained, len(self.tokens) - 1
        mean = sum(map(loss, found.probability)) / n
        text = f"{self.model}, step {found.step:,}: a loss of {mean:.2f} nats a token, "
        text += f"over {format_count(n, 'token')}."
        if found.left_out:
            text += f" {format_count(found.left_out, 'character')} left out, which the model does not know."
        if self.length > MAX_EXPLAINED:
            first, last = len(self.before) + 1, len(self.before) + len(self.text) + found.left_out
            text += f" Of {self.length:,} characters these are {first:,} to {last:,}: `fundamentallm score` reads all."
        return text


def loss(probability: float) -> float:
    """Return the loss of a token in nats; what is rounded to no probability at all counts as the least there is."""
    return -math.log(max(probability, 1e-45))


class LookedTexts:
    """Asks the model about texts, and keeps the last MAX_KEPT of them; those that have a name stay longest."""

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler
        self.kept: list[LookedText] = []
        self.current: LookedText | None = None
        self.changed: Callable[[], None] = lambda: None  # is called when an answer has come
        self._count = 0
        self._writing = ""  # the id of the sample that continues a branch now

    def clear(self) -> None:
        """Forget all texts: another run is shown."""
        self.kept, self.current, self._count = [], None, 0

    def look_at(self, text: str) -> None:
        """Ask how the model predicts a text."""
        text = normalize(text)
        self.current = self._keep(text, truncate(" ".join(text[:80].split()), LABEL_CHARS))
        self._explain(self.current)

    def continue_from(self, place: int, token: str, options: dict[str, Any]) -> None:
        """Let the model continue the current text from a place, where it has this token instead."""
        if (text := self.current) is None:
            return
        prompt = text.before + "".join(text.tokens[:place]) + token
        self.current = branch = self._keep(prompt, f"…{' '.join(prompt[-LABEL_CHARS + 1 :].split())}")
        branch.doing, branch.place = "continues the text", len(prompt) - 1
        self._question(branch, Sample(prompt=prompt, **{**options, "num_samples": 1}))

    def go(self, by: int) -> None:
        """Go to the next text (1), or to the one before (-1)."""
        if self.current is not None:
            self.current = self.kept[(self.kept.index(self.current) + by) % len(self.kept)]

    def _keep(self, text: str, label: str) -> LookedText:
        if len(self.kept) == MAX_KEPT:
            self.kept.remove(next((kept for kept in self.kept if not kept.name), self.kept[0]))
        self._count += 1
        self.kept.append(LookedText(self._count, text, label))
        return self.kept[-1]

    def _explain(self, text: LookedText) -> None:
        """Ask how the model predicts as much of a text as it can at once: with the cursor in its middle."""
        text.length = len(text.text)
        start = max(0, min(text.place - MAX_EXPLAINED // 2, text.length - MAX_EXPLAINED))
        text.before, text.text = text.text[:start], text.text[start : start + MAX_EXPLAINED]
        text.place -= start
        text.doing = "predicts the text"
        self._question(text, Explain(text=text.text))

    def _question(self, text: LookedText, command: Question) -> None:
        if self._writing:  # or all else would have to wait for its end
            self.sampler.ask(CancelSample(sample=self._writing), lambda answer: None)
        self._writing = command.id if isinstance(command, Sample) else ""
        text.model = self.sampler.model
        if not self.sampler.ask(command, partial(self._take, text)):
            text.problem = "there is no model to ask"

    def _take(self, text: LookedText, event: Event) -> None:
        """Take in a piece of a branch, how a text is predicted, or why there is no answer."""
        if isinstance(event, Answered) and event.ok:
            return  # what there was to say was said before
        if isinstance(event, Answered) or getattr(event, "done", False):
            self._writing = ""
        match event:
            case Sampled():
                text.text += event.text
                if event.done:
                    self._explain(text)
            case Explained() if is_possible(event):
                ends = [*accumulate(map(len, event.tokens))]
                place = bisect_right(ends, text.place) if text.place > 1 else text.place  # so far, in characters
                text.explained, text.text = event, "".join(event.tokens)
                text.place = max(1, min(place, len(event.tokens) - 1))
            case Explained():
                text.problem = NO_NUMBERS
            case Answered():
                text.problem = event.why or "there was no answer"
        self.changed()


def is_possible(found: Explained) -> bool:
    """Whether an answer has numbers for each token: it may come from a journal that is someone else's."""
    n = len(found.tokens) - 1
    columns = found.probability, found.rank, found.entropy, found.likeliest, found.likeliest_probability
    rows = zip(found.likeliest, found.likeliest_probability, strict=False)
    return (
        1 <= n < MAX_EXPLAINED
        and all(len(column) == n for column in columns)
        and all(len(tokens) == len(probabilities) for tokens, probabilities in rows)
        and all(0 <= value <= 1 for value in chain(found.probability, *found.likeliest_probability))
        and all(map(math.isfinite, found.entropy))
    )
