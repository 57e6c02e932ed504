"""How a run stands: what its curves mean, the numbers that show it, and what can be done about it. No torch.

- A verdict is a pure function of a `RunHistory` and of the settings as they are now. The trainer, the console, the
  command line and a resumed run call the same one, so they all say the same at the same step.
- `RULES` is a table. The first rule that holds is the verdict: each later one would advise something else.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fundamentallm.config.config import SETTINGS, Config, ConfigError, Layer, resolve
from fundamentallm.run import symptoms
from fundamentallm.run.history import RunHistory
from fundamentallm.run.symptoms import View, name_epoch

GOOD, NOTE, WARNING, BAD = "good", "note", "warning", "bad"  # levels
CHANGE, STOP, RESUME_BEST = "change", "stop", "resume_best"  # commands

Changes = dict[str, Any]


@dataclass(frozen=True)
class Action:
    """What the user can do: CHANGE live settings, STOP, or RESUME_BEST, with changes or without."""

    label: str
    command: str
    changes: Changes = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """How a run stands."""

    kind: str  # the name of the rule
    level: str
    headline: str  # a few words
    evidence: str  # the numbers that show it
    explanation: str  # two sentences for someone who has never trained a model
    actions: tuple[Action, ...] = ()  # the best one first
    advice: str = ""  # the same for the command line

    @property
    def is_warning(self) -> bool:
        return self.level in (WARNING, BAD)

    @property
    def sentence(self) -> str:
        """The verdict as the log has it."""
        return f"{self.headline}: {self.evidence}" + (f"; try {self.advice}" if self.advice else "")


@dataclass(frozen=True)
class Rule:
    """A row of the table. `find` returns the evidence, and an empty text where the rule does not hold.

    `actions` has commands and what they change; one with nothing to change or to go back to is not offered. `advice` is
    what else can be done on the command line, beside the first of these changes.
    """

    kind: str
    level: str
    headline: str
    explanation: str
    find: Callable[[View], str]
    actions: tuple[tuple[str, Callable[[Config], Changes] | None], ...] = ()
    advice: str = ""


def assess(history: RunHistory, config: Config, vocab_size: int, step: int | None = None) -> Verdict:
    """Judge how a run stands, or stood after `step`; `config` has the settings as they are now."""
    view = View(history, config, vocab_size, history.step if step is None else step)
    rule, evidence = next((rule, evidence) for rule in RULES if (evidence := rule.find(view)))
    offers = (_offer(view, command, change(config) if change else {}) for command, change in rule.actions)
    actions = tuple(action for action in offers if action is not None)
    changes = next((action.changes for action in actions if action.changes), {})
    ways = [f"{SETTINGS[name].flag} {value:g}" for name, value in changes.items()]
    if rule.advice:
        best, clip = view.best.epoch if view.epochs else 0, config.gradient_clip / 2 or 1
        ways.append(rule.advice.format(epoch=best, model_dim=2 * config.model_dim, clip=clip))
    return Verdict(rule.kind, rule.level, rule.headline, evidence, rule.explanation, actions, ", ".join(ways))


def assess_epoch(history: RunHistory, config: Config, vocab_size: int) -> Verdict:
    """Judge how a run stood when its newest epoch ended, or at its start."""
    ends = (event.step for event in history.evaluations if event.epoch_ended)
    return assess(history, config, vocab_size, max(ends, default=0))


def assess_run(history: RunHistory) -> Verdict | None:
    """Judge a run by its journal alone; None where that has no start, or one with settings that no run can have."""
    if history.started is None:
        return None
    try:
        config = resolve(Layer({name: value for name, value in history.config.items() if name in SETTINGS}))
    except ConfigError:  # another version's journal, or someone else's
        return None
    return assess(history, config, history.started.vocab_size)


def _offer(view: View, command: str, changes: Changes) -> Action | None:
    kept = view.history.best
    best = f"best.pt ({name_epoch(kept)})" if kept is not None else ""
    if command == STOP:
        return Action(f"Stop, and keep {best}" if best else "Stop the run", command)
    if not changes or (command == RESUME_BEST and not best):
        return None
    ((name, value),) = changes.items()
    words = name.replace("_", " ")
    if command == RESUME_BEST:
        return Action(f"Resume from {best} with {words} {value:g}", command, changes)
    verb = "Lower" if value < getattr(view.config, name) else "Raise"
    return Action(f"{verb} the {words} to {value:g}", command, changes)


def _rate(factor: float) -> Callable[[Config], Changes]:
    return lambda config: {"learning_rate": min(1.0, float(f"{config.learning_rate * factor:.1g}"))}


def _other_rate(config: Config) -> Changes:
    return _rate(3 if config.learning_rate < 1e-3 else 1 / 3)(config)


def _more_dropout(config: Config) -> Changes:
    """More dropout; no change where too little would be left to learn with."""
    dropout = round(max(0.1, config.dropout) + 0.1, 2)
    return {"dropout": dropout} if dropout <= 0.5 else {}


def _no_dropout(config: Config) -> Changes:
    return {"dropout": 0.0} if config.dropout else {}


RULES = (
    Rule(
        "nothing_to_learn", WARNING, "nothing to learn",
        "The text repeats one character, so the model knows it after a few steps. Choose another text.",
        symptoms.find_nothing_to_learn, ((STOP, None),),
    ),
    Rule(
        "diverged", BAD, "diverged",
        "The steps were so large that they destroyed what the model had learnt; it guesses worse than by chance. "
        "A lower learning rate makes smaller steps.",
        symptoms.find_divergence, ((RESUME_BEST, _rate(0.1)), (CHANGE, _rate(0.1))),
        "or clip harder with --gradient-clip {clip:g}",
    ),
    Rule(
        "failed", BAD, "failed",
        "The run broke off. What it had saved before can be resumed.",
        symptoms.find_failure,
    ),
    Rule(
        "overfitting", WARNING, "overfitting",
        "The model memorises the text that it trains on, and gets worse on text that it has not seen. "
        "More dropout or more text help; more epochs do not.",
        symptoms.find_overfitting, ((STOP, None), (CHANGE, _more_dropout), (RESUME_BEST, _more_dropout)),
        "--epochs {epoch}, or more text",
    ),
    Rule(
        "rate_too_high", WARNING, "learning rate too high",
        "Each step goes too far, so that the loss rises or jumps instead of falling. "
        "A lower learning rate makes smaller steps.",
        symptoms.find_rate_too_high, ((CHANGE, _rate(1 / 3)), (RESUME_BEST, _rate(1 / 3))),
    ),
    Rule(
        "rate_too_low", WARNING, "learning rate too low",
        "Each step changes the model so little that most of the run is spent on what takes others a few steps. "
        "A higher learning rate learns more in the same time.",
        symptoms.find_rate_too_low, ((CHANGE, _rate(10)), (CHANGE, _rate(3))),
    ),
    Rule(
        "flat", WARNING, "the loss is not falling",
        "The model learns next to nothing: it is hardly better than guessing. "
        "The learning rate may be too high or too low, or the model too small.",
        symptoms.find_flat, ((CHANGE, _other_rate),), "or a larger model (--model-dim {model_dim})",
    ),
    Rule(
        "underfitting", WARNING, "underfitting",
        "The model does not even predict the text that it trains on. "
        "It is too small for it or learns too slowly: a larger model, a higher rate or less dropout may help.",
        symptoms.find_underfitting, ((CHANGE, _rate(3)), (CHANGE, _no_dropout)),
        "or a larger model (--model-dim {model_dim})",
    ),
    Rule(
        "plateau", NOTE, "plateau",
        "Neither loss falls any more. "
        "A lower learning rate often finds a little more; otherwise the model has learnt what it can.",
        symptoms.find_plateau, ((CHANGE, _rate(1 / 3)), (STOP, None)),
    ),
    Rule(
        "slower", NOTE, "slower than before",
        "The steps take longer than they did, most often because another program uses the processor. "
        "The run learns the same, only later.",
        symptoms.find_slower,
    ),
    Rule(
        "small_text", NOTE, "text too small",
        "The model predicts the text that it trains on clearly better than other text: it can learn so short a text by "
        "heart. More text or a smaller model help most, and more dropout a little.",
        symptoms.find_small_text, ((CHANGE, _more_dropout),),
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
        "It is measured at the end of each epoch; a single one that is worse than the best means little.",
        symptoms.find_what_it_waits_for,
    ),
)  # fmt: skip
