"""AdamW, Muon, and what a refused step leaves behind."""

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


def test_a_muon_step_is_the_stated_factor_long_and_treats_queries_keys_and_values_apart() -> None:
    model, optimizer = start("muon")
    before = copies(model.state_dict())
    give_gradients(model, 1)
    with torch.no_grad():
        model.blocks[0].attention.qkv.weight.grad[:16] *= 1000  # louder queries make keys no quieter
    optimizer.step(0.001, 0.0)
    moved = {name: p - before[name] for name, p in model.state_dict().items()}
    matrices = {
        **{f"third {n}": (third, 1) for n, third in enumerate(moved["blocks.0.attention.qkv.weight"].chunk(3))},
        "tall": (moved["blocks.0.feed_forward.up.weight"], 2),  # (64, 16): longer by the root of 4
        "wide": (moved["blocks.0.feed_forward.down.weight"], 1),
    }
    for name, (matrix, factor) in matrices.items():
        length = torch.linalg.svdvals(matrix).median().item()
        assert length == pytest.approx(factor * 0.001 * MUON_FACTOR, rel=0.3), name


def test_muons_directions_have_16_bits_where_the_forward_pass_has_them_and_its_state_never() -> None:
    moved, momentum = [], []
    for dtype in (torch.float32, torch.bfloat16):
        model = Transformer(CONFIG, 11)
        optimizer = Optimizer(model, "muon", dtype)
        before = copies(model.state_dict())
        give_gradients(model, 1)
        optimizer.step(0.001, 0.0)
        moved.append({name: p - before[name] for name, p in model.state_dict().items() if name.startswith("blocks.")})
        momentum.append({n: t for n, t in optimizer.state_dict().items() if not n.startswith("mean_square.")})
    for name, step in moved[0].items():
        assert 1e-4 < (moved[1][name] - step).norm() / step.norm() < 0.03, name
    assert same_tensors(*momentum)


def test_muons_steps_become_even_and_keep_their_length() -> None:
    def moves(normuon: bool) -> dict[str, Tensor]:
        model = Transformer(CONFIG, 11)
        optimizer = Optimizer(model, "muon", normuon=normuon)
        for _ in range(100):
            before = copies(model.state_dict())
            give_gradients(model, 1)
            optimizer.step(0.001, 0.0)
        return {name: p - before[name] for name, p in model.state_dict().items()}

    even, plain = moves(True), moves(False)
    for name, axis in {"up": 1, "down": 0}.items():  # (64, 16) and (16, 64): over the rows, and over the columns
        one, other = (moved[f"blocks.0.feed_forward.{name}.weight"].norm(dim=axis) for moved in (even, plain))
        assert one.std() / one.mean() < 0.02 < 0.1 < other.std() / other.mean(), name
    for name in even:
        assert even[name].norm() == pytest.approx(plain[name].norm().item(), rel=1e-3), name


def test_a_row_that_hardly_moves_becomes_three_times_as_long_at_most() -> None:
    def share_of_the_first(normuon: bool) -> float:
        model = Transformer(CONFIG, 11)
        optimizer, weight = Optimizer(model, "muon", normuon=normuon), model.blocks[0].feed_forward.up.weight
        for _ in range(100):
            before = weight.detach().clone()
            give_gradients(model, 1)
            assert weight.grad is not None
            weight.grad[0] *= 1e-4
            optimizer.step(0.001, 0.0)
        first, *others = (weight.detach() - before).norm(dim=1)
        return (first / torch.stack(others).mean()).item()

    assert 2 < share_of_the_first(True) / share_of_the_first(False) < 3.5


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
