"""The short form of `make torture`: whatever is done to a run, nothing of it is lost."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(sys.platform != "linux", reason="forks; asks /proc")
def test_nothing_is_lost() -> None:
    command, folder = [sys.executable, "-m", "tests.torture", "--short"], Path(__file__).parents[2]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
