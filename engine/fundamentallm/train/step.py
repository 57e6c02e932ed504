"""One optimizer step: deterministic, and depends only on weights, optimizer state, settings, seed and step number.

- Forward and backward over the step's windows, check that the result is finite, clip the gradient, move the weights.
- Depends on nothing that happens between two steps, so a resumed run takes the same steps: on a CPU to the same bits,
  given the same machine, torch and number of threads; on a GPU up to rounding, as the backward pass of flash attention
  adds up in an order that changes from call to call.
"""

import warnings
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.profiler import record_function  # names a part in a trace; 15 µs where none is made

from fundamentallm.config.config import Layer, resolve
from fundamentallm.data.corpus import IGNORED
from fundamentallm.errors import UserError, describe_error
from fundamentallm.model.dropout import DropoutMasks, fold_in
from fundamentallm.model.threads import THREADS, in_two_threads
from fundamentallm.run.events import Inspected
from fundamentallm.run.spec import RunSpec
from fundamentallm.train import distributed
from fundamentallm.train.checkpoint import Checkpoint
from fundamentallm.train.device import is_out_of_memory
from fundamentallm.train.layers import LayerProbe
from fundamentallm.train.metrics import NotFinite, StepResult
from fundamentallm.train.state import TrainState, build_state

COMPILED_TOLERANCE = 0.01  # relative difference between a compiled loss and the plain one; 16-bit formats need it


class TrainStep:
    """Takes the steps of a run. Settings are read from the state at each step: a live change counts from the next."""

    def __init__(self, state: TrainState) -> None:
        self._state = state
        self._parameters = list(state.model.parameters())
        tensors = state.optimizer.state_dict().values()
        self._model = distributed.share_state(state.model, tensors, lambda: _described(state))
        self._loss = loss_sum
        self.inspected: Inspected | None = None  # what the last step did to each layer, where that was due
        self.updating = False  # while the optimizer moves the weights: they are neither old nor new
        # 1 until a step was not finite and 0 from then on. A tensor on a GPU, so that the host need not wait for it.
        self._ok = 1.0 if state.device.type == "cpu" else torch.ones((), device=state.device)

    def __call__(self, step: int) -> StepResult:
        """Take step number `step` (0, 1, ...).

        Returns:
            What it measured. On a GPU, the weights no longer move from the first step on that is not finite.

        Raises:
            NotFinite: on the CPU, where checking costs nothing; before the weights move.
        """
        state, config = self._state, self._state.config
        loss = self.backward(step)
        norm = torch.nn.utils.get_total_norm([p.grad for p in self._parameters if p.grad is not None])

        # Check before the update: a single NaN in a gradient would spread to every weight.
        is_finite = torch.isfinite(loss) & torch.isfinite(norm)
        if isinstance(self._ok, Tensor):
            self._ok *= is_finite.float()
        elif not is_finite:
            self.discard_gradients()
            raise NotFinite(f"the loss is {loss.item():g} and the norm of its gradient {norm.item():g}")

        every = config.inspect_every
        probe = LayerProbe(state.model) if every and (step + 1) % every == 0 else None

        # Clip: if the gradient is longer than allowed, shorten it; its direction stays.
        if config.gradient_clip:
            torch.nn.utils.clip_grads_with_norm_(self._parameters, config.gradient_clip, norm)

        learning_rate = state.learning_rate(step)
        self.updating = True
        with record_function("optimizer"):
            state.optimizer.step(learning_rate, config.weight_decay, self._ok)
        self.updating = False
        self.inspected = None if probe is None else probe.measure(step + 1)
        return StepResult(loss, norm, learning_rate, state.corpus.real_rows(step) * config.max_seq_len)

    def backward(self, step: int) -> Tensor:
        """Compute a step's loss, and leave its gradient in the parameters. Moves no weight.

        The batch is computed in micro-batches of `batch_size` windows, which is all that has to fit into memory;
        gradients add up. Each loss is divided by the tokens of the whole batch, so the sum is the gradient of the mean.
        Two threads of a CPU compute half of a micro-batch each; of several processes, each computes its share of the
        batch's windows. Their gradients and losses add up, too.

        Returns:
            The mean loss over the real tokens of the whole batch, in nats; a scalar on the device.
        """
        state, config = self._state, self._state.config
        rows = state.corpus.real_rows(step)
        tokens = rows * config.max_seq_len
        # The gradients of a mean over many tokens are too small for the 5 bits of exponent that float16 has: take those
        # of the sum there, and divide them afterwards, in float32.
        scale = tokens if state.precision.dtype == torch.float16 else 1
        total = torch.zeros((), device=state.device)
        first, count, size = distributed.rows_of(config)  # all rows, and `batch_size`, where one process trains
        mine = range(first // size, (first + count) // size)
        # Those that hold no real window are left out; a process that has no other takes part with one of them.
        numbers = [number for number in mine if number * size < rows] or mine[:1]
        for number in numbers:
            with record_function("batch"):
                # contiguous: the last batch of an epoch has another memory layout, and would be compiled a second time
                inputs, targets = (part.contiguous() for part in state.corpus.batch(step, number, size))  # (B, T) each
            if self._in_halves:
                total += self._backward_in_halves(step, number * size, inputs, targets, tokens)
                continue
            kept = distributed.gradients_stay(self._model) if number != numbers[-1] else nullcontext()
            with kept:
                loss = self._forward(step, number * size, inputs, targets)
            with record_function("backward"):
                # DistributedDataParallel divides the sum over the processes by their number.
                (loss * (scale * distributed.size() / tokens)).backward()  # type: ignore[no-untyped-call]
            total += loss.detach() / tokens
        if scale != 1:
            for p in self._parameters:
                assert p.grad is not None
                p.grad /= scale
        return distributed.add_up(total)

    @property
    def _in_halves(self) -> bool:
        """Whether two threads compute half of each micro-batch each."""
        state = self._state
        may = state.halves and not state.compiled and state.config.batch_size > 1
        return may and state.device.type == "cpu" and distributed.size() == 1 and torch.get_num_threads() == THREADS

    def _forward(self, step: int, first: int, inputs: Tensor, targets: Tensor) -> Tensor:
        """Compute the sum of the losses of some windows; `first` is the place of their first in the step's batch."""
        state, config = self._state, self._state.config
        key, sites = fold_in(config.seed, step), state.model.num_dropout_sites  # a mask: of (seed, step, site, row)
        masks = DropoutMasks(key, sites, first, len(inputs), config.dropout, state.device)
        with state.precision.forward(), record_function("forward"):
            return self._loss(self._model, inputs, targets, masks)

    def _backward_in_halves(self, step: int, first: int, inputs: Tensor, targets: Tensor, tokens: int) -> Tensor:
        """Do what `backward` does with a micro-batch in two threads, each with half of its windows; returns the loss.

        Each half has gradients of its own, which are added up in the same order each time.
        """

        def compute(rows: slice) -> tuple[Tensor, tuple[Tensor, ...]]:
            loss = self._forward(step, first + rows.start, inputs[rows], targets[rows]) / tokens
            with record_function("backward"):
                return loss.detach(), torch.autograd.grad(loss, self._parameters)

        middle, end = len(inputs) // 2, len(inputs)
        (loss, gradients), (other_loss, others) = in_two_threads(compute, slice(0, middle), slice(middle, end))
        for p, gradient, other in zip(self._parameters, gradients, others, strict=True):
            gradient += other
            p.grad = gradient if p.grad is None else p.grad.add_(gradient)
        return loss + other_loss

    def compile(self, step: int) -> str:
        """Compute the loss by compiled code from now on, if that gives the right loss for this step. Moves no weight.

        Returns why the model stays uncompiled, in one line; empty if it is compiled now.
        """
        if distributed.size() > 1:
            return "several processes train it"
        plain = self.backward(step)
        self.discard_gradients()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the compiler warns of optimizations that it leaves out
                torch._dynamo.config.cache_size_limit = 1000  # each live change of dropout compiles anew
                self._loss = torch.compile(loss_sum, dynamic=False)
                compiled = self.backward(step)
            matches = torch.allclose(compiled, plain, rtol=COMPILED_TOLERANCE)
            why = "" if matches else f"computed {compiled:g} instead of {plain:g}"
        except Exception as error:  # no compiler, an old GPU, ...: torch raises many kinds
            if is_out_of_memory(error):
                raise
            why = describe_error(error)[:200]
        self.discard_gradients()
        if why:
            self._loss = loss_sum
        return why

    def discard_gradients(self) -> None:
        """Forget what `backward` left in the parameters."""
        for p in self._parameters:
            p.grad = None


def loss_sum(model: nn.Module, inputs: Tensor, targets: Tensor, masks: DropoutMasks) -> Tensor:
    """Compute the loss of predicting each token from those before it.

    Args:
        inputs: tokens, int64 (B, T).
        targets: the same text one token on, int64 (B, T); `IGNORED` where no prediction counts.

    Returns:
        The cross-entropies of all real targets added up, a scalar in nats.
    """
    logits = model(inputs, masks)  # (B, T, V)
    return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORED, reduction="sum")


def _described(state: TrainState) -> Checkpoint:
    """What the other processes of a run build their state from. Its tensors come later; only rank 0 writes."""
    now = state.checkpoint()
    silent = {**now.config, "tensorboard": False, "wandb": False, "track": []}
    return replace(now, model={}, optimizer={}, config=silent)


def follow(is_stopping: Callable[[], bool]) -> None:
    """Take the steps that rank 0 announces, until there is none, in a process that is not rank 0.

    `is_stopping`: whether this process was asked to stop; rank 0 gets to know it and stops the run. A UserError that
    says why this process cannot take part is raised in all of them.
    """
    described: Checkpoint | None = distributed.receive_description()
    if described is None:
        return
    try:
        config = resolve(Layer(described.config))
        state = build_state(RunSpec(config, Path("written by rank 0")), described)
    except UserError as error:
        return distributed.report(str(error))
    take_step = TrainStep(state)
    while True:
        step, config_now = distributed.next_step(is_stopping())
        if step == distributed.END:
            return
        state.config = config_now or state.config
        with suppress(NotFinite):  # rank 0 meets it, too, and ends the run
            take_step(step)
