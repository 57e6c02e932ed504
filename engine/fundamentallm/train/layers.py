"""How each layer learns: the size of its gradient, of its weights, and of the step that they took."""

import time
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from fundamentallm.run.events import Inspected


class LayerProbe:
    """Measures the layers of a model around one update of its weights. Changes nothing and draws no random numbers."""

    def __init__(self, model: nn.Module) -> None:
        """Measure what there is before the update: the gradients, which are not clipped yet, and the weights."""
        began = time.monotonic()
        self._layers: dict[str, list[nn.Parameter]] = {}  # "embedding", "blocks.0.attention", ...
        for name, p in model.named_parameters():
            layer = name.removesuffix(".weight")
            self._layers.setdefault(layer.rsplit(".", 1)[0] if "." in layer else layer, []).append(p)
        self._grad_norms = _norms([p.grad for p in layer if p.grad is not None] for layer in self._layers.values())
        self._before = [[p.detach().clone() for p in layer] for layer in self._layers.values()]
        self._seconds = time.monotonic() - began

    def measure(self, step: int) -> Inspected:
        """Return what the update did that was made meanwhile, as that of `step`."""
        began = time.monotonic()
        weights = _norms(self._before)
        pairs = zip(self._layers.values(), self._before, strict=True)
        moved = _norms([p.detach() - old for p, old in zip(*pair, strict=True)] for pair in pairs)
        return Inspected(
            step=step, layers=tuple(self._layers), grad_norm=self._grad_norms, weight_norm=weights,
            update_ratio=tuple(a / b if b else 0.0 for a, b in zip(moved, weights, strict=True)),
            seconds=round(self._seconds + time.monotonic() - began, 4),
        )  # fmt: skip


def _norms(layers: Iterable[list[Tensor]]) -> tuple[float, ...]:
    """The Euclidean norm of each layer's tensors together."""
    return tuple(torch.stack([torch.nn.utils.get_total_norm(layer) for layer in layers]).tolist())
