"""Trackers, other programs to watch a run with. They see events and change nothing.

- A tracker is made from a configuration, the folder of the run and the step after which it continues, gets every event,
  and is closed at the end. A package offers one of its own as an entry point of the group `GROUP`.
- One that fails is dropped with a notice; training continues.
"""

import io
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from importlib.metadata import entry_points
from inspect import signature
from pathlib import Path
from typing import Any, Protocol

from fundamentallm.config.config import Config, to_dict, unknown
from fundamentallm.errors import UserError, system_errors
from fundamentallm.paths import user_path
from fundamentallm.run.events import Evaluated, Event, Failed, Finished, Intervention, Progress, RunStarted, Sampled

GROUP = "fundamentallm.trackers"  # of entry points


class Tracker(Protocol):
    """What a run calls. `on_event` gets what docs/runs.md lists; the run waits for it."""

    def on_event(self, event: Event) -> None: ...

    def close(self) -> None: ...


Factory = Callable[[Config, Path, int], Tracker]


class TensorBoard:
    """Event files under `<log_dir>/<run name>`; a resumed run continues its curves."""

    def __init__(self, config: Config, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # half a second, only for those who ask

        target = user_path(config.log_dir) / folder.resolve().name
        with system_errors(config.log_dir):
            target.mkdir(parents=True, exist_ok=True)
            # TensorBoard then hides later steps that earlier event files of this run hold: the run went back to `step`.
            self._writer = SummaryWriter(str(target), purge_step=step + 1 if step else 0)
        self._config: dict[str, Any] = {}
        self._samples: dict[tuple[str, int], str] = {}  # by id and number, the text so far

    def on_event(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self._config = dict(event.config)
            self._write_settings(event.step, event.time)
            self._write_hyperparameters()
        if isinstance(event, Intervention):
            self._config[event.setting] = event.new
            self._write_settings(event.step, event.time)
        for step, row in scalars(event):
            for name, value in row.items():
                self._writer.add_scalar(name, value, step, event.time)
        if isinstance(event, Sampled):
            sample = event.id, event.number
            text = self._samples[sample] = self._samples.get(sample, event.prompt) + event.text
            if event.done:
                self._writer.add_text("sample", text, event.step, event.time)
                del self._samples[sample]
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()

    def _write_settings(self, step: int, time: float) -> None:
        rows = "\n".join(f"| {name} | {value} |" for name, value in self._config.items())
        self._writer.add_text("settings", f"| setting | value |\n|---|---|\n{rows}", step, time)

    def _write_hyperparameters(self) -> None:
        """Fill the HPARAMS tab; `SummaryWriter.add_hparams` would make a run of its own for it."""
        from torch.utils.tensorboard.summary import hparams

        plain = {k: v if isinstance(v, (bool, int, float, str)) else str(v) for k, v in self._config.items()}
        writer: Any = self._writer.file_writer
        for summary in hparams(plain, {"loss/val": None})[:2]:  # type: ignore[no-untyped-call]
            writer.add_summary(summary)  # the third would say that the run is over


class WeightsAndBiases:
    """A run of Weights & Biases; `WANDB_MODE=offline` keeps it on this machine. It asks nothing and prints nothing."""

    def __init__(self, config: Config, folder: Path, step: int) -> None:
        import wandb

        quiet = wandb.Settings(silent=True, console="off")
        self._end = wandb.teardown
        name = folder.resolve().name
        try:
            if wandb.setup(settings=quiet).settings.mode == "online" and not _logged_in(wandb):
                raise UserError("nobody is logged in; run `wandb login`, or set WANDB_MODE=offline")
            self._run = wandb.init(
                project=config.project, name=name, dir=folder, config=to_dict(config), settings=quiet
            )
        except BaseException:
            self._end()
            raise

    def on_event(self, event: Event) -> None:
        for step, row in scalars(event):
            self._run.log(row, step=step)
        if isinstance(event, Intervention):
            self._run.config.update({event.setting: event.new}, allow_val_change=True)  # type: ignore[no-untyped-call]
        if isinstance(event, (Finished, Failed)):
            self._run.summary["outcome"] = event.reason if isinstance(event, Finished) else event.error

    def close(self) -> None:
        try:
            self._run.finish()
        finally:
            self._end()  # ends wandb's process, as its exit handler would do; a worker leaves without exit handlers


class MLflow:
    """A run of MLflow, in the experiment `project`, where MLFLOW_TRACKING_URI says; by default on this machine."""

    def __init__(self, config: Config, folder: Path, step: int) -> None:
        import mlflow

        self._client, self._metric = mlflow.MlflowClient(), mlflow.entities.Metric
        experiment = self._client.get_experiment_by_name(config.project)
        id = experiment.experiment_id if experiment else self._client.create_experiment(config.project)
        self._run = self._client.create_run(id, run_name=folder.resolve().name).info.run_id
        for name, value in to_dict(config).items():
            self._client.log_param(self._run, name, value)
        self._status = "KILLED"  # where no end comes

    def on_event(self, event: Event) -> None:
        time = int(event.time * 1000)
        metrics = [self._metric(n, value, time, step) for step, row in scalars(event) for n, value in row.items()]
        for start in range(0, len(metrics), MLFLOW_BATCH):
            self._client.log_batch(self._run, metrics[start : start + MLFLOW_BATCH])
        if isinstance(event, Intervention):  # a parameter cannot change
            self._client.set_tag(self._run, f"{event.setting} after step {event.step}", event.new)
        if isinstance(event, (Finished, Failed)):
            self._status = "FAILED" if isinstance(event, Failed) else "FINISHED"
            self._client.set_tag(self._run, "outcome", event.error if isinstance(event, Failed) else event.reason)

    def close(self) -> None:
        self._client.set_terminated(self._run, self._status)


class Trackio:
    """A run of Trackio in the project `project`, on this machine. It prints nothing."""

    def __init__(self, config: Config, folder: Path, step: int) -> None:
        import trackio

        with redirect_stdout(io.StringIO()):
            self._run = trackio.init(project=config.project, name=folder.resolve().name, config=to_dict(config))

    def on_event(self, event: Event) -> None:
        for step, row in scalars(event):
            self._run.log(row, step=step)

    def close(self) -> None:
        import trackio

        with redirect_stdout(io.StringIO()):
            trackio.finish()  # not the run's own: Trackio would finish it again at the exit, and print that


MLFLOW_BATCH = 1000  # metrics in one call, at most
TRACKERS: dict[str, tuple[str, Factory]] = {  # by name: what messages call it
    "tensorboard": ("TensorBoard", TensorBoard), "wandb": ("Weights & Biases", WeightsAndBiases),
    "mlflow": ("MLflow", MLflow), "trackio": ("Trackio", Trackio),
}  # fmt: skip


def check(names: tuple[str, ...]) -> None:
    """Raise a UserError if one of `names` is no tracker, neither ours nor of a package that is installed."""
    known = (*TRACKERS, *(point.name for point in entry_points(group=GROUP)))
    for name in names:
        if name not in known:
            raise UserError(f"--track {name}: {unknown('tracker', name, known)}")


def title(tracker: Tracker) -> str:
    """What messages call a tracker."""
    return next((title for title, kind in TRACKERS.values() if kind is type(tracker)), type(tracker).__name__)


def start(config: Config, folder: Path, step: int, notice: Callable[[str], None]) -> list[Tracker]:
    """Start the trackers that a configuration asks for, for a run that continues after `step`.

    One that fails is left out, and `notice` gets a sentence about it.
    """
    trackers: list[Tracker] = []
    flags = [name for name in ("tensorboard", "wandb") if getattr(config, name)]
    for name in dict.fromkeys((*flags, *config.track)):
        title = TRACKERS[name][0] if name in TRACKERS else name
        try:
            factory = TRACKERS[name][1] if name in TRACKERS else entry_points(group=GROUP)[name].load()
            trackers.append(factory(config, folder, step))
        except ImportError as error:
            missing = error.name or name
            notice(f"{missing} is not installed (pip install {missing}); training continues without it")
        except Exception as error:  # its own kinds: no login, no network, a bad project
            notice(f"{title} is off, training continues: {' '.join(str(error).split())[:300]}")
    return trackers


def close(tracker: Tracker) -> None:
    """End a tracker, also one that has failed."""
    with suppress(Exception):
        tracker.close()


def _logged_in(wandb: Any) -> bool:
    if "prompt" in signature(wandb.login).parameters:  # 0.31 and later
        return bool(wandb.login(prompt=False))
    return bool(wandb.api.api_key)


def scalars(event: Event) -> list[tuple[int, dict[str, float]]]:
    """Return the numbers of an event, a row for each step, under the names that all trackers show."""
    if isinstance(event, Progress):
        columns = zip(event.step, event.train_loss, event.learning_rate, event.grad_norm, strict=True)
        rows = [
            (step, {"loss/train": loss, "learning_rate": rate, "grad_norm": norm}) for step, loss, rate, norm in columns
        ]
        rows[-1][1]["tokens_per_second"] = event.tokens_per_second
        return rows
    if isinstance(event, Evaluated):
        return [(event.step, {"loss/val": event.val_loss, "perplexity": event.perplexity})]
    return []
