"""How the run stands: a verdict, the numbers that show it, what it means, and the key that does something about it."""

from dataclasses import replace

from textual.content import Content
from textual.widget import Widget

from fundamentallm.config.format import wrap
from fundamentallm.run.health import BAD, GOOD, NOTE, WARNING, Verdict, assess_run
from fundamentallm_tui import keys
from fundamentallm_tui.format import clean, truncate, wrap_rows
from fundamentallm_tui.state.launch import possible_health_actions
from fundamentallm_tui.state.store import INTERRUPTED, Store
from fundamentallm_tui.theme import FAINT
from fundamentallm_tui.throttle import RedrawThrottle

COLOURS = {GOOD: "$text-success", NOTE: "$text-primary", WARNING: "$text-warning", BAD: "$text-error"}
NO_RUN = Verdict(
    "no_run", NOTE, "no run yet", "{start} starts one",
    "Here will stand whether the run goes well, the numbers that show it, and what can be done about it.",
)  # fmt: skip
STARTING = replace(NO_RUN, headline="no verdict yet", evidence="the run is starting")
PROCESS_ENDED = Verdict(
    "process_ended", BAD, "interrupted", "its process is gone; the log has more",
    "The run's process ended before the run did. What it had saved before can be resumed.",
)  # fmt: skip
LEAST_EVIDENCE = 24  # cells of a line that are worth to be filled with the beginning of it


class HealthPane(Widget, can_focus=True):
    """Shows the verdict on the store's run; ask its throttle when the curves have changed."""

    commands = keys.HEALTH
    BINDINGS = keys.bindings(keys.HEALTH)

    def __init__(self, store: Store, *, id: str = "health") -> None:
        super().__init__(id=id, classes="pane")
        self.border_title = "Health"
        self.store = store
        self.throttle = RedrawThrottle(self, self._draw, min_interval=1.0, cpu_share=0.002)
        self._shown = NO_RUN

    def _draw(self) -> None:
        if current_verdict(self.store) != self._shown:
            self.refresh()

    def render(self) -> Content:
        self._shown = current_verdict(self.store)
        return health_text(self._shown, self.size.width, self.size.height)


def current_verdict(store: Store) -> Verdict:
    """Judge the run that the store shows. The verdict has only those actions that can be taken now."""
    loading = store.under_way and not store.loaded  # a run that is resumed may be judged when it takes steps again
    verdict = (None if loading else assess_run(store.history)) or (STARTING if store.under_way else NO_RUN)
    if verdict is NO_RUN:
        verdict = replace(verdict, evidence=keys.spell(verdict.evidence))
    if store.phase == INTERRUPTED:
        verdict = PROCESS_ENDED
    evidence = verdict.evidence
    if verdict.advice and not verdict.actions:
        evidence += f"; try {verdict.advice}"
    return replace(verdict, evidence=evidence, actions=tuple(possible_health_actions(store, verdict.actions)))


def evidence_sentence(verdict: Verdict) -> str:
    """Return the evidence as a sentence of its own. An error is left as it is: it may begin with a path."""
    return verdict.evidence if verdict.kind == "failed" else f"{verdict.evidence[:1].upper()}{verdict.evidence[1:]}."


def health_line(store: Store, width: int) -> Content:
    """Return the verdict in one line: headline, the key where there is something to do, and evidence if it fits."""
    verdict = current_verdict(store)
    keys_of_it = (f"  {keys.named('health')} acts", f"  {keys.named('health')}")
    key = next((key for key in keys_of_it if verdict.actions and len(key) < width - len(verdict.headline) - 3), "")
    head = truncate(f"● {verdict.headline}", width - 1 - len(key))
    evidence = f": {clean(verdict.evidence)}"
    room = width - 1 - len(head) - len(key)
    if len(evidence) > room:
        evidence = truncate(evidence, room) if room > LEAST_EVIDENCE else ""
    return Content.assemble(" ", (head, f"bold {COLOURS[verdict.level]}"), evidence, (key, "$text-accent"))


def health_text(verdict: Verdict, width: int, height: int) -> Content:
    """Return the verdict as a block; a low one has less of the explanation, or none."""
    colour = f"bold {COLOURS[verdict.level]}"
    label = wrap(verdict.actions[0].label, max(1, width - 3)) if verdict.actions else []
    key = f"{keys.named('health')}  "
    action = [Content.styled(f"{' ' * len(key) if n else key}{row}", "$text-accent") for n, row in enumerate(label)]
    head = [Content.styled(f"● {verdict.headline}", colour)]
    evidence = [Content(row) for row in wrap(clean(verdict.evidence), width)]
    first = verdict.explanation.split(". ")[0].rstrip(".") + "."
    whole, brief = ([Content.styled(row, FAINT) for row in wrap(text, width)] for text in (verdict.explanation, first))
    room = max(1, height - len(action))
    low = [Content(row) for row in wrap_rows(f"● {verdict.headline}: {clean(verdict.evidence)}", width, room)]
    low[0] = low[0].stylize(colour, 0, len(head[0]))
    gap = [Content("")]
    layouts = (
        [head, evidence, gap, whole, gap, action], [head, evidence, whole, action], [head, evidence, brief, action],
        [low, brief, action], [low, action],
    )  # fmt: skip
    parts = next((parts for parts in layouts if sum(map(len, parts)) <= height), layouts[-1])
    return Content("\n").join([row for part in parts for row in part][: max(1, height)])
