"""What others watch a run with: TensorBoard, Weights & Biases. They hear the run's events and change nothing.

A tracker that fails is dropped with a notice; training goes on.
"""

from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any, Protocol

from fundamentallm.config.config import Config, to_dict
from fundamentallm.errors import UserError
from fundamentallm.run.events import Evaluated, Event, Failed, Finished, Progress, RunStarted, Sampled


class Tracker(Protocol):
    """Sees every event in order."""

    def on_event(self, event: Event) -> None: ...

    def close(self) -> None: ...


def start(config: Config, folder: Path, step: int, notice: Callable[[str], None]) -> list[Tracker]:
    """The trackers that a configuration asks for, of a run that goes on from `step`; those that fail are left out."""
    trackers: list[Tracker] = []
    name = folder.resolve().name
    if config.tensorboard:
        try:
            trackers.append(TensorBoard(Path(config.log_dir).expanduser(), name, step))
        except OSError as error:
            notice(f"TensorBoard is off, training goes on: {config.log_dir}: {error.strerror or error}")
    if config.wandb:
        try:
            trackers.append(WeightsAndBiases(config.project, folder, to_dict(config)))
        except ImportError:
            notice("wandb is not installed (pip install wandb); training goes on without it")
        except Exception as error:  # its own kinds: no login, no network, a bad project
            notice(f"Weights & Biases is off, training goes on: {' '.join(str(error).split())[:300]}")
    return trackers


class TensorBoard:
    """Event files under `<log_dir>/<run name>`; a resumed run continues its curves."""

    def __init__(self, log_dir: Path, name: str, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # half a second, only for those who ask

        (log_dir / name).mkdir(parents=True, exist_ok=True)
        # what an earlier run of this name told of these steps is shown no more
        self._writer = SummaryWriter(str(log_dir / name), purge_step=first_step + 1 if first_step else 0)
        self._texts: dict[str, str] = {}

    def on_event(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            rows = "\n".join(f"| {name} | {value} |" for name, value in event.config.items())
            self._writer.add_text("settings", f"| setting | value |\n|---|---|\n{rows}", event.step, event.time)
            self._tell_hyperparameters(event.config)
        for step, row in scalars(event):
            for name, value in row.items():
                self._writer.add_scalar(name, value, step, event.time)
        if isinstance(event, Sampled):
            text = self._texts[event.id] = self._texts.get(event.id, event.prompt) + event.text
            if event.done:
                self._writer.add_text("sample", text, event.step, event.time)
                del self._texts[event.id]
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()

    def _tell_hyperparameters(self, config: dict[str, Any]) -> None:
        """For the HPARAMS tab; `SummaryWriter.add_hparams` would make a run of its own for them."""
        from torch.utils.tensorboard.summary import hparams

        plain = {k: v if isinstance(v, (bool, int, float, str)) else str(v) for k, v in config.items()}
        writer: Any = self._writer.file_writer
        for summary in hparams(plain, {"loss/val": None})[:2]:  # type: ignore[no-untyped-call]
            writer.add_summary(summary)  # the third would say that the run is over


class WeightsAndBiases:
    """A run of Weights & Biases; `WANDB_MODE=offline` keeps it on this machine. Asks nothing, prints nothing."""

    def __init__(self, project: str, folder: Path, config: dict[str, Any]) -> None:
        import wandb

        quiet = wandb.Settings(silent=True, console="off")
        self._end = wandb.teardown
        name = folder.resolve().name
        try:
            if wandb.setup(settings=quiet).settings.mode == "online" and not _logged_in(wandb):
                raise UserError("nobody is logged in; run `wandb login`, or set WANDB_MODE=offline")
            self._run = wandb.init(project=project, name=name, dir=folder, config=config, settings=quiet)
        except BaseException:
            self._end()
            raise

    def on_event(self, event: Event) -> None:
        for step, row in scalars(event):
            self._run.log(row, step=step)
        if isinstance(event, (Finished, Failed)):
            self._run.summary["outcome"] = event.reason if isinstance(event, Finished) else event.error

    def close(self) -> None:
        self._run.finish()
        self._end()  # its helper process: ours may leave without the usual farewells


def _logged_in(wandb: Any) -> bool:
    if "prompt" in signature(wandb.login).parameters:  # 0.31 and later
        return bool(wandb.login(prompt=False))
    return bool(wandb.api.api_key)


def scalars(event: Event) -> list[tuple[int, dict[str, float]]]:
    """The numbers of an event by step, under the names that both trackers show."""
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
