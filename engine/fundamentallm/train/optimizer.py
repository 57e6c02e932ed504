"""The optimizer: Muon for the blocks' matrices and AdamW for the rest, or AdamW for all.

- Does one thing: move the weights along their gradients. Schedules, clipping and accumulation live elsewhere.
- Its state is named tensors, as checkpoints keep them.
- `learning_rate` is textbook for AdamW alone; with Muon, a matrix's step is `MUON_FACTOR` times and the embedding's
  `EMBEDDING_FACTOR` times as long. Weight decay is the learning rate times `weight_decay` everywhere.
"""

from collections import defaultdict

import torch
from torch import Tensor, nn

BETAS, EPSILON = (0.9, 0.95), 1e-8
MOMENTUM = 0.95
# With Muon, how much longer the steps of matrices and embedding are than the learning rate says: measured, so that 1e-3
# is a good start (tests/benchmarks/RESULTS.md).
MUON_FACTOR, EMBEDDING_FACTOR = 40.0, 20.0


class Optimizer:
    """Holds the state of `kind` ("muon" or "adamw") for the parameters of `model`."""

    def __init__(self, model: nn.Module, kind: str) -> None:
        named = dict(model.named_parameters())
        self._muon = {name: p for name, p in named.items() if kind == "muon" and name.startswith("blocks.")}
        self._adamw = {name: p for name, p in named.items() if name not in self._muon}
        assert all(p.ndim == 2 for p in self._muon.values()), "Muon is for matrices"
        self._embedding_factor = EMBEDDING_FACTOR if kind == "muon" else 1.0
        device = next(iter(named.values())).device
        self._count = torch.zeros((), dtype=torch.float32, device=device)
        self._momentum = {name: torch.zeros_like(p) for name, p in self._muon.items()}
        self._mean = {name: torch.zeros_like(p) for name, p in self._adamw.items()}
        self._square = {name: torch.zeros_like(p) for name, p in self._adamw.items()}

    @torch.no_grad()
    def step(self, learning_rate: float, weight_decay: float, ok: Tensor | None = None) -> None:
        """Move every weight by its gradient, and forget the gradients.

        Args:
            ok: a scalar on the device; where it is 0 nothing changes, neither weights nor state. It lets a GPU refuse
                a step that is not finite without waiting for the host. None: the host has looked.
        """
        if ok is not None:
            for p in (*self._muon.values(), *self._adamw.values()):
                assert p.grad is not None
                p.grad = torch.where(ok > 0, p.grad, 0.0)
        self._step_muon(learning_rate, weight_decay, ok)
        self._step_adamw(learning_rate, weight_decay, ok)

    def _step_adamw(self, learning_rate: float, weight_decay: float, ok: Tensor | None) -> None:
        self._count += 1 if ok is None else ok
        refused, factor = None if ok is None else 1 - ok, self._embedding_factor
        for name, p in self._adamw.items():
            # the fused kernel itself: torch.optim.AdamW would import two seconds of torch._dynamo for it
            assert p.grad is not None
            torch._fused_adamw_(
                [p], [p.grad], [self._mean[name]], [self._square[name]], [], [self._count],
                lr=learning_rate * factor, beta1=BETAS[0], beta2=BETAS[1], weight_decay=weight_decay / factor,
                eps=EPSILON, amsgrad=False, maximize=False, found_inf=refused,
            )  # fmt: skip
            p.grad = None

    def _step_muon(self, learning_rate: float, weight_decay: float, ok: Tensor | None) -> None:
        """Momentum, then the nearest orthogonal matrix as the step (Jordan et al. 2024); equal shapes at once."""
        go = 1.0 if ok is None else ok
        alike: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for name, p in self._muon.items():
            assert p.grad is not None
            momentum = self._momentum[name]
            momentum += (p.grad - momentum) * ((1 - MOMENTUM) * go)
            ahead = p.grad.lerp_(momentum, MOMENTUM)  # Nesterov's look ahead
            p.mul_(1 - learning_rate * weight_decay * go)
            pieces = 3 if name.endswith("qkv.weight") else 1  # queries, keys and values are matrices of their own
            for direction, weight in zip(ahead.chunk(pieces), p.chunk(pieces), strict=True):
                alike[weight.shape[0], weight.shape[1]].append((direction, weight))
            p.grad = None
        for (rows, columns), pairs in alike.items():
            steps = orthogonalise(torch.stack([direction for direction, _ in pairs]))
            length = -learning_rate * MUON_FACTOR * max(1, rows / columns) ** 0.5
            for step, (_, weight) in zip(steps, pairs, strict=True):
                weight.add_(step * (length * go))

    def state_dict(self) -> dict[str, Tensor]:
        """Flat: "momentum.blocks.0...", "mean.embedding.weight", ..., "count"."""
        groups = {"momentum": self._momentum, "mean": self._mean, "square": self._square}
        named = {f"{group}.{name}": tensor for group, tensors in groups.items() for name, tensor in tensors.items()}
        return {"count": self._count, **named}

    def load_state_dict(self, saved: dict[str, Tensor]) -> None:
        for name, tensor in self.state_dict().items():
            tensor.copy_(saved[name])


def state_shapes(parameters: dict[str, tuple[int, ...]], kind: str) -> dict[str, tuple[int, ...]]:
    """Of an optimizer's state by name, for parameters of these shapes."""
    state: dict[str, tuple[int, ...]] = {"count": ()}
    for name, shape in parameters.items():
        groups = ("momentum",) if kind == "muon" and name.startswith("blocks.") else ("mean", "square")
        state |= {f"{group}.{name}": shape for group in groups}
    return state


def orthogonalise(matrices: Tensor) -> Tensor:
    """The nearest matrices with singular values near 1, by five Newton-Schulz steps (coefficients: Jordan et al.).

    Args:
        matrices: (N, rows, columns), any scale.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    if x.device.type == "cuda":
        x = x.bfloat16()
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(matrices.dtype)
