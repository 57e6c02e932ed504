"""Our operations are torch's, and their gradients too."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fundamentallm.model.ops import EPSILON, apply_rope, rms_norm, rope_freqs, squared_relu


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(rms_norm, lambda x: F.rms_norm(x, (8,), eps=EPSILON)), (squared_relu, lambda x: torch.relu(x).square())],
)
def test_values_and_gradients_are_torchs(ours: Callable[[Tensor], Tensor], theirs: Callable[[Tensor], Tensor]) -> None:
    x = torch.randn(3, 5, 8, dtype=torch.float64, requires_grad=True)
    grad = torch.randn(3, 5, 8, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x), atol=1e-12, rtol=1e-12)
    (a,) = torch.autograd.grad(ours(x), x, grad)
    (b,) = torch.autograd.grad(theirs(x), x, grad)
    torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-12)
    assert torch.autograd.gradcheck(ours, (x,))


def test_rms_norm_of_zeros_is_zeros_with_a_finite_gradient() -> None:
    x = torch.zeros(2, 4, requires_grad=True)
    y = rms_norm(x)
    y.sum().backward()
    assert torch.equal(y, torch.zeros(2, 4)) and x.grad is not None and torch.isfinite(x.grad).all()


def test_rope_keeps_lengths_and_leaves_the_first_position_alone() -> None:
    x = torch.randn(2, 9, 3, 8)
    turned = apply_rope(x, rope_freqs(9, 8))
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    torch.testing.assert_close(turned[:, 0], x[:, 0])
    assert not torch.allclose(turned[:, 1], x[:, 1])


def test_scores_depend_on_relative_position_only() -> None:
    q, k = (apply_rope(torch.randn(8).expand(1, 20, 1, 8), rope_freqs(20, 8))[0, :, 0] for _ in range(2))
    scores = q @ k.T  # (20, 20)
    for distance in range(-19, 20):
        diagonal = scores.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-5, rtol=1e-5)
    assert len({round(scores[0, n].item(), 4) for n in range(20)}) > 15


def test_the_gradient_of_rope_turns_back() -> None:
    x, grad, freqs = torch.randn(1, 4, 2, 6, requires_grad=True), torch.randn(1, 4, 2, 6), rope_freqs(4, 6)
    (back,) = torch.autograd.grad(apply_rope(x, freqs), x, grad)
    torch.testing.assert_close(back, apply_rope(grad, freqs.conj()))
