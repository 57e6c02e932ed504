"""What the health pane shows, as text of a size."""

import pytest

from fundamentallm.config.config import Config
from fundamentallm.run.events import Evaluated
from fundamentallm.run.spec import RunSpec
from fundamentallm_tui.panes.health import current_verdict, health_line, health_text
from fundamentallm_tui.state.store import Store
from tests.tui.conftest import saved, started


def store_of(*losses: tuple[float, float], **settings: object) -> Store:
    """A store whose run has these training and validation losses, epoch by epoch."""
    store = Store()
    store.apply([started(RunSpec(Config(**settings), Store().folder), total=400, epochs=5)])  # type: ignore[arg-type]
    for epoch, (train_loss, val_loss) in enumerate(losses, 1):
        best = val_loss == min(loss for _, loss in losses[:epoch])
        event = Evaluated(
            step=80 * epoch, epoch=epoch, train_loss=train_loss, val_loss=val_loss, perplexity=1.0, epoch_ended=True,
            best=best,
        )  # fmt: skip
        store.apply([event, *([saved(80 * epoch, "best.pt", "best")] if best else [])])
    return store


OVERFITTING = [(2.0, 2.0), (1.5, 1.8), (1.2, 1.9), (1.0, 2.1)]


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


def test_a_low_pane_keeps_the_headline_and_the_key() -> None:
    verdict = current_verdict(store_of(*OVERFITTING))
    rows = health_text(verdict, 40, 20).plain.splitlines()
    assert rows[0] == "● overfitting" and rows[-1] == "h  Stop, and keep best.pt (epoch 2)"
    assert "The model memorises the text that it" in rows
    low = health_text(verdict, 40, 4).plain.splitlines()
    assert low[:2] == ["● overfitting", "h  Stop, and keep best.pt (epoch 2)"] and len(low) == 4
    assert all(len(row) <= 40 for row in (*rows, *low))
