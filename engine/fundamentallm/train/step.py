"""One optimizer step: a pure function of (weights, optimizer state, config, seed, step)."""

import warnings

import torch
import torch.nn.functional as F
from torch import Tensor

from fundamentallm.config.config import Config
from fundamentallm.data.corpus import IGNORED, Corpus
from fundamentallm.model.dropout import DropoutMasks, fold_in
from fundamentallm.model.transformer import Transformer
from fundamentallm.train.device import Precision, is_out_of_memory
from fundamentallm.train.optimizer import Optimizer

ALIKE = 0.01  # relative; how far a compiled loss may be from the plain one, 16-bit formats included


class NotFinite(Exception):
    """The loss or the gradient of a step is infinite or NaN. The weights are as they were before it."""


class TrainStep:
    """Takes steps. `config` may be replaced between two of them (a learning rate that a person changes)."""

    def __init__(
        self, model: Transformer, optimizer: Optimizer, corpus: Corpus, config: Config, precision: Precision
    ) -> None:
        self.model, self.optimizer, self.corpus = model, optimizer, corpus
        self.config, self.precision = config, precision
        device = next(model.parameters()).device
        self._parameters = list(model.parameters())
        self._loss = loss_sum
        self.moving = False  # True: the update broke off, and the weights are neither old nor new
        self._ok = None if device.type == "cpu" else torch.ones((), device=device)

    def __call__(self, step: int, learning_rate: float) -> tuple[Tensor, Tensor]:
        """Take step number `step` (0, 1, ...).

        Returns:
            The mean loss over the real tokens of the batch (nats) and the gradient's norm before clipping: scalars on
            the device, not waited for. On a GPU, from the first step that is not finite on, nothing moves any more.

        Raises:
            NotFinite: on the CPU, where looking costs nothing.
        """
        loss = self.backward(step)
        norm = torch.nn.utils.get_total_norm([p.grad for p in self._parameters if p.grad is not None])
        if self._ok is None:
            if not (torch.isfinite(loss) and torch.isfinite(norm)):
                self.forget_gradients()
                raise NotFinite(f"the loss is {loss.item():g} and the norm of its gradient {norm.item():g}")
        else:
            self._ok *= (torch.isfinite(loss) & torch.isfinite(norm)).float()
        if self.config.gradient_clip:
            scale = (self.config.gradient_clip / (norm + 1e-6)).clamp(max=1.0)
            for p in self._parameters:
                assert p.grad is not None
                p.grad *= scale
        self.moving = True
        self.optimizer.step(learning_rate, self.config.weight_decay, self._ok)
        self.moving = False
        return loss, norm

    def compile(self, step: int) -> str:
        """Compute the loss by compiled code from now on, if that works for this step's batch. Moves nothing.

        Returns:
            Why it does not work, in a line; empty where it does.
        """
        plain = self.backward(step)
        self.forget_gradients()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of what it does not do better
                torch._dynamo.config.cache_size_limit = 1000  # a dropout that a person changes makes new code
                self._loss = torch.compile(loss_sum, dynamic=False)
                compiled = self.backward(step)
            why = "" if torch.allclose(compiled, plain, rtol=ALIKE) else f"computed {compiled:g} instead of {plain:g}"
        except Exception as error:  # no compiler, an old GPU, ...: torch raises many kinds
            if is_out_of_memory(error):
                raise
            why = str(error).strip().splitlines()[0][:200]
        self.forget_gradients()
        if why:
            self._loss = loss_sum
        return why

    def backward(self, step: int) -> Tensor:
        """The loss of a step's whole batch, its gradient left in the parameters."""
        config, rows = self.config, self.corpus.real_rows(step)
        tokens = rows * config.max_seq_len
        scale = tokens if self.precision.is_float16 else 1  # float16: the sum's gradient, where the mean's would vanish
        total = torch.zeros((), device=self._parameters[0].device)
        for part in range(-(-rows // config.batch_size)):  # parts of masked windows only are not computed
            # contiguous: or compiled code would be made twice, the last batch of an epoch being laid out otherwise
            inputs, targets = (tensor.contiguous() for tensor in self.corpus.batch(step, part))
            key, first_row = fold_in(config.seed, step), part * config.batch_size
            masks = DropoutMasks(key, self.model.dropout_layers, first_row, len(inputs), config.dropout, inputs.device)
            with self.precision.forward():
                loss = self._loss(self.model, inputs, targets, masks)
            (loss * (scale / tokens)).backward()  # type: ignore[no-untyped-call]
            total += loss.detach() / tokens
        if scale != 1:
            for p in self._parameters:
                assert p.grad is not None
                p.grad /= scale
        return total

    def forget_gradients(self) -> None:
        for p in self._parameters:
            p.grad = None


def loss_sum(model: Transformer, inputs: Tensor, targets: Tensor, masks: DropoutMasks) -> Tensor:
    """The losses of all real targets together, a scalar in nats."""
    logits = model(inputs, masks)  # (B, T, V)
    return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORED, reduction="sum")
