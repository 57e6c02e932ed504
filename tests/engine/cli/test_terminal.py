"""What is written to a terminal fits into its cells."""

from rich.cells import cell_len

from fundamentallm.cli.terminal import columns, fit


def test_parts_fit_into_cells_not_characters() -> None:
    assert fit(["epoch 1", "loss 2"], 16) == "epoch 1 | loss 2"
    assert fit(["epoch 1", "loss 2"], 15) == "epoch 1"
    assert fit(["海浪海浪", "loss 2"], 17) == "海浪海浪 | loss 2"
    assert fit(["海浪海浪", "loss 2"], 16) == "海浪海浪"
    assert [cell_len(fit(["海浪海浪"], cells)) for cells in (8, 7, 6, 1)] == [8, 7, 6, 1]


def test_columns_are_aligned_by_cells() -> None:
    lines = columns([("海浪", "1"), ("a", "2"), ("e\u0301😀", "3")])
    assert [cell_len(line) for line in lines] == [7, 7, 7] and lines[1] == "a     2"
