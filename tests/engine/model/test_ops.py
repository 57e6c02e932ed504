"""Our operations are torch's, and their gradients too."""

import torch
import torch.nn.functional as F

from fundamentallm.model.ops import EPSILON, apply_rope, rms_norm, rope_freqs, squared_relu


def test_rms_norm_and_its_gradient_are_torchs() -> None:
    x = torch.randn(3, 5, 8, dtype=torch.float64, requires_grad=True)
    grad = torch.randn(3, 5, 8, dtype=torch.float64)
    theirs = F.rms_norm(x, (8,), eps=EPSILON)
    torch.testing.assert_close(rms_norm(x), theirs, atol=1e-12, rtol=1e-12)
    (a,) = torch.autograd.grad(theirs, x, grad)
    (b,) = torch.autograd.grad(rms_norm(x), x, grad)
    torch.testing.assert_close(b, a, atol=1e-12, rtol=1e-12)
    assert torch.autograd.gradcheck(rms_norm, (x,))


def test_rms_norm_of_nothing_is_nothing() -> None:
    x = torch.zeros(2, 4, requires_grad=True)
    y = rms_norm(x)
    y.sum().backward()
    assert torch.equal(y, torch.zeros(2, 4)) and x.grad is not None and torch.isfinite(x.grad).all()


def test_squared_relu_and_its_gradient_are_torchs() -> None:
    x = torch.randn(4, 9, dtype=torch.float64, requires_grad=True)
    grad = torch.randn(4, 9, dtype=torch.float64)
    torch.testing.assert_close(squared_relu(x), torch.relu(x).square(), atol=0, rtol=0)
    (a,) = torch.autograd.grad(torch.relu(x).square(), x, grad)
    (b,) = torch.autograd.grad(squared_relu(x), x, grad)
    torch.testing.assert_close(b, a, atol=1e-14, rtol=1e-14)
    assert torch.autograd.gradcheck(squared_relu, (x,))


def test_turning_keeps_lengths_and_leaves_the_first_position_alone() -> None:
    x = torch.randn(2, 9, 3, 8)
    turned = apply_rope(x, rope_freqs(9, 8))
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    torch.testing.assert_close(turned[:, 0], x[:, 0])
    assert not torch.allclose(turned[:, 1], x[:, 1])


def test_scores_depend_on_relative_position_only() -> None:
    q, k = torch.randn(8), torch.randn(8)
    turned_q = apply_rope(q.expand(1, 20, 1, 8), rope_freqs(20, 8))[0, :, 0]
    turned_k = apply_rope(k.expand(1, 20, 1, 8), rope_freqs(20, 8))[0, :, 0]
    scores = turned_q @ turned_k.T  # (20, 20)
    for distance in range(-19, 20):
        diagonal = scores.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-5, rtol=1e-5)
    assert len({round(scores[0, n].item(), 4) for n in range(20)}) > 15


def test_the_gradient_of_turning_is_turning_back() -> None:
    x = torch.randn(1, 4, 2, 6, dtype=torch.float32, requires_grad=True)
    grad = torch.randn(1, 4, 2, 6)
    (back,) = torch.autograd.grad(apply_rope(x, rope_freqs(4, 6)), x, grad)
    torch.testing.assert_close(back, apply_rope(grad, rope_freqs(4, 6).conj()))
