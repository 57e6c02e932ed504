"""How a run stands: what its curves mean, the numbers that show it, and what can be done about it. No torch.

- A verdict is a pure function of a `RunHistory` and of the settings as they are now. The trainer, the console, the
  command line and a resumed run call the same one, so they all say the same at the same step.
- `RULES` is a table. The first rule that holds is the verdict: each later one would advise something else.
- Warnings are announced in the log at the end of the epoch in which they begin to hold.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fundamentallm.config.advice import advise_not_finite
from fundamentallm.config.config import SETTINGS, Config, ConfigError, Layer, resolve
from fundamentallm.run import symptoms
from fundamentallm.run.history import RunHistory
from fundamentallm.run.symptoms import View, name_epoch

GOOD, NOTE, WARNING, BAD = "good", "note", "warning", "bad"  # levels
STOP, RESUME_BEST = "stop", "resume_best"  # commands


@dataclass(frozen=True)
class Action:
    """What the user can do: change live settings, give a command (STOP or RESUME_BEST), or the latter with changes."""

    label: str
    changes: dict[str, Any] = field(default_factory=dict)
    command: str = ""


@dataclass(frozen=True)
class Verdict:
    """How a run stands.

    Attributes:
        kind: the name of the rule.
        level: GOOD, NOTE, WARNING or BAD.
        headline: a few words.
        evidence: the numbers that show it.
        explanation: two sentences for someone who has never trained a model.
        actions: the best one first; empty where there is nothing to do.
        advice: the same for the command line; empty where there is none.
    """

    kind: str
    level: str
    headline: str
    evidence: str
    explanation: str
    actions: tuple[Action, ...] = ()
    advice: str = ""

    @property
    def sentence(self) -> str:
        """The verdict as the log has it."""
        return f"{self.headline}: {self.evidence}" + (f"; try {self.advice}" if self.advice else "")


@dataclass(frozen=True)
class Rule:
    """A row of the table. `find` returns the evidence, and an empty text where the rule does not hold."""

    kind: str
    level: str
    headline: str
    explanation: str
    find: Callable[[View], str]
    actions: Callable[[View], tuple[Action, ...]] = lambda view: ()
    advise: Callable[[View], str] = lambda view: ""


def assess(history: RunHistory, config: Config, vocab_size: int, step: int | None = None) -> Verdict:
    """Judge how a run stands, or stood after `step`; `config` has the settings as they are now."""
    view = View(history, config, vocab_size, history.step if step is None else step)
    for rule in RULES:
        if evidence := rule.find(view):
            return Verdict(
                rule.kind, rule.level, rule.headline, evidence, rule.explanation, rule.actions(view), rule.advise(view)
            )
    raise AssertionError("the last rule always holds")


def assess_run(history: RunHistory) -> Verdict | None:
    """Judge a run by its journal alone; None where that has no start, or one with settings that no run can have."""
    if history.started is None:
        return None
    try:
        config = resolve(Layer({name: value for name, value in history.config.items() if name in SETTINGS}))
    except ConfigError:  # another version's journal, or someone else's
        return None
    return assess(history, config, history.started.vocab_size)


def new_verdicts(history: RunHistory, config: Config, vocab_size: int) -> list[str]:
    """Return what the user should be told after the epoch that just ended: at most one sentence.

    A warning is announced when it holds now and did not hold at the epoch before.
    """
    steps = [event.step for event in history.evaluations if event.epoch_ended]
    if not steps:
        return []
    verdict = assess(history, config, vocab_size, steps[-1])
    known = len(steps) > 1 and assess(history, config, vocab_size, steps[-2]).kind == verdict.kind
    return [] if known or verdict.level in (GOOD, NOTE) else [verdict.sentence]


def _set_rate(view: View, factor: float) -> Action:
    rate = min(1.0, float(f"{view.config.learning_rate * factor:.1g}"))
    return Action(f"{'Lower' if factor < 1 else 'Raise'} the rate to {rate:g}", {"learning_rate": rate})


def _rate_advice(factor: float) -> Callable[[View], str]:
    return lambda view: f"--learning-rate {_set_rate(view, factor).changes['learning_rate']:g}"


def _stop(view: View) -> Action:
    kept = view.history.best
    return Action("Stop the run" if kept is None else f"Stop, and keep best.pt ({name_epoch(kept)})", command=STOP)


def _resume_best(view: View, what: str, changes: dict[str, Any]) -> tuple[Action, ...]:
    kept = view.history.best
    if kept is None:
        return ()
    return (Action(f"Resume from best.pt ({name_epoch(kept)}) with {what}", changes, RESUME_BEST),)


def _more_dropout(view: View) -> dict[str, float]:
    """More dropout, as a change; none where too little would be left to learn with."""
    dropout = round(max(0.1, view.config.dropout) + 0.1, 2)
    return {"dropout": dropout} if dropout <= 0.5 else {}


def _dropout_actions(view: View) -> tuple[Action, ...]:
    more = _more_dropout(view)
    return (Action(f"More dropout: {more['dropout']:g}", more),) if more else ()


def _overfitting_actions(view: View) -> tuple[Action, ...]:
    more = _more_dropout(view)
    back = _resume_best(view, f"dropout {more['dropout']:g}", more) if more else ()
    return (_stop(view), *_dropout_actions(view), *back)


def _overfitting_advice(view: View) -> str:
    more = _more_dropout(view)
    return (f"--dropout {more['dropout']:g}, " if more else "") + f"--epochs {view.best.epoch}, or more text"


def _rate_actions(view: View, factor: float, share: str) -> tuple[Action, ...]:
    lower = _set_rate(view, factor)
    return (lower, *_resume_best(view, f"{share} of the rate", lower.changes))


def _flat_actions(view: View) -> tuple[Action, ...]:
    return (_set_rate(view, 3 if view.config.learning_rate < 1e-3 else 1 / 3),)


def _flat_advice(view: View) -> str:
    rate = _flat_actions(view)[0].changes["learning_rate"]
    return f"--learning-rate {rate:g}, or a larger model (--model-dim {view.config.model_dim * 2})"


def _underfitting_actions(view: View) -> tuple[Action, ...]:
    less = (Action("No dropout", {"dropout": 0.0}),) if view.config.dropout else ()
    return (_set_rate(view, 3), *less)


RULES = (
    Rule(
        "nothing_to_learn", WARNING, "nothing to learn",
        "The text repeats one character, so the model knows it after a few steps. Choose another text.",
        symptoms.find_nothing_to_learn, lambda view: (_stop(view),),
    ),
    Rule(
        "diverged", BAD, "diverged",
        "The steps were so large that they destroyed what the model had learnt; it guesses worse than by chance. "
        "A lower learning rate makes smaller steps.",
        symptoms.find_divergence, lambda view: _rate_actions(view, 0.1, "a tenth")[::-1],
        lambda view: advise_not_finite(view.config),
    ),
    Rule(
        "overfitting", WARNING, "overfitting",
        "The model memorises the text that it trains on, and gets worse on text that it has not seen. "
        "More dropout or more text help; more epochs do not.",
        symptoms.find_overfitting, _overfitting_actions, _overfitting_advice,
    ),
    Rule(
        "rate_too_high", WARNING, "learning rate too high",
        "Each step goes too far, so that the loss rises or jumps instead of falling. "
        "A lower learning rate makes smaller steps.",
        symptoms.find_rate_too_high, lambda view: _rate_actions(view, 1 / 3, "a third"), _rate_advice(1 / 3),
    ),
    Rule(
        "rate_too_low", WARNING, "learning rate too low",
        "Each step changes the model so little that most of the run is spent on what takes others a few steps. "
        "A higher learning rate learns more in the same time.",
        symptoms.find_rate_too_low, lambda view: (_set_rate(view, 10), _set_rate(view, 3)), _rate_advice(10),
    ),
    Rule(
        "flat", WARNING, "the loss is not falling",
        "The model learns next to nothing: it is hardly better than guessing. "
        "The learning rate may be too high or too low, or the model too small.",
        symptoms.find_flat, _flat_actions, _flat_advice,
    ),
    Rule(
        "underfitting", WARNING, "underfitting",
        "The model does not even predict the text that it trains on. "
        "It is too small for it or learns too slowly: a larger model, a higher rate or less dropout may help.",
        symptoms.find_underfitting, _underfitting_actions, lambda view: f"--model-dim {view.config.model_dim * 2}",
    ),
    Rule(
        "plateau", NOTE, "plateau",
        "Neither loss falls any more. "
        "A lower learning rate often finds a little more; otherwise the model has learnt what it can.",
        symptoms.find_plateau, lambda view: (_set_rate(view, 1 / 3), _stop(view)),
    ),
    Rule(
        "slower", NOTE, "slower than before",
        "The steps take longer than they did, most often because another program uses the processor. "
        "The run learns the same, only later.",
        symptoms.find_slower,
    ),
    Rule(
        "small_text", NOTE, "text too small",
        "A model with so many parameters can learn such a short text by heart. "
        "More text or a smaller model help most, and more dropout a little.",
        symptoms.find_small_text, _dropout_actions,
    ),
    Rule(
        "wide_gap", NOTE, "wide gap",
        "The model predicts the text that it trains on clearly better than text that it has not seen. "
        "As long as the validation loss falls, it still learns what holds for other text, too.",
        symptoms.find_wide_gap, _dropout_actions,
    ),
    Rule(
        "worse", NOTE, "not at its best",
        "The loss on text that the model has not seen was lower before. "
        "One such epoch means little; if more follow, lower the learning rate or go back to the best state.",
        symptoms.find_worse, lambda view: _rate_actions(view, 1 / 3, "a third"),
    ),
    Rule(
        "healthy", GOOD, "healthy",
        "The loss on text that the model has not seen follows the training loss. "
        "A gap of 5 to 15 % is usual; there is nothing to do.",
        symptoms.find_healthy,
    ),
    Rule(
        "waiting", NOTE, "too early to tell",
        "Only the loss on text that the model has not seen shows whether it learns more than this text. "
        "It is measured at the end of each epoch.",
        symptoms.find_what_it_waits_for,
    ),
)  # fmt: skip
