"""Events as runs write them, for the tests of the engine and of the console."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fundamentallm.run.commands import Explain
from fundamentallm.run.events import CheckpointSaved, Evaluated, Event, Explained, Inspected, decode, last_step

# Training and validation loss, epoch by epoch, of a run that overfits since its second epoch.
OVERFITTING = [(2.0, 2.0), (1.5, 1.8), (1.2, 1.9), (1.0, 2.1)]


def evaluated(step: int, val_loss: float, **changes: Any) -> Evaluated:
    """The end of an epoch whose losses are equal and the best so far, unless `changes` say otherwise."""
    values = {"epoch": 1, "train_loss": val_loss, "perplexity": 2.0, "epoch_ended": True, "best": True}
    return Evaluated(step=step, val_loss=val_loss, **{**values, **changes})


def layers_inspected(step: int, blocks: int = 2, seconds: float = 0.002) -> Inspected:
    """A measurement of the layers: the gradient of the n-th part is n tenths of a step's share of 1."""
    layers = ["embedding", *(f"blocks.{n}.{part}" for n in range(blocks) for part in ("attention", "feed_forward"))]
    norms = tuple((n + 1) / 10 / step for n in range(len(layers)))
    return Inspected(
        step=step, layers=tuple(layers), grad_norm=norms, weight_norm=tuple(10 + n * 2.0 for n in range(len(layers))),
        update_ratio=tuple(norm / 100 for norm in norms), seconds=seconds,
    )  # fmt: skip


def epochs(losses: Iterable[tuple[float, float]], steps: int = 80) -> list[Evaluated | CheckpointSaved]:
    """What a run reports at the ends of its epochs; after each best one it saves best.pt."""
    found: list[Evaluated | CheckpointSaved] = []
    lowest = float("inf")
    for epoch, (train_loss, val_loss) in enumerate(losses, 1):
        best, lowest = val_loss < lowest, min(val_loss, lowest)
        found.append(evaluated(steps * epoch, val_loss, epoch=epoch, train_loss=train_loss, best=best))
        if best:
            found.append(CheckpointSaved(step=steps * epoch, path="best.pt", kind="best", bytes=1000, seconds=0.1))
    return found


def recorded(name: str, last: int = 1_000_000) -> list[Event]:
    """The events of a real run, made by tests/fixtures/health/record.py, up to a step."""
    lines = (Path(__file__).parent / "fixtures" / "health" / f"{name}.jsonl").read_text().splitlines()
    return [event for event in map(decode, lines) if event is not None and last_step(event) <= last]


def explained(command: Explain, **changes: Any) -> Explained:
    """How a model might predict a text: at every third token likely, then less and less."""
    n = max(1, len(command.text) - 1)
    chances = tuple(0.9 / (1 + n % 11) ** 2 for n in range(n))
    rows = tuple(tuple(dict.fromkeys(command.text[i + 1 :: -1] + "etaoinshrdlu"))[:10] for i in range(n))
    shares = tuple(tuple(chances[i] * 0.6**k for k in range(len(rows[i]))) for i in range(n))
    values = {
        "tokens": tuple(command.text), "probability": chances, "rank": (2,) * n, "entropy": (1.5,) * n,
        "likeliest": rows, "likeliest_probability": shares,
    }  # fmt: skip
    return Explained(step=7, id=command.id, **{**values, **changes})
