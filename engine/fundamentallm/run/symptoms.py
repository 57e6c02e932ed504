"""The symptoms of a run: each function looks at the curves and returns the numbers that show it, or an empty text.

The limits were chosen on recorded runs of the presets and of runs with one setting spoilt; `tests/benchmarks` measures
how often they raise a false alarm.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import log
from statistics import median

from fundamentallm.config.config import Config
from fundamentallm.config.estimate import token_noun
from fundamentallm.config.format import format_norm, format_rate
from fundamentallm.run.events import NOT_FINITE, Evaluated, Failed
from fundamentallm.run.history import RunHistory

# Times the loss of blind guessing. Who knows only how frequent each letter is gets about 0.75, of pairs of letters 0.6.
FAR_ABOVE, ABOVE, NEAR, HIGH = 1.5, 1.1, 0.75, 0.6
FLAT = 0.01  # a relative change below this counts as none
SLOW_FALL = 0.02  # of the training loss in an epoch
HEALTHY_GAP = 0.15  # how much higher than the training loss the validation loss may be
SMALL_GAP = 0.05
LOW_RATE = 3e-4  # the presets have 3e-4 to 1e-3
PLATEAU_EPOCHS = 4

NOW = 16  # steps whose mean is the loss now
BLOCK = 32  # steps whose mean has little noise
LOOK_BACK = 32 * BLOCK  # how far back blocks are compared
RISE = 1.2  # times the lowest block
JUMP, JUMPS = 1.3, 3  # times the step before, and how often in four blocks; the steps of healthy runs stay below 1.15,
NOISE = 10  # times the median deviation; but where a step has 32 tokens only, one in forty reaches 1.5
GROWTH = 4.0  # times the median norm of the gradient before
OTHER_LOSS = ("dropout", "augment", "data", "include")  # settings by which the training loss gets another level
SPEEDS, SLOWER = 6, 0.6  # half a minute whose median is this share of the median before


def mean(values: Sequence[float]) -> float:
    """The mean; infinite or NaN where a value is, which `statistics.fmean` refuses: a journal may have any numbers."""
    return sum(values) / len(values)


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
        return log(max(1, self.vocab_size))

    @property
    def gap(self) -> float:
        """How much higher than the training loss the validation loss is, as a share of it."""
        return self.last.val_loss / self.last.train_loss - 1 if self.last.train_loss > 0 else 0.0

    @cached_property
    def comparable(self) -> int:
        """The step since which training losses compare: more dropout makes them higher, and the model no worse."""
        changes = (change for change in self.history.changes_made() if change.setting in OTHER_LOSS)
        return max((change.step for change in changes if change.step <= self.step), default=0)

    @cached_property
    def comparable_epochs(self) -> list[Evaluated]:
        """The epochs that began when training losses compared already."""
        begins = [0, *(epoch.step for epoch in self.epochs[:-1])]
        return [epoch for begin, epoch in zip(begins, self.epochs, strict=False) if begin >= self.comparable]

    def rows(self, column: str, count: int) -> list[float]:
        """A column of the last steps that compare, at most so many; fewer where the history has no more."""
        first, end = (bisect_right(self.history.steps, step) for step in (self.comparable, self.step))
        return list(getattr(self.history, column)[max(first, end - count) : end])

    @property
    def failed(self) -> Failed | None:
        """How the run failed; None where it did not, or only after `step`."""
        end = self.history.end
        return end if isinstance(end, Failed) and end.step <= self.step else None

    @cached_property
    def loss_now(self) -> float | None:
        """The training loss of the last steps, or of the last epoch where the steps are not known."""
        recent = self.rows("train_loss", NOW)
        if len(recent) == NOW:
            return mean(recent)
        return self.last.train_loss if self.epochs else None


def find_nothing_to_learn(view: View) -> str:
    text = "the text is one character, again and again, so every guess is right; train on other text"
    return text if view.vocab_size == 1 and view.epochs else ""


def find_divergence(view: View) -> str:
    """The model predicts far worse than blind guessing, or a loss was not a number.

    A validation loss alone may get there by overfitting; then the training loss is low.
    """
    loss = view.loss_now
    if view.failed is not None and view.failed.cause == NOT_FINITE:
        return view.failed.error
    if loss is None:
        return ""
    val_loss = view.last.val_loss if view.epochs else 0.0
    limit, learnt = FAR_ABOVE * view.guessing, NEAR * view.guessing
    if loss <= limit and not (val_loss > limit and loss >= learnt):
        return ""
    name, loss = max(("training", loss), ("validation", val_loss), key=lambda pair: pair[1])
    return f"the {name} loss is {loss:.3f}, far above that of blind guessing, {view.guessing:.3f}"


def find_failure(view: View) -> str:
    return view.failed.error if view.failed is not None else ""


def find_overfitting(view: View) -> str:
    """The validation loss has risen since its best epoch while the training loss fell.

    It counts that both of the last two epochs are worse than the best, and the last by one percent. Where there is no
    gap, the validation loss is only noisy.
    """
    if len(view.epochs) < 3 or view.gap < SMALL_GAP:
        return ""
    best, last = view.best, view.last
    worse = all(epoch.val_loss > best.val_loss for epoch in view.epochs[-2:])
    if not worse or last.val_loss < best.val_loss * (1 + FLAT) or last.train_loss >= best.train_loss:
        return ""
    kept = view.history.best
    keeps = "" if kept is None else f"; best.pt keeps {name_epoch(kept)}"
    return (
        f"since epoch {best.epoch} the validation loss rose from {best.val_loss:.3f} to {last.val_loss:.3f} "
        f"while the training loss fell to {last.train_loss:.3f}{keeps}"
    )


def name_epoch(evaluation: Evaluated) -> str:
    return f"epoch {evaluation.epoch}" if evaluation.epoch_ended else f"step {evaluation.step}"


def find_rate_too_high(view: View) -> str:
    """The training loss is above that of blind guessing, rises or jumps, or the gradient grows in vain."""
    losses = view.rows("train_loss", LOOK_BACK)
    if len(losses) < 2 * NOW or view.loss_now is None:
        return ""
    if view.loss_now > ABOVE * view.guessing:
        return f"the training loss is {view.loss_now:.3f}, above that of blind guessing, {view.guessing:.3f}"
    blocks = [mean(losses[end - BLOCK : end]) for end in range(len(losses), BLOCK - 1, -BLOCK)]  # the newest first
    lowest = min(blocks)
    if len(blocks) > 1 and blocks[0] > RISE * lowest and blocks[0] > (1 - FLAT) * blocks[1]:  # or it falls again
        return f"the training loss rose from {lowest:.3f} to {blocks[0]:.3f} in {BLOCK * blocks.index(lowest)} steps"
    recent = losses[-4 * BLOCK :]
    usual = median(recent)
    least = max(JUMP * usual, usual + NOISE * median(abs(loss - usual) for loss in recent))
    jumps = [after for before, after in pairwise(recent) if after > max(least, JUMP * before)]
    if len(jumps) >= JUMPS:
        return f"{len(jumps)} jumps in {len(recent)} steps, the highest from about {usual:.3f} to {max(jumps):.3f}"
    norms = view.rows("grad_norm", 8 * BLOCK)
    if len(norms) == 8 * BLOCK and blocks[0] >= blocks[4]:
        before, now = median(norms[: 4 * BLOCK]), median(norms[-BLOCK:])
        if now > GROWTH * before:
            grew = f"from {format_norm(before)} to {format_norm(now)}"
            return f"the norm of the gradient grew {grew} in {8 * BLOCK} steps, in which the loss did not fall"
    return ""


def find_rate_too_low(view: View) -> str:
    """Three blocks after the warm-up the loss is still near that of blind guessing."""
    rates = view.rows("learning_rate", 3 * BLOCK)
    if len(rates) < 3 * BLOCK or rates[-1] > rates[0] or view.config.learning_rate >= LOW_RATE:
        return ""
    now = mean(view.rows("train_loss", BLOCK))
    if now < NEAR * view.guessing:
        return ""
    return f"after {view.step:,} steps the training loss is {now:.3f}; blind guessing gives {view.guessing:.3f}"


def find_flat(view: View) -> str:
    """The training loss does not fall although it is still near that of blind guessing."""
    if len(view.comparable_epochs) < 2:
        return ""
    before, now = (epoch.train_loss for epoch in view.comparable_epochs[-2:])
    if now < NEAR * view.guessing or before - now > FLAT * before:
        return ""
    return f"{before:.3f}, then {now:.3f} (blind guessing is {view.guessing:.3f})"


def find_underfitting(view: View) -> str:
    """In the second half of the run both losses are high, equal, and hardly fall."""
    started = view.history.started
    if started is None or len(view.epochs) < 3 or 2 * view.step < started.total_steps or view.gap > SMALL_GAP:
        return ""
    if len(view.comparable_epochs) < 2:
        return ""
    before, now = (epoch.train_loss for epoch in view.comparable_epochs[-2:])
    if now < HIGH * view.guessing or before - now > SLOW_FALL * before:
        return ""
    fell = f"fell by {100 * (1 - now / before):.1f} %" if now < before else "did not fall"
    return f"train {now:.3f} and val {view.last.val_loss:.3f} are high, and train {fell} in the last epoch"


def find_plateau(view: View) -> str:
    """For some epochs neither loss fell by a percent, although the learning rate is not yet at the end of its fall."""
    epochs, rates = view.comparable_epochs, view.rows("learning_rate", 1)
    before, recent = epochs[:-PLATEAU_EPOCHS], epochs[-PLATEAU_EPOCHS:]
    if not before or not rates or rates[-1] < view.config.learning_rate / 2:
        return ""
    best, newest = min(epoch.val_loss for epoch in before), min(epoch.val_loss for epoch in recent)
    if newest < best * (1 - FLAT) or view.last.train_loss < before[-1].train_loss * (1 - FLAT):
        return ""
    train = f"train from {before[-1].train_loss:.3f} to {view.last.train_loss:.3f}"
    return f"in {PLATEAU_EPOCHS} epochs {train}, best val from {best:.3f} to {min(best, newest):.3f}"


def find_slower(view: View) -> str:
    """The last half minute was slow; once the run has ended, that says nothing about it."""
    speeds = view.history.speeds
    if len(speeds) < 3 * SPEEDS or view.history.end is not None:
        return ""
    before, now = median(speeds[:-SPEEDS]), median(speeds[-SPEEDS:])
    return f"{format_rate(now)} tokens a second, {format_rate(before)} before" if now < SLOWER * before else ""


def find_small_text(view: View) -> str:
    """The validation loss is far above the training loss, which a text that is large enough prevents."""
    if not view.epochs or view.gap <= HEALTHY_GAP:
        return ""
    started = view.history.started
    if started is None or not started.train_tokens:
        return describe_losses(view)
    share, noun = started.parameters / started.train_tokens, token_noun(view.config)
    return f"{share:.1f} parameters for each of its {started.train_tokens:,} {noun}s; {describe_losses(view)}"


def find_worse_end(view: View) -> str:
    """The run has ended, and not with its best state."""
    end = view.history.end
    has_ended = end is not None and end.step <= view.step and bool(view.epochs)
    return describe_losses(view) if has_ended and view.last.val_loss > view.best.val_loss * (1 + FLAT) else ""


def find_healthy(view: View) -> str:
    return describe_losses(view) if view.epochs and view.last.val_loss <= view.best.val_loss * (1 + FLAT) else ""


def find_what_it_waits_for(view: View) -> str:
    started, end = view.history.started, view.history.end
    if view.epochs:
        return describe_losses(view)
    if started is None:
        return "the validation loss comes after epoch 1"
    epoch = view.history.epoch_of(started.step + 1)  # a branch may begin in a later one
    if end is not None and end.step <= view.step:
        return f"the run ended before epoch {epoch} did"
    if started.total_steps < (step := epoch * started.steps_per_epoch):
        return f"the validation loss comes at the end, at step {started.total_steps:,}"
    return f"the validation loss comes after epoch {epoch}, at step {step:,}"


def describe_losses(view: View) -> str:
    last, best = view.last, view.best
    between = min((event.val_loss, event.step) for event in view.history.evaluations if event.step <= view.step)
    when = "the best so far" if best is last else f"the best was {best.val_loss:.3f} in epoch {best.epoch}"
    if between[0] < best.val_loss:
        when = f"the best was {between[0]:.3f} at step {between[1]}"
    gap = f"gap {100 * view.gap:.0f} %" if view.gap > 0 else "no gap"  # an epoch's mean has its first steps in it, too
    return f"{gap}: train {last.train_loss:.3f}, val {last.val_loss:.3f}, {when}"
