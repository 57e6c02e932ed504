"""The events of a run, filled in from its parts. Decides nothing and says nothing."""

import os
import socket

import torch

from fundamentallm import __version__
from fundamentallm.config.config import to_dict
from fundamentallm.config.estimate import count_parameters
from fundamentallm.run import events
from fundamentallm.run.spec import RunSpec
from fundamentallm.train.device import memory_in_use
from fundamentallm.train.evaluate import Evaluation
from fundamentallm.train.metrics import Metrics, StepMetrics
from fundamentallm.train.state import TrainState


def run_started(parts: TrainState, job: RunSpec) -> events.RunStarted:
    return events.RunStarted(
        step=parts.counters.step,
        version=__version__,
        config=to_dict(parts.config),
        parameters=count_parameters(parts.config, len(parts.tokenizer)),
        vocab_size=len(parts.tokenizer),
        steps_per_epoch=parts.corpus.steps_per_epoch,
        total_steps=parts.total_steps,
        device=str(parts.device),
        threads=torch.get_num_threads(),
        torch=str(torch.__version__),
        pid=os.getpid(),
        host=socket.gethostname(),
        resumed_from=str(parts.resumed_from) if parts.resumed_from else None,
        recovered=job.auto,
        changes=parts.changes,
        preset="" if parts.resumed_from else job.preset,
    )


def progress(parts: TrainState, columns: StepMetrics, meter: Metrics) -> events.Progress:
    return events.Progress(
        step=columns.step,
        train_loss=columns.train_loss,
        learning_rate=columns.learning_rate,
        grad_norm=columns.grad_norm,
        epoch=parts.epoch,
        tokens=parts.counters.tokens,
        tokens_per_second=meter.tokens_per_second,
        eta_seconds=meter.eta(parts.total_steps - parts.counters.step),
        memory_bytes=memory_in_use(parts.device),
    )


def evaluated(parts: TrainState, result: Evaluation, *, ended: bool, best: bool) -> events.Evaluated:
    """The losses as `parts.counters` has them after the evaluation."""
    train_loss = parts.counters.train_loss
    assert train_loss is not None
    return events.Evaluated(
        step=parts.counters.step,
        epoch=parts.epoch,
        train_loss=train_loss,
        val_loss=result.loss,
        perplexity=result.perplexity,
        epoch_ended=ended,
        best=best,
    )


def finished(parts: TrainState, reason: str, path: str | None, unsaved: str) -> events.Finished:
    counters = parts.counters
    return events.Finished(
        step=counters.step,
        reason=reason,
        epoch=parts.epoch,
        train_loss=counters.train_loss,
        val_loss=counters.val_loss,
        best_val_loss=counters.best_val_loss,
        best_step=counters.best_step,
        best_epoch=counters.best_epoch,
        seconds=round(counters.seconds, 1),
        tokens=counters.tokens,
        path=path,
        unsaved=unsaved,
    )
