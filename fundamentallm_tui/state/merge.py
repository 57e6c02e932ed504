"""Makes one event of many reports in a row: a journal of a hundred thousand steps is taken in at once."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, groupby

from fundamentallm.run.events import Event, Progress


def merged(events: list[Event]) -> Iterator[Event]:
    """The same events; of Progress events that follow one another, one with all their steps, which must increase."""
    for together, batch in groupby(events, lambda event: isinstance(event, Progress) and _whole(event)):
        if not together:
            yield from batch
            continue
        group: list[Progress] = []
        for event in batch:
            if isinstance(event, Progress):
                if group and event.step[0] <= group[-1].step[-1]:  # a start between them got lost
                    yield _one(group)
                    group = []
                group.append(event)
        if group:
            yield _one(group)


def _whole(event: Progress) -> bool:
    return bool(event.step) and len(event.step) == len(event.train_loss) == len(event.learning_rate)


def _one(group: list[Progress]) -> Progress:
    """The last of them, with the columns of all."""
    if len(group) == 1:
        return group[0]
    return replace(
        group[-1],
        step=tuple(chain.from_iterable(event.step for event in group)),
        train_loss=tuple(chain.from_iterable(event.train_loss for event in group)),
        learning_rate=tuple(chain.from_iterable(event.learning_rate for event in group)),
        grad_norm=tuple(chain.from_iterable(event.grad_norm for event in group)),
    )
