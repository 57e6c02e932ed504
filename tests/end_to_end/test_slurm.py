"""docs/train.slurm: a dry run, in which the commands of Slurm say what they were asked, and do it here."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from fundamentallm.run import events
from fundamentallm.run.locks import is_held
from fundamentallm.train.checkpoint import load
from tests.conftest import journal_events, until
from tests.end_to_end.test_processes import PATIENCE, SETTINGS

HOME = Path(__file__).parents[2]
FAKES = {
    "scontrol": 'test "$*" = "show hostnames node[1-2]" && printf "localhost\\nlocalhost2\\n"\n',
    "srun": 'printf "%s\\n" "$@" > srun.asked\nshift\nexec "$@"\n',
    "torchrun": f'exec "{sys.executable}" -m torch.distributed.run "$@"\n',
}


def test_the_slurm_script_trains_with_torchrun_until_its_time_is_up(
    tmp_path: Path, tiny: list[str], kill_leftovers: None
) -> None:
    folder, errors = tmp_path / "run", tmp_path / "err"
    script = HOME / "docs" / "train.slurm"
    subprocess.run(["bash", "-n", str(script)], check=True)
    for name, lines in FAKES.items():
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{lines}")
        (tmp_path / "bin" / name).chmod(0o755)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    slurm = {"JOB_NODELIST": "node[1-2]", "JOB_NUM_NODES": "1", "JOB_ID": "42", "GPUS_ON_NODE": "2"}
    slurm = {f"SLURM_{name}": value for name, value in slurm.items()}
    environment = {**os.environ, **slurm, "PORT": str(port), "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    with errors.open("w") as err:
        command = ["bash", str(script), "run", *SETTINGS[1:]]
        program = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=err, stderr=err)
    until(lambda: journal_events(folder, events.Progress) or program.poll() is not None, timeout=PATIENCE)
    assert program.poll() is None, errors.read_text()
    program.send_signal(signal.SIGTERM)  # which Slurm sends before the time is up, and torchrun passes on
    program.wait(timeout=PATIENCE)
    asked = (tmp_path / "srun.asked").read_text().split("\n")
    assert asked[:6] == ["--kill-on-bad-exit=0", "torchrun", "--nnodes", "1:1", "--nproc-per-node", "2"]
    assert f"localhost:{port}" in asked and "--resume" in asked
    (start,), (end,) = (journal_events(folder, kind) for kind in (events.RunStarted, events.Finished))
    assert start.processes == 2 and end.reason == "stopped" and not is_held(folder)
    assert load(folder / "last.pt").progress().step == end.step
