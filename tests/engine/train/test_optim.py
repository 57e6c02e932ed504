"""AdamW, Muon, and what a refused step leaves behind."""

import pytest
import torch

from fundamentallm.config.config import Config
from fundamentallm.model.transformer import Transformer
from fundamentallm.train.optimizer import BETAS, EPSILON, MOMENTUM, MUON_FACTOR, Optimizer, orthogonalise

CONFIG = Config(model_dim=16, num_layers=2, num_heads=2, max_seq_len=12)


def model_and(kind: str) -> tuple[Transformer, Optimizer]:
    model = Transformer(CONFIG, 11)
    return model, Optimizer(model, kind)


def give_gradients(model: Transformer, seed: int) -> None:
    dice = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=dice)


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_the_groups_cover_exactly_the_models_parameters(kind: str) -> None:
    model, optimizer = model_and(kind)
    names = {name for name, _ in model.named_parameters()}
    state = set(optimizer.state_dict()) - {"count"}
    muon = {name.removeprefix("momentum.") for name in state if name.startswith("momentum.")}
    adamw = {name.removeprefix("mean.") for name in state if name.startswith("mean.")}
    assert muon | adamw == names and not muon & adamw
    assert adamw == {name.removeprefix("square.") for name in state if name.startswith("square.")}
    assert muon == ({name for name in names if name.startswith("blocks.")} if kind == "muon" else set())


def test_adamw_is_torchs() -> None:
    model, optimizer = model_and("adamw")
    other = Transformer(CONFIG, 11)
    theirs = torch.optim.AdamW(other.parameters(), lr=0.01, betas=BETAS, eps=EPSILON, weight_decay=0.1)
    for step in range(5):
        give_gradients(model, step)
        give_gradients(other, step)
        optimizer.step(0.01, 0.1)
        theirs.step()
    for (name, a), b in zip(model.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-6, msg=name)


@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 64, 16), (2, 16, 64), (4, 8, 7)])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_orthogonalised_matrices_have_singular_values_near_one(shape: tuple[int, int, int], scale: float) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * scale
    result = orthogonalise(matrices)
    assert result.shape == shape and result.dtype == matrices.dtype
    values = torch.linalg.svdvals(result)
    u, s, v = torch.linalg.svd(matrices, full_matrices=False)
    strong = s > 0.05 * s[:, :1]  # directions that are next to nothing are lifted less
    assert values.max() < 1.3 and values[strong].min() > 0.5
    assert ((u @ v) * result).sum((-2, -1)).min() / min(shape[1:]) > 0.8  # and point where they pointed


def test_orthogonalising_nothing_gives_nothing() -> None:
    assert torch.equal(orthogonalise(torch.zeros(2, 4, 8)), torch.zeros(2, 4, 8))


def test_a_muon_step_is_the_stated_factor_long_and_treats_queries_keys_and_values_apart() -> None:
    model, optimizer = model_and("muon")
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    give_gradients(model, 1)
    with torch.no_grad():
        model.blocks[0].attention.qkv.weight.grad[:16] *= 1000  # louder queries make keys no quieter
    optimizer.step(0.001, 0.0)
    moved = {name: p.detach() - before[name] for name, p in model.named_parameters()}
    for n, third in enumerate(moved["blocks.0.attention.qkv.weight"].chunk(3)):
        assert torch.linalg.svdvals(third).median().item() == pytest.approx(0.001 * MUON_FACTOR, rel=0.3), n
    tall = moved["blocks.0.feed_forward.up.weight"]  # (64, 16): twice as long, the root of 4
    assert torch.linalg.svdvals(tall).median().item() == pytest.approx(2 * 0.001 * MUON_FACTOR, rel=0.3)
    wide = moved["blocks.0.feed_forward.down.weight"]
    assert torch.linalg.svdvals(wide).median().item() == pytest.approx(0.001 * MUON_FACTOR, rel=0.3)


def test_muons_momentum_is_the_running_mean_of_the_gradient() -> None:
    model, optimizer = model_and("muon")
    expected: torch.Tensor = torch.zeros(16, 16)
    for step in range(3):
        give_gradients(model, step)
        grad = model.blocks[1].attention.out.weight.grad
        assert grad is not None
        expected = MOMENTUM * expected + (1 - MOMENTUM) * grad.clone()
        optimizer.step(0.001, 0.1)
    torch.testing.assert_close(optimizer.state_dict()["momentum.blocks.1.attention.out.weight"], expected)


def test_weight_decay_shrinks_by_its_share_of_the_learning_rate() -> None:
    model, optimizer = model_and("muon")
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step(0.01, 0.5)
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.detach(), before[name] * (1 - 0.01 * 0.5), msg=name)


@pytest.mark.parametrize("kind", ["muon", "adamw"])
@pytest.mark.parametrize("bad", [1.0, float("nan"), float("inf")])
def test_a_refused_step_changes_neither_weights_nor_state(kind: str, bad: float) -> None:
    model, optimizer = model_and(kind)
    for step in range(2):
        give_gradients(model, step)
        optimizer.step(0.01, 0.1, torch.ones(()))
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    state = {name: tensor.clone() for name, tensor in optimizer.state_dict().items()}
    give_gradients(model, 9)
    for p in model.parameters():
        assert p.grad is not None
        p.grad[0] = bad
    optimizer.step(0.01, 0.1, torch.zeros(()))
    assert all(torch.equal(p, weights[name]) for name, p in model.named_parameters())
    assert all(torch.equal(tensor, state[name]) for name, tensor in optimizer.state_dict().items())


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_an_accepted_step_is_the_step_that_was_not_asked_about(kind: str) -> None:
    (a, first), (b, second) = model_and(kind), model_and(kind)
    for step in range(3):
        give_gradients(a, step)
        give_gradients(b, step)
        first.step(0.01, 0.1)
        second.step(0.01, 0.1, torch.ones(()))
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    assert all(p.grad is None for p in a.parameters())  # gradients are forgotten


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_a_restored_state_goes_on_to_the_same_bits(kind: str) -> None:
    a, first = model_and(kind)
    for step in range(3):
        give_gradients(a, step)
        first.step(0.01, 0.1)
    b, second = model_and(kind)
    b.load_state_dict(a.state_dict())
    second.load_state_dict({name: tensor.clone() for name, tensor in first.state_dict().items()})
    for model, optimizer in ((a, first), (b, second)):
        give_gradients(model, 7)
        optimizer.step(0.01, 0.1)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
