"""The optimizer: Muon for the blocks' matrices and AdamW for the rest, or AdamW for all.

- Moves the weights against their gradients, and nothing else: schedules, clipping and accumulation are not done here.
- Its state is named tensors, as checkpoints keep them; `state_shapes` describes them.
- With AdamW alone, `learning_rate` means what it usually does. With Muon, a matrix's step is `MUON_FACTOR` times and
  the embedding's `EMBEDDING_FACTOR` times as long. Every weight decays by the learning rate times `weight_decay`.
"""

from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fundamentallm.train.distributed import shared_out

BETAS, EPSILON = (0.9, 0.95), 1e-8
MOMENTUM, SQUARES_MOMENTUM, DAMPING = 0.9, 0.95, 0.1
# With Muon, how much longer the steps of matrices and embedding are than the learning rate says: measured, so that 1e-3
# is a good start (tests/benchmarks/RESULTS.md).
MUON_FACTOR, EMBEDDING_FACTOR = 40.0, 20.0


class Optimizer:
    """Holds the state of `kind` ("muon" or "adamw") for the parameters of `model`.

    `dtype`: of the forward pass; where it is bfloat16, and on every CUDA device, Muon's directions are bfloat16, too.
    `normuon`: whether Muon's steps are made even, see `_even_out`. `momentum`: Muon's, the share of the old direction
    that is kept. Runs that earlier versions began have others.
    """

    def __init__(
        self, model: nn.Module, kind: str, dtype: torch.dtype = torch.float32, normuon: bool = True,
        momentum: float = MOMENTUM,
    ) -> None:  # fmt: skip
        parameters = dict(model.named_parameters())
        muon, adamw = split_parameters(parameters, kind)
        self._muon = {name: parameters[name] for name in muon}
        self._adamw = {name: parameters[name] for name in adamw}
        assert all(p.ndim == 2 for p in self._muon.values()), "Muon is for matrices"
        self._embedding_factor = EMBEDDING_FACTOR if kind == "muon" else 1.0
        device = next(iter(parameters.values())).device
        half = device.type == "cuda" or dtype == torch.bfloat16  # 16 bits are enough for a direction
        self._orthogonalise = partial(orthogonalise, dtype=torch.bfloat16 if half else torch.float32)
        self.normuon, self.momentum = normuon, momentum
        shapes = state_shapes({name: tuple(p.shape) for name, p in parameters.items()}, kind, normuon)
        self._state = {name: torch.zeros(shape, device=device) for name, shape in shapes.items()}

    @torch.no_grad()
    def step(self, learning_rate: float, weight_decay: float, ok: Tensor | float = 1.0) -> None:
        """Move every weight against its gradient, and forget the gradients.

        `ok` is 1 to take the step, 0 to change neither weights nor state. As a scalar on the device it lets a GPU
        refuse a step that is not finite without the host waiting for it.
        """
        if isinstance(ok, Tensor):
            # Not `p.grad * ok`: NaN times 0 is NaN.
            for p in (*self._muon.values(), *self._adamw.values()):
                assert p.grad is not None
                p.grad = torch.where(ok > 0, p.grad, 0.0)
        self._step_muon(learning_rate, weight_decay, ok)
        self._step_adamw(learning_rate, weight_decay, ok)

    def _step_adamw(self, learning_rate: float, weight_decay: float, ok: Tensor | float) -> None:
        """Take a step of AdamW (Loshchilov and Hutter 2019)."""
        count, factor = self._state["count"], self._embedding_factor
        count += ok
        for name, p in self._adamw.items():
            assert p.grad is not None
            # The fused kernel is called directly: torch.optim.AdamW would import two seconds of torch._dynamo for it.
            # It decays weights by its learning rate, which is `factor` times ours, times its `weight_decay`: divided by
            # `factor` here, so that all weights decay alike.
            torch._fused_adamw_(
                [p], [p.grad], [self._state[f"mean.{name}"]], [self._state[f"square.{name}"]], [], [count],
                lr=learning_rate * factor, beta1=BETAS[0], beta2=BETAS[1], weight_decay=weight_decay / factor,
                eps=EPSILON, amsgrad=False, maximize=False, found_inf=1 - ok if isinstance(ok, Tensor) else None,
            )  # fmt: skip
            p.grad = None

    def _step_muon(self, learning_rate: float, weight_decay: float, ok: Tensor | float) -> None:
        """Take a step of Muon (Jordan et al. 2024): momentum, made orthogonal, so that all directions move alike."""
        # Matrices of one shape are made orthogonal in one batch: fewer and larger products. Of several processes, each
        # does a share of them.
        alike: dict[tuple[int, int], list[tuple[Tensor, ...]]] = defaultdict(list)
        for name, p in self._muon.items():
            assert p.grad is not None
            momentum = self._state[f"momentum.{name}"]
            momentum += (p.grad - momentum) * ((1 - self.momentum) * ok)
            direction = p.grad.lerp_(momentum, self.momentum)  # Nesterov's look ahead
            p.mul_(1 - learning_rate * weight_decay * ok)
            pieces = 3 if name.endswith("qkv.weight") else 1  # queries, keys and values are matrices of their own
            squares = self._state[f"mean_square.{name}"] if self.normuon else direction.new_empty(pieces)  # not used
            parts = zip(direction.chunk(pieces), p.chunk(pieces), squares.chunk(pieces), strict=True)
            alike[p.shape[0] // pieces, p.shape[1]] += parts
            p.grad = None
        for (rows, columns), members in alike.items():
            steps = shared_out(self._orthogonalise, torch.stack([direction for direction, _, _ in members]))
            if self.normuon:
                steps = _even_out(steps, [squares for _, _, squares in members], ok)
            # The rows of a tall orthogonal matrix are root(columns / rows) long, those of a square or wide one 1. The
            # step is scaled so that they are 1 in both: every output of the layer moves alike.
            length = -learning_rate * MUON_FACTOR * max(1, rows / columns) ** 0.5
            for step, (_, weight, _) in zip(steps, members, strict=True):
                weight.add_(step * (length * ok))

    def state_dict(self) -> dict[str, Tensor]:
        """Return the live state by name: "count", "momentum.blocks.0...", "mean.embedding.weight", ..."""
        return dict(self._state)

    def load_state_dict(self, saved: dict[str, Tensor]) -> None:
        """Copy a saved state into this one."""
        for name, tensor in self._state.items():
            tensor.copy_(saved[name])


def split_parameters(parameters: Mapping[str, Any], kind: str) -> tuple[list[str], list[str]]:
    """Return the names of the parameters that Muon moves, and of those that AdamW moves."""
    muon = [name for name in parameters if kind == "muon" and name.startswith("blocks.")]
    return muon, [name for name in parameters if name not in muon]


def state_shapes(
    parameters: Mapping[str, tuple[int, ...]], kind: str, normuon: bool = True
) -> dict[str, tuple[int, ...]]:
    """Return the shapes of an optimizer's state by name, for parameters of these shapes.

    Muon keeps one tensor a parameter, the momentum, and NorMuon the mean squares of rows or columns, too; AdamW keeps
    two, the running means of the gradient and of its square.
    """
    muon, adamw = split_parameters(parameters, kind)
    groups = {"momentum": muon, "mean": adamw, "square": adamw}
    named = {f"{group}.{name}": parameters[name] for group, names in groups.items() for name in names}
    squares = {f"mean_square.{name}": (max(parameters[name]),) for name in muon if normuon}
    return {"count": (), **named, **squares}


def orthogonalise(matrices: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the nearest matrices whose singular values are all about 1, by five Newton-Schulz steps.

    A step is the odd polynomial a x + b (x x^T) x + c (x x^T)^2 x, which acts on the singular values alone. These
    coefficients (Jordan et al. 2024) lift small ones fast and let them end anywhere from 0.7 to 1.2, which is enough.
    There are only matrix products in it, no decomposition, so that it runs well on a GPU, and in 16 bits.

    Args:
        matrices: (N, rows, columns), any scale.
        dtype: what the products are computed in.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices  # the smaller of x x^T and x^T x
    norm = torch.linalg.matrix_norm(x, keepdim=True)
    x = (x / (norm + 1e-7)).to(dtype)  # the iteration needs singular values of at most 1
    for _ in range(5):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(matrices.dtype)


def _even_out(steps: Tensor, squares: list[Tensor], ok: Tensor | float) -> Tensor:
    """Divide rows of tall matrices, columns of wide ones, by the root of the running mean of their squares.

    The length of each whole matrix stays. The columns of a tall orthogonal matrix are equally long, but a few of its
    rows may take most of each step; in a wide one it is the other way round. (NorMuon, Li et al. 2025, takes rows.)

    Args:
        steps: (N, rows, columns); changed in place.
        squares: of each matrix the running means, (rows,) or (columns,), which are brought up to date.
        ok: see `Optimizer.step`.
    """
    across = 2 if steps.shape[1] >= steps.shape[2] else 1
    now = steps.square().mean(across)  # (N, rows or columns)
    for mean, newest in zip(squares, now, strict=True):
        mean += (newest - mean) * ((1 - SQUARES_MOMENTUM) * ok)
    means = torch.stack(squares)
    # A row that hardly moves is mostly rounding: it becomes three times as long at most, not as long as the others.
    factors = (means + DAMPING * means.mean(1, True) + EPSILON).rsqrt()
    factors *= (now.sum(1, True) / (now * factors.square() + EPSILON).sum(1, True)).sqrt()
    return steps.mul_(factors.unsqueeze(across))
