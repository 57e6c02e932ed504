"""AdamW, Muon, and what a refused step leaves behind."""

from typing import Any

import pytest
import torch
from torch import Tensor

from fundamentallm.config.config import Config
from fundamentallm.model.transformer import Transformer
from fundamentallm.train.optimizer import BETAS, EPSILON, MOMENTUM, MUON_FACTOR, Optimizer, orthogonalise
from tests.engine.conftest import same_tensors

CONFIG = Config(model_dim=16, num_layers=2, num_heads=2, max_seq_len=12)
KINDS = pytest.mark.parametrize("kind", ["muon", "adamw"])


def give_gradients(model: Transformer, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=rng)


def take_steps(model: Transformer, optimizer: Optimizer, seeds: range, ok: Tensor | float = 1.0) -> None:
    for seed in seeds:
        give_gradients(model, seed)
        optimizer.step(0.01, 0.1, ok)


def start(kind: str, steps: int = 0, ok: Tensor | float = 1.0) -> tuple[Transformer, Optimizer]:
    """A model and its optimizer after some steps."""
    model = Transformer(CONFIG, 11)
    optimizer = Optimizer(model, kind)
    take_steps(model, optimizer, range(steps), ok)
    return model, optimizer


def copies(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in tensors.items()}


@KINDS
def test_the_groups_cover_exactly_the_models_parameters(kind: str) -> None:
    model, optimizer = start(kind)
    parameters = {name for name, _ in model.named_parameters()}
    groups: dict[str, set[str]] = {"momentum": set(), "mean_square": set(), "mean": set(), "square": set()}
    for name in optimizer.state_dict().keys() - {"count"}:
        group, _, parameter = name.partition(".")
        groups[group].add(parameter)
    matrices = {name for name in parameters if kind == "muon" and name.startswith("blocks.")}
    assert groups["momentum"] == groups["mean_square"] == matrices
    assert groups["mean"] == groups["square"] == parameters - groups["momentum"]


def test_adamw_is_torchs() -> None:
    model, _ = start("adamw", 5)
    other = Transformer(CONFIG, 11)
    theirs = torch.optim.AdamW(other.parameters(), lr=0.01, betas=BETAS, eps=EPSILON, weight_decay=0.1)
    for step in range(5):
        give_gradients(other, step)
        theirs.step()
    for (name, a), b in zip(model.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-6, msg=name)


@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 64, 16), (2, 16, 64), (4, 8, 7)])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_orthogonalised_matrices_have_singular_values_near_one(
    shape: tuple[int, int, int], scale: float, dtype: torch.dtype
) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * scale
    result = orthogonalise(matrices, dtype)
    assert result.shape == shape and result.dtype == matrices.dtype
    values = torch.linalg.svdvals(result)
    u, s, v = torch.linalg.svd(matrices, full_matrices=False)
    strong = s > 0.05 * s[:, :1]  # directions that are next to nothing are lifted less
    assert values.max() < 1.3 and values[strong].min() > 0.5
    assert ((u @ v) * result).sum((-2, -1)).min() / min(shape[1:]) > 0.8  # and point where they pointed


def test_orthogonalising_zeros_gives_zeros() -> None:
    assert torch.equal(orthogonalise(torch.zeros(2, 4, 8)), torch.zeros(2, 4, 8))


def last_move(steps: int = 1, loud: int = 0, quiet: int = 0, **how: Any) -> tuple[dict[str, Tensor], Optimizer]:
    """How the weights move in the last of some steps of Muon with the same gradient, of which some rows differ.

    `loud`: so many rows of the first block's queries, keys and values are a thousand times as long; `quiet`: so many
    of its feed-forward layer next to nothing.
    """
    model = Transformer(CONFIG, 11)
    optimizer = Optimizer(model, "muon", **how)
    for _ in range(steps):
        before = copies(model.state_dict())
        give_gradients(model, 1)
        with torch.no_grad():
            model.blocks[0].attention.qkv.weight.grad[:loud] *= 1000
            model.blocks[0].feed_forward.up.weight.grad[:quiet] *= 1e-4
        optimizer.step(0.001, 0.0)
    return {name: p - before[name] for name, p in model.state_dict().items()}, optimizer


def test_a_muon_step_is_the_stated_factor_long_and_treats_queries_keys_and_values_apart() -> None:
    moved, _ = last_move(loud=16)  # louder queries make keys no quieter
    matrices = {
        **{f"third {n}": (third, 1) for n, third in enumerate(moved["blocks.0.attention.qkv.weight"].chunk(3))},
        "tall": (moved["blocks.0.feed_forward.up.weight"], 2),  # (64, 16): longer by the root of 4
        "wide": (moved["blocks.0.feed_forward.down.weight"], 1),
    }
    for name, (matrix, factor) in matrices.items():
        length = torch.linalg.svdvals(matrix).median().item()
        assert length == pytest.approx(factor * 0.001 * MUON_FACTOR, rel=0.3), name


def test_muons_directions_have_16_bits_where_the_forward_pass_has_them_and_its_state_never() -> None:
    (exact, first), (half, second) = last_move(dtype=torch.float32), last_move(dtype=torch.bfloat16)
    for name, step in exact.items():
        if name.startswith("blocks."):
            assert 1e-4 < (half[name] - step).norm() / step.norm() < 0.03, name
    states = (each.state_dict() for each in (first, second))
    assert same_tensors(*({n: t for n, t in state.items() if not n.startswith("mean_square.")} for state in states))


def test_muons_steps_become_even_and_keep_their_length() -> None:
    (even, _), (plain, _) = last_move(100, normuon=True), last_move(100, normuon=False)
    for name, axis in {"up": 1, "down": 0}.items():  # (64, 16) and (16, 64): over the rows, and over the columns
        one, other = (moved[f"blocks.0.feed_forward.{name}.weight"].norm(dim=axis) for moved in (even, plain))
        assert one.std() / one.mean() < 0.02 < 0.1 < other.std() / other.mean(), name
    for name in even:
        assert even[name].norm() == pytest.approx(plain[name].norm().item(), rel=1e-3), name


def test_a_row_that_hardly_moves_becomes_three_times_as_long_at_most() -> None:
    def share(normuon: bool) -> float:
        first, *others = last_move(100, quiet=1, normuon=normuon)[0]["blocks.0.feed_forward.up.weight"].norm(dim=1)
        return (first / torch.stack(others).mean()).item()

    assert 2 < share(True) / share(False) < 3.5


def test_muons_momentum_is_the_running_mean_of_the_gradient() -> None:
    model, optimizer = start("muon")
    expected: Tensor = torch.zeros(16, 16)
    for step in range(3):
        give_gradients(model, step)
        grad = model.blocks[1].attention.out.weight.grad
        assert grad is not None
        expected = MOMENTUM * expected + (1 - MOMENTUM) * grad.clone()
        optimizer.step(0.001, 0.1)
    torch.testing.assert_close(optimizer.state_dict()["momentum.blocks.1.attention.out.weight"], expected)


def test_weight_decay_shrinks_by_its_share_of_the_learning_rate() -> None:
    model, optimizer = start("muon")
    before = copies(model.state_dict())
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step(0.01, 0.5)
    for name, p in model.state_dict().items():
        torch.testing.assert_close(p, before[name] * (1 - 0.01 * 0.5), msg=name)


@KINDS
@pytest.mark.parametrize("bad", [1.0, float("nan"), float("inf")])
def test_a_refused_step_changes_neither_weights_nor_state(kind: str, bad: float) -> None:
    model, optimizer = start(kind, 2, torch.ones(()))
    weights, state = copies(model.state_dict()), copies(optimizer.state_dict())
    give_gradients(model, 9)
    for p in model.parameters():
        assert p.grad is not None
        p.grad[0] = bad
    optimizer.step(0.01, 0.1, torch.zeros(()))
    assert same_tensors(model.state_dict(), weights) and same_tensors(optimizer.state_dict(), state)


@KINDS
def test_an_accepted_step_is_the_step_that_was_not_asked_about_and_forgets_gradients(kind: str) -> None:
    (a, _), (b, _) = start(kind, 3), start(kind, 3, torch.ones(()))
    assert same_tensors(a.state_dict(), b.state_dict())
    assert all(p.grad is None for p in a.parameters())


@KINDS
def test_a_restored_state_continues_to_the_same_bits(kind: str) -> None:
    (a, first), (b, second) = start(kind, 3), start(kind)
    b.load_state_dict(a.state_dict())
    second.load_state_dict(copies(first.state_dict()))
    take_steps(a, first, range(7, 8))
    take_steps(b, second, range(7, 8))
    assert same_tensors(a.state_dict(), b.state_dict())
