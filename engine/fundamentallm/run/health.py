"""How a run stands: what its curves mean, the numbers that show it, and what can be done about it. No torch.

- A verdict is a pure function of a `RunHistory` and of the settings as they are now. The trainer, the console, the
  command line and a resumed run call the same one, so they all say the same at the same step.
- `RULES` is a table. The first rule that holds is the verdict: each later one would advise something else.
- Warnings are announced in the log at the end of the epoch in which they begin to hold.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from math import log
from typing import Any

from fundamentallm.config.advice import advise_not_finite
from fundamentallm.config.config import Config
from fundamentallm.run.events import Evaluated
from fundamentallm.run.history import RunHistory

GOOD, NOTE, WARNING, BAD = "good", "note", "warning", "bad"  # levels
STOP, RESUME_BEST = "stop", "resume_best"  # commands

FLAT = 0.01  # a relative change below this counts as none
NEAR_GUESSING = 0.75  # of the loss of blind guessing: above this, little was learnt
FAR_ABOVE_GUESSING = 1.5  # times the loss of blind guessing
HEALTHY_GAP = 0.15  # how much higher than the training loss the validation loss may be


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
class View:
    """What the rules look at: a history as it was after `step`."""

    history: RunHistory
    config: Config
    vocab_size: int
    step: int

    @cached_property
    def epochs(self) -> list[Evaluated]:
        """The evaluations at the ends of epochs. Those in the middle have the training loss of a part of one."""
        return [event for event in self.history.evaluations if event.epoch_ended and event.step <= self.step]

    @property
    def last(self) -> Evaluated:
        return self.epochs[-1]

    @cached_property
    def best(self) -> Evaluated:
        return min(self.epochs, key=lambda epoch: epoch.val_loss)

    @property
    def guessing(self) -> float:
        """The loss of blind guessing."""
        return log(self.vocab_size)

    @property
    def gap(self) -> float:
        """How much higher than the training loss the validation loss is, as a share of it."""
        return self.last.val_loss / self.last.train_loss - 1 if self.last.train_loss > 0 else 0.0


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
    """Judge how a run stands.

    Args:
        config: the settings as they are now.
        step: judge the run as it was after this step; None: as it is.
    """
    view = View(history, config, vocab_size, history.step if step is None else step)
    for rule in RULES:
        if evidence := rule.find(view):
            return Verdict(
                rule.kind, rule.level, rule.headline, evidence, rule.explanation, rule.actions(view), rule.advise(view)
            )
    raise AssertionError("the last rule always holds")


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


# ---- the rules ----


def _find_nothing_to_learn(view: View) -> str:
    text = "the text is one character, again and again, so every guess is right; train on other text"
    return text if view.vocab_size == 1 and view.epochs else ""


def _find_divergence(view: View) -> str:
    """The model predicts far worse than blind guessing.

    A validation loss alone may get there by overfitting; then the training loss is low.
    """
    if not view.epochs:
        return ""
    limit, learnt, last = FAR_ABOVE_GUESSING * view.guessing, NEAR_GUESSING * view.guessing, view.last
    if last.train_loss <= limit and not (last.val_loss > limit and last.train_loss >= learnt):
        return ""
    name, loss = max(("training", last.train_loss), ("validation", last.val_loss), key=lambda pair: pair[1])
    return f"the {name} loss is {loss:.3f}, far above that of blind guessing, {view.guessing:.3f}"


def _find_overfitting(view: View) -> str:
    """The validation loss has risen since its best epoch while the training loss fell.

    It counts that both of the last two epochs are worse than the best, and the last by one percent.
    """
    if len(view.epochs) < 3:
        return ""
    best, last = view.best, view.last
    worse = all(epoch.val_loss > best.val_loss for epoch in view.epochs[-2:])
    if not worse or last.val_loss < best.val_loss * (1 + FLAT) or last.train_loss >= best.train_loss:
        return ""
    kept = view.history.best
    keeps = "" if kept is None else f"; best.pt keeps {_name(kept)}"
    return (
        f"since epoch {best.epoch} the validation loss rose from {best.val_loss:.3f} to {last.val_loss:.3f} "
        f"while the training loss fell to {last.train_loss:.3f}{keeps}"
    )


def _name(evaluation: Evaluated) -> str:
    return f"epoch {evaluation.epoch}" if evaluation.epoch_ended else f"step {evaluation.step}"


def _find_flat(view: View) -> str:
    """The training loss does not fall although it is still near that of blind guessing."""
    if len(view.epochs) < 2:
        return ""
    before, now = view.epochs[-2].train_loss, view.last.train_loss
    if now < NEAR_GUESSING * view.guessing or before - now > FLAT * before:
        return ""
    return f"{before:.3f}, then {now:.3f} (blind guessing is {view.guessing:.3f})"


def _find_wide_gap(view: View) -> str:
    return _losses(view) if view.epochs and view.gap > HEALTHY_GAP else ""


def _find_healthy(view: View) -> str:
    return _losses(view) if view.epochs else ""


def _losses(view: View) -> str:
    last, best = view.last, view.best
    when = "the best so far" if best is last else f"the best was {best.val_loss:.3f} in epoch {best.epoch}"
    return f"gap {100 * view.gap:.0f} %: train {last.train_loss:.3f}, val {last.val_loss:.3f}, {when}"


# ---- what can be done ----


def _more_dropout(view: View) -> dict[str, float]:
    """More dropout, as a change; none where too little would be left to learn with."""
    dropout = round(max(0.1, view.config.dropout) + 0.1, 2)
    return {"dropout": dropout} if dropout <= 0.5 else {}


def _set_rate(view: View, factor: float) -> Action:
    rate = float(f"{view.config.learning_rate * factor:.1g}")
    word = "Lower" if factor < 1 else "Raise"
    return Action(f"{word} the learning rate to {rate:g}", {"learning_rate": rate})


def _stop_actions(view: View) -> tuple[Action, ...]:
    return (Action("Stop the run", command=STOP),)


def _go_back_actions(view: View) -> tuple[Action, ...]:
    lower = _set_rate(view, 0.1)
    if view.history.best is None:
        return (lower,)
    back = Action(
        f"Resume from best.pt ({_name(view.history.best)}) with a tenth of the rate", lower.changes, RESUME_BEST
    )
    return (back, lower)


def _overfitting_actions(view: View) -> tuple[Action, ...]:
    kept, more = view.history.best, _more_dropout(view)
    keeps = "Stop the run" if kept is None else f"Stop, and keep best.pt ({_name(kept)})"
    actions = [Action(keeps, command=STOP)]
    if more:
        actions.append(Action(f"More dropout: {more['dropout']:g}", more))
        if kept is not None:
            label = f"Resume from best.pt with dropout {more['dropout']:g}"
            actions.append(Action(label, more, RESUME_BEST))
    return tuple(actions)


def _overfitting_advice(view: View) -> str:
    more = _more_dropout(view)
    return (f"--dropout {more['dropout']:g}, " if more else "") + f"--epochs {view.best.epoch}, or more text"


def _flat_actions(view: View) -> tuple[Action, ...]:
    return (_set_rate(view, 3 if view.config.learning_rate < 1e-3 else 1 / 3),)


def _flat_advice(view: View) -> str:
    rate = _flat_actions(view)[0].changes["learning_rate"]
    return f"--learning-rate {rate:g}, or a larger model (--model-dim {view.config.model_dim * 2})"


RULES = (
    Rule(
        "nothing_to_learn", WARNING, "nothing to learn",
        "The text repeats one character, so the model knows it after a few steps. Choose another text.",
        _find_nothing_to_learn, _stop_actions,
    ),
    Rule(
        "diverged", BAD, "diverged",
        "The steps were so large that they destroyed what the model had learnt; it now guesses worse than by chance. "
        "A lower learning rate makes smaller steps.",
        _find_divergence, _go_back_actions, lambda view: advise_not_finite(view.config),
    ),
    Rule(
        "overfitting", WARNING, "overfitting",
        "The model memorises the text that it trains on, and gets worse on text that it has not seen. "
        "The best state is already saved; more dropout or more text help, more epochs do not.",
        _find_overfitting, _overfitting_actions, _overfitting_advice,
    ),
    Rule(
        "flat", WARNING, "the loss is not falling",
        "The model learns next to nothing: it is hardly better than guessing. "
        "The learning rate may be too high or too low, or the model too small.",
        _find_flat, _flat_actions, _flat_advice,
    ),
    Rule(
        "wide_gap", NOTE, "wide gap",
        "The model predicts the text that it trains on clearly better than text that it has not seen. "
        "As long as the validation loss still falls, it learns something that holds for other text, too.",
        _find_wide_gap, lambda view: _overfitting_actions(view)[1:2],
    ),
    Rule(
        "healthy", GOOD, "healthy",
        "The loss on text that the model has not seen follows the training loss. There is nothing to do.",
        _find_healthy,
    ),
    Rule(
        "waiting", NOTE, "too early to tell",
        "The validation loss is measured at the end of each epoch. It shows whether the model learns what holds for "
        "other text, too.",
        lambda view: "the first verdict comes after epoch 1",
    ),
)  # fmt: skip
