"""How several processes share a step, and what they do after a restart; tests/end_to_end has the processes."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fundamentallm.config.config import Config, Layer, resolve
from fundamentallm.errors import UserError
from fundamentallm.run.commands import Stop
from fundamentallm.run.events import Phase
from fundamentallm.run.journal import Journal
from fundamentallm.run.spec import RunSpec
from fundamentallm.train import distributed
from fundamentallm.train.state import TrainState, build_state
from fundamentallm.train.trainer import Trainer
from tests.engine.train.conftest import Train


@pytest.mark.parametrize("size", [1, 2, 3, 4, 6, 8])
@pytest.mark.parametrize(("batch", "accumulation"), [(8, 3), (24, 1), (3, 8), (5, 24), (1, 48)])
def test_processes_share_all_rows_of_a_step(
    size: int, batch: int, accumulation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = resolve(Layer({"batch_size": batch, "accumulation_steps": accumulation}))
    monkeypatch.setattr(distributed, "size", lambda: size)
    rows: list[int] = []
    for rank in range(size):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        first, count, at_once = distributed.rows_of(config)
        assert first % at_once == count % at_once == 0 and at_once <= batch
        assert size > 1 or (count, at_once) == (batch * accumulation, batch)
        rows += range(first, first + count)
    assert rows == list(range(batch * accumulation))


def test_a_batch_that_cannot_be_shared_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "size", lambda: 4)
    rule = "batch size x accumulation steps must be a multiple of 4"
    with pytest.raises(UserError, match=f"^--batch-size 5: a step's 10 windows cannot be shared over .*; {rule}$"):
        distributed.rows_of(resolve(Layer({"batch_size": 5, "accumulation_steps": 2})))


def test_a_lost_process_is_said_without_torchs_words_for_a_closed_connection() -> None:
    lost = "another process of the run has ended"
    closed = RuntimeError("[gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:4")
    slow = RuntimeError("gloo: timed out waiting 1800000ms for recv operation to complete")
    assert distributed.is_lost(closed) and distributed.describe_loss(closed) == lost
    assert distributed.is_lost(slow) and distributed.describe_loss(slow) == f"{lost} ({slow})"
    assert not any(map(distributed.is_lost, (RuntimeError("out of memory"), OSError("Connection reset by peer"))))


def test_the_others_compute_with_as_many_threads_as_rank_0(
    build: Callable[..., TrainState], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    state = build()
    build_state(RunSpec(state.config, tmp_path / "other"), replace(state.checkpoint(), threads=2))
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(("before", "paused"), [(None, False), (1e9, True), (60.0, True), (-60.0, False)])
def test_a_restart_keeps_a_pause_of_its_own_agent_and_not_an_earlier_one(
    train: Train, before: float | None, paused: bool
) -> None:
    first = train(epochs=1, script={7: [Stop()]})
    journal = Journal(first.folder)
    at = journal.append(Phase(step=7, phase="paused")).time
    journal.close()
    began = None if before is None else at - before
    trainer = Trainer(RunSpec(Config(), first.folder, auto=True, agent_began=began), lambda event: None, lambda: [])
    trainer.close()
    assert trainer.control.paused == paused


def test_an_agent_began_before_the_processes_that_it_started() -> None:
    asked = "from fundamentallm.process.system import agent_began; print(agent_began())"
    found = float(subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True).stdout)
    assert 0 < time.time() - found < 24 * 3600  # of this process, which is that one's parent
