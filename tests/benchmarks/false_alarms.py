"""Measure how often the health verdicts raise a false alarm in healthy runs.

    python tests/benchmarks/false_alarms.py FOLDER [TEXT...]

Trains 25 runs, five seeds each of the sets below, in FOLDER, where the runs that are complete are only judged again.
The texts are the beginnings of the sample text, and of those named: where there are none, the sample text's end.

Every run is judged after each of its steps. A warning is a false alarm, as all settings are a preset's; but overfitting
is one only if the validation loss later falls a percent below what it was at its best when the alarm came.
"""

import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch

from fundamentallm.config.config import SETTINGS, Config, Layer, resolve
from fundamentallm.config.files import load_preset, preset_layer
from fundamentallm.paths import shipped
from fundamentallm.run.events import JOURNAL
from fundamentallm.run.health import GOOD, NOTE, Verdict, assess
from fundamentallm.run.history import RunHistory, read_history
from fundamentallm.run.spec import RunSpec
from fundamentallm.train.trainer import Trainer

SEEDS = range(5)
SHORT = {"max_seq_len": 64, "stride": 16}
SETS = {  # preset, which text, its characters, settings
    "tiny, a short text": ("tiny", 0, 20_000, {}),
    "tiny, another": ("tiny", 1, 25_000, {}),
    "tiny, a very short text, twenty epochs": ("tiny", 0, 6_000, {**SHORT, "epochs": 20}),
    "small, few steps": ("small", 0, 20_000, {**SHORT, "stride": 8, "epochs": 2}),
    "small, another": ("small", 1, 25_000, {**SHORT, "stride": 8, "epochs": 2}),
}


def configurations(folder: Path, texts: list[str]) -> Iterator[tuple[str, Config]]:
    """Make each set's configurations; their texts are written to `folder`."""
    for number, (name, (preset, which, size, settings)) in enumerate(SETS.items()):
        path = folder / f"text{number}.txt"
        path.write_text(texts[which][:size])
        for seed in SEEDS:
            own = {**settings, "data": str(path), "seed": seed, "device": "cpu"}
            yield name, resolve(preset_layer(load_preset(preset), Layer(own)), Layer(own))


def train(config: Config, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    trainer = Trainer(RunSpec(config, folder), lambda event: None, lambda: ())
    try:
        trainer.run()
    finally:
        trainer.close()


def verdicts(history: RunHistory) -> Iterator[tuple[int, Verdict]]:
    """Every verdict on a run, with the step at which it begins to hold."""
    assert history.started is not None
    config = resolve(Layer({name: value for name, value in history.config.items() if name in SETTINGS}))
    kind = ""
    for step in range(history.step + 1):
        verdict = assess(history, config, history.started.vocab_size, step)
        if verdict.kind != kind:
            kind = verdict.kind
            yield step, verdict


def is_false(history: RunHistory, step: int, verdict: Verdict) -> bool:
    """Whether a verdict is an alarm that the rest of the run does not confirm."""
    if verdict.level in (GOOD, NOTE):
        return False
    later = [event.val_loss for event in history.evaluations if event.step > step]
    best = min((event.val_loss for event in history.evaluations if event.step <= step), default=0.0)
    return verdict.kind != "overfitting" or min(later, default=best) < 0.99 * best


def main() -> None:
    """Print each run's verdicts, and how many runs had a false alarm."""
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    sample = (shipped("data/samples") / "sample_data.txt").read_text()
    texts = [sample, *(Path(name).read_text() for name in sys.argv[2:]), sample[-25_000:]]
    os.chdir(folder)
    counts: Counter[str] = Counter()
    for number, (name, config) in enumerate(configurations(Path(), texts)):
        run = Path(f"run{number}")
        if not (run / JOURNAL).exists() or not read_history(run, steps=False).completed:
            train(config, run)
        history = read_history(run)
        found = list(verdicts(history))
        false = [verdict for step, verdict in found if is_false(history, step, verdict)]
        counts["runs"] += 1
        counts["runs with a false alarm"] += bool(false)
        counts.update(f"false: {verdict.kind}" for verdict in false)
        counts.update({verdict.kind for _, verdict in found})
        ends = history.evaluations[-1]
        losses = f"train {ends.train_loss:.3f} val {ends.val_loss:.3f}"
        kinds = ", ".join(f"{verdict.kind} {step}" for step, verdict in found)
        print(
            f"{name}, seed {config.seed}: {history.step} steps, {losses}: {kinds}" + "  FALSE" * bool(false), flush=True
        )
    print(*(f"{name}: {count}" for name, count in counts.items()), sep="\n")


if __name__ == "__main__":
    main()
