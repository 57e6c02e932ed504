"""How a run stands: what its curves mean, the numbers that show it, and what can be done about it. No torch.

- A verdict is a pure function of a `RunHistory` and of the settings as they are now. The trainer, the console, the
  command line and a resumed run call the same one, so they all say the same at the same step.
- `RULES` is a table. The first rule that holds is the verdict: each later one would advise something else.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import inf

from fundamentallm.config.advice import Changes, advise, find_changes
from fundamentallm.config.config import Config
from fundamentallm.run import symptoms
from fundamentallm.run.history import RunHistory
from fundamentallm.run.symptoms import View, name_epoch

GOOD, NOTE, WARNING, BAD = "good", "note", "warning", "bad"  # levels
CHANGE, STOP, RESUME_BEST = "change", "stop", "resume_best"  # commands


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

    `commands` are what the user can do: CHANGE and RESUME_BEST offer the changes that `config/advice.py` has for it.
    """

    kind: str
    level: str
    headline: str
    explanation: str
    find: Callable[[View], str]
    commands: tuple[str, ...] = ()


# How many times the learning rate of best.pt these lower, at most: a rate may have been raised since.
LOWERED = {"diverged": 10, "rate_too_high": 3}


def assess(history: RunHistory, config: Config, vocab_size: int, step: int | None = None) -> Verdict:
    """Judge how a run stands, or stood after `step`; `config` has the settings as they are now."""
    view = View(history, config, vocab_size, history.step if step is None else step)
    rule, evidence = next((rule, evidence) for rule in RULES if (evidence := rule.find(view)))
    if rule.kind in LOWERED:
        config = replace(config, learning_rate=min(config.learning_rate, LOWERED[rule.kind] * _rate_at_best(view)))
    changes = find_changes(rule.kind, config)
    offers = (
        _offer(view, command, each) for command in rule.commands for each in ([{}] if command == STOP else changes)
    )
    if rule.kind == "failed" and view.failed is not None:
        advice = view.failed.advice
    else:
        advice = advise(rule.kind, config, view.best.epoch if view.epochs else 0)
    actions = tuple(action for action in offers if action is not None)
    return Verdict(rule.kind, rule.level, rule.headline, evidence, rule.explanation, actions, advice)


def assess_epoch(history: RunHistory, config: Config, vocab_size: int) -> Verdict:
    """Judge how a run stood when its newest epoch ended, or at its start."""
    ends = (event.step for event in history.evaluations if event.epoch_ended)
    return assess(history, config, vocab_size, max(ends, default=0))


def assess_run(history: RunHistory) -> Verdict | None:
    """Judge a run by its journal alone; None where that has no start, or one with settings that no run can have."""
    config, started = history.settings, history.started
    return assess(history, config, started.vocab_size) if config is not None and started is not None else None


def _rate_at_best(view: View) -> float:
    """The learning rate, as a setting, with which the run came to best.pt; infinite where there is none."""
    if (best := view.history.best) is None:
        return inf
    changes = view.history.changes_made()
    later = [change.old for change in changes if change.setting == "learning_rate" and change.step >= best.step]
    return later[0] if later and isinstance(later[0], float) else view.config.learning_rate


def _offer(view: View, command: str, changes: Changes) -> Action | None:
    """Offer a command; None where there is no best.pt to resume from."""
    kept = view.history.best
    best = f"best.pt ({name_epoch(kept)})" if kept is not None else ""
    if command == STOP:
        return Action(f"Stop, and keep {best}" if best else "Stop the run", command)
    if command == RESUME_BEST and not best:
        return None
    ((name, value),) = changes.items()
    words = name.replace("_", " ")
    if command == RESUME_BEST:
        return Action(f"Resume from {best} with {words} {value:g}", command, changes)
    verb = "Lower" if value < getattr(view.config, name) else "Raise"
    return Action(f"{verb} the {words} to {value:g}", command, changes)


RULES = (
    Rule(
        "nothing_to_learn", WARNING, "nothing to learn",
        "The text repeats one character, so the model knows it after a few steps. Choose another text.",
        symptoms.find_nothing_to_learn, (STOP,),
    ),
    Rule(
        "diverged", BAD, "diverged",
        "The steps were so large that they destroyed what the model had learnt; it guesses worse than by chance. "
        "A lower learning rate makes smaller steps.",
        symptoms.find_divergence, (RESUME_BEST, CHANGE),
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
        symptoms.find_overfitting, (STOP, CHANGE, RESUME_BEST),
    ),
    Rule(
        "rate_too_high", WARNING, "learning rate too high",
        "Each step goes too far, so that the loss rises or jumps instead of falling. "
        "A lower learning rate makes smaller steps.",
        symptoms.find_rate_too_high, (CHANGE, RESUME_BEST),
    ),
    Rule(
        "rate_too_low", WARNING, "learning rate too low",
        "Each step changes the model so little that most of the run is spent on what takes others a few steps. "
        "A higher learning rate learns more in the same time.",
        symptoms.find_rate_too_low, (CHANGE,),
    ),
    Rule(
        "flat", WARNING, "the loss is not falling",
        "The model learns next to nothing: it is hardly better than guessing. "
        "The learning rate may be too high or too low, or the model too small.",
        symptoms.find_flat, (CHANGE,),
    ),
    Rule(
        "underfitting", WARNING, "underfitting",
        "The model does not even predict the text that it trains on. "
        "It is too small for it or learns too slowly: a larger model, a higher rate or less dropout may help.",
        symptoms.find_underfitting, (CHANGE,),
    ),
    Rule(
        "plateau", NOTE, "plateau",
        "Neither loss falls any more. "
        "A lower learning rate often finds a little more; otherwise the model has learnt what it can.",
        symptoms.find_plateau, (CHANGE, STOP),
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
        symptoms.find_small_text, (CHANGE,),
    ),
    Rule(
        "ended_worse", NOTE, "ended above its best",
        "The last state predicts other text worse than an earlier one, which is in best.pt: use that. "
        "A lower learning rate, or a run that ends earlier, ends better.",
        symptoms.find_worse_end,
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
