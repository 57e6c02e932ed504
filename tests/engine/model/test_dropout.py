"""Dropout as a pure function."""

import pytest
import torch

from fundamentallm.model.dropout import DropoutMasks, fold_in

LIKE = torch.zeros(16, 64, 32)


def mask(
    seed: int = 0, step: int = 0, first_row: int = 0, p: float = 0.1, site: int = 0, like: torch.Tensor = LIKE
) -> torch.Tensor:
    return DropoutMasks(fold_in(seed, step), 8, first_row, len(like), p, like.device).mask(site, like)


@pytest.mark.parametrize("p", [0.01, 0.1, 0.25, 0.3, 0.5, 0.9])
def test_a_share_of_one_minus_p_is_kept_and_scaled_to_an_unchanged_mean(p: float) -> None:
    kept = torch.stack([mask(step=step, p=p) for step in range(8)])  # 262,144 activations
    assert set(kept.unique().tolist()) == {0.0, 1.0}
    sigma = (p * (1 - p) / kept.numel()) ** 0.5
    assert kept.mean().item() == pytest.approx(1 - p, abs=4 * sigma + 1 / 65536)
    scale = DropoutMasks(0, 1, 0, 1, p, LIKE.device).scale
    assert scale == pytest.approx(1 / (1 - p), rel=1e-4)
    assert scale * (65536 - round(p * 65536)) / 65536 == pytest.approx(1.0, rel=1e-15)


def test_just_below_one_something_is_left() -> None:
    assert DropoutMasks(0, 1, 0, 1, 1 - 1e-9, LIKE.device).scale == 65536


def test_the_same_place_has_the_same_bits_whatever_else_was_drawn() -> None:
    first = mask(3, 4)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    assert torch.equal(mask(3, 4), first) and torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("cut", [1, 5, 8])
def test_a_batch_in_parts_drops_what_the_whole_drops(cut: int) -> None:
    assert torch.equal(mask(), torch.cat([mask(like=LIKE[:cut]), mask(first_row=cut, like=LIKE[cut:])]))


def test_an_odd_size_is_filled_too() -> None:
    kept = mask(p=0.5, like=torch.zeros(4, 7, 3))
    assert kept.shape == (4, 7, 3) and 20 < kept.sum() < 64


@pytest.mark.parametrize("other", [{"seed": 1}, {"step": 1}, {"site": 1}, {"first_row": 16}])
def test_another_seed_step_site_or_row_is_independent(other: dict[str, int]) -> None:
    a, b = mask(p=0.5).flatten() * 2 - 1, mask(p=0.5, **other).flatten() * 2 - 1
    assert abs((a * b).mean().item()) < 4 / a.numel() ** 0.5


def test_neighbours_are_uncorrelated() -> None:
    large = torch.zeros(64, 64, 32)
    signs = mask(p=0.5, like=large) * 2 - 1
    shifted = {(shift, axis): signs.roll(shift, axis) for shift in (1, 2, 3, 16) for axis in (0, 1, 2)}
    steps = {step: mask(step=step, p=0.5, like=large) * 2 - 1 for step in range(1, 6)}
    for place, other in {**shifted, **steps}.items():
        assert abs((signs * other).mean().item()) < 4.5 / signs.numel() ** 0.5, place


def test_half_of_the_bits_of_a_key_turn_with_one_bit_of_its_origin() -> None:
    flips = [(fold_in(5, 9) ^ fold_in(5, 9 ^ (1 << bit))).bit_count() for bit in range(31)]
    assert 26 < sum(flips) / len(flips) < 38
    assert fold_in(1, 2) != fold_in(2, 1) and fold_in(1) != fold_in(1, 0)


def test_the_bits_are_those_of_the_first_version() -> None:
    """A run that an older version saved resumes to the same bits only while these stay."""
    assert fold_in(7, 300) == 10685647574764538511
    assert mask(7, 300, p=0.5).flatten()[:24].int().tolist() == [
        1, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 1, 1, 0, 1, 0, 0, 1, 0, 1, 1, 0, 1, 0,
    ]  # fmt: skip
