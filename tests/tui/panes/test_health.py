"""What the health pane shows, as text of a size."""

import pytest

from fundamentallm.config.config import Config
from fundamentallm.run.events import Failed
from fundamentallm.run.spec import RunSpec
from fundamentallm_tui.panes.health import current_verdict, health_line, health_text
from fundamentallm_tui.state.store import Store
from tests.events import OVERFITTING, epochs
from tests.tui.fakes import started


def store_of(*losses: tuple[float, float], **settings: object) -> Store:
    """A store whose run has these training and validation losses, epoch by epoch."""
    store = Store()
    store.apply([started(RunSpec(Config(**settings), Store().folder), total=400, epochs=5)])  # type: ignore[arg-type]
    store.apply([*epochs(losses)])
    return store


@pytest.mark.parametrize(
    ("losses", "begins"),
    [
        ([], " ● too early to tell: the validation loss comes after epoch 1, at step 80"),
        ([(2.0, 2.2)], " ● healthy: gap 10 %: train 2.000, val 2.200, the best so far"),
        (OVERFITTING, " ● overfitting: since epoch 2 the validation loss rose from 1.800"),
    ],
)
def test_one_line_has_the_verdict_and_its_numbers(losses: list[tuple[float, float]], begins: str) -> None:
    line = health_line(store_of(*losses), 80)
    assert line.plain.startswith(begins) and line.cell_length <= 80
    assert line.plain.endswith("h acts") == (losses == OVERFITTING)
    assert health_line(Store(), 80).plain == " ● no run yet: F5 starts one"


def test_a_run_that_failed_is_not_called_healthy() -> None:
    failed, gone = store_of((2.0, 2.2)), store_of((2.0, 2.2))
    failed.apply([Failed(step=90, error="out of memory", advice="--batch-size 8")])
    assert health_line(failed, 80).plain == " ● failed: out of memory; try --batch-size 8"
    gone.disconnected("killed by signal 9", [])
    assert health_line(gone, 80).plain == " ● interrupted: its process is gone; the log has more"
    for store in (failed, gone):  # resumed: what was wrong before does not stand while its process loads
        store.begin(store.folder, "run", Config(), resumes=True)
        assert health_line(store, 80).plain == " ● no verdict yet: the run is starting"


@pytest.mark.parametrize(
    ("width", "height", "rows", "kept"),
    [
        (40, 20, 12, "text help; more epochs do not."),  # all, with gaps
        (40, 10, 10, "text help; more epochs do not."),
        (40, 8, 8, "it has not seen."),  # the first sentence only
        (82, 4, 3, "the training loss fell to 1.000; best.pt keeps epoch 2"),
        (82, 2, 2, "● overfitting: since epoch 2 the validation loss rose from 1.800 to 2.100 while t…"),
        (40, 3, 3, "validation loss rose from 1.800 to 2.10…"),
    ],
)
def test_a_low_pane_keeps_the_verdict_and_the_key(width: int, height: int, rows: int, kept: str) -> None:
    text = health_text(current_verdict(store_of(*OVERFITTING)), width, height).plain.splitlines()
    assert text[0].startswith("● overfitting") and text[-1] == "h  Stop, and keep best.pt (epoch 2)"
    assert len(text) == rows and all(len(row) <= width for row in text) and kept in text


@pytest.mark.parametrize(("width", "line"), [
    (60, " ● overfitting: since epoch 2 the validation loss r…  h acts"),
    (33, " ● overfitting  h acts"), (18, " ● overfitting  h"), (10, " ● overfi…"),
])  # fmt: skip
def test_a_short_line_keeps_the_verdict_rather_than_its_numbers(width: int, line: str) -> None:
    assert health_line(store_of(*OVERFITTING), width).plain == line
