"""Trackers, other programs to watch a run with: TensorBoard, Weights & Biases. They see events and change nothing.

A tracker that fails is dropped with a notice; training continues.
"""

from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any

from fundamentallm.config.config import Config, to_dict
from fundamentallm.errors import UserError, describe_error
from fundamentallm.paths import user_path
from fundamentallm.run.events import Evaluated, Event, Failed, Finished, Intervention, Progress, RunStarted, Sampled


class TensorBoard:
    """Event files under `<log_dir>/<run name>`; a resumed run continues its curves."""

    def __init__(self, log_dir: Path, name: str, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # half a second, only for those who ask

        (log_dir / name).mkdir(parents=True, exist_ok=True)
        # TensorBoard then hides later steps that earlier event files of this run hold: the run went back to this one.
        self._writer = SummaryWriter(str(log_dir / name), purge_step=first_step + 1 if first_step else 0)
        self._config: dict[str, Any] = {}
        self._samples: dict[str, str] = {}  # by id, the text so far

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
            text = self._samples[event.id] = self._samples.get(event.id, event.prompt) + event.text
            if event.done:
                self._writer.add_text("sample", text, event.step, event.time)
                del self._samples[event.id]
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
        if isinstance(event, Intervention):
            self._run.config.update({event.setting: event.new}, allow_val_change=True)  # type: ignore[no-untyped-call]
        if isinstance(event, (Finished, Failed)):
            self._run.summary["outcome"] = event.reason if isinstance(event, Finished) else event.error

    def close(self) -> None:
        self._run.finish()
        self._end()  # ends the process of wandb, which its exit handler would do; a worker leaves without exit handlers


Tracker = TensorBoard | WeightsAndBiases


def start(config: Config, folder: Path, step: int, notice: Callable[[str], None]) -> list[Tracker]:
    """Start the trackers that a configuration asks for, for a run that continues after `step`.

    One that fails is left out, and `notice` gets a sentence about it.
    """
    trackers: list[Tracker] = []
    name = folder.resolve().name
    if config.tensorboard:
        try:
            trackers.append(TensorBoard(user_path(config.log_dir), name, step))
        except OSError as error:
            notice(f"TensorBoard is off, training continues: {config.log_dir}: {describe_error(error)}")
    if config.wandb:
        try:
            trackers.append(WeightsAndBiases(config.project, folder, to_dict(config)))
        except ImportError:
            notice("wandb is not installed (pip install wandb); training continues without it")
        except Exception as error:  # its own kinds: no login, no network, a bad project
            notice(f"Weights & Biases is off, training continues: {' '.join(str(error).split())[:300]}")
    return trackers


def _logged_in(wandb: Any) -> bool:
    if "prompt" in signature(wandb.login).parameters:  # 0.31 and later
        return bool(wandb.login(prompt=False))
    return bool(wandb.api.api_key)


def scalars(event: Event) -> list[tuple[int, dict[str, float]]]:
    """Return the numbers of an event, a row for each step, under the names that both trackers show."""
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
