"""The first signal asks, the second insists."""

import signal
import subprocess
import sys

import pytest

from fundamentallm.process.system import obeyed

SCRIPT = """
import os, signal, sys, time
from fundamentallm.process.system import obeyed
asked = []
names = [getattr(signal, name) for name in sys.argv[2:]]
with obeyed(lambda number: (asked.append(number), os.write(1, b"asked\\n")), *names) as received:
    print("ready", flush=True)
    while sys.argv[1] == "deaf" or not asked:
        time.sleep(0.01)
print("saved", flush=True)
sys.exit(128 + received[0])
"""


def start(manner: str, *names: str, hangup: signal.Handlers = signal.SIG_DFL) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, manner, *names],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, hangup),
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_finishes_and_the_second_ends_at_once(number: signal.Signals) -> None:
    polite = start("polite", "SIGINT", "SIGTERM")
    polite.send_signal(number)
    assert polite.communicate(timeout=60)[0] == "asked\nsaved\n" and polite.returncode == 128 + number
    deaf = start("deaf", "SIGINT", "SIGTERM")
    assert deaf.stdout is not None
    deaf.send_signal(signal.SIGTERM)
    assert deaf.stdout.readline() == "asked\n"
    deaf.send_signal(number)
    assert deaf.communicate(timeout=60)[0] == "" and deaf.returncode == 128 + number


def test_an_ignored_hangup_stays_ignored() -> None:
    process = start("polite", "SIGHUP", "SIGTERM", hangup=signal.SIG_IGN)
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=60)[0] == "asked\nsaved\n" and process.returncode == 143


def test_stop_gets_the_number_and_may_raise_and_handlers_are_put_back() -> None:
    def stop(number: int) -> None:
        raise SystemExit(128 + number)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit, match="143"), obeyed(stop, signal.SIGTERM):
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
