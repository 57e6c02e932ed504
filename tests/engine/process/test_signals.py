"""The first signal asks, the second insists."""

import os
import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of Unix")

SCRIPT = """
import sys, time
from fundamentallm.process.signals import obeyed
asked = []
with obeyed(sys.argv[2:], lambda: (asked.append(1), print("asked", flush=True))) as received:
    print("ready", flush=True)
    while sys.argv[1] == "deaf" or not asked:
        time.sleep(0.01)
print("saved", flush=True)
sys.exit(128 + received[0])
"""


def start(manner: str, *names: str, ignored: bool = False) -> "subprocess.Popen[str]":
    def prepare() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)

    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, manner, *names], stdout=subprocess.PIPE, text=True, preexec_fn=prepare
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_the_first_finishes_and_the_second_ends_at_once(name: str) -> None:
    number = getattr(signal, name)
    polite = start("polite", "SIGINT", "SIGTERM")
    polite.send_signal(number)
    assert polite.communicate(timeout=60)[0] == "asked\nsaved\n" and polite.returncode == 128 + number
    deaf = start("deaf", "SIGINT", "SIGTERM")
    assert deaf.stdout is not None
    deaf.send_signal(signal.SIGTERM)
    assert deaf.stdout.readline() == "asked\n"
    deaf.send_signal(number)
    assert deaf.communicate(timeout=60)[0] == "" and deaf.returncode == 128 + number


def test_a_hangup_that_is_ignored_stays_so() -> None:
    process = start("polite", "SIGHUP", "SIGTERM", "SIGNONSENSE", ignored=True)
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=60)[0] == "asked\nsaved\n" and process.returncode == 143


def test_handlers_are_put_back() -> None:
    from fundamentallm.process.signals import obeyed

    before = signal.getsignal(signal.SIGTERM)
    with obeyed(["SIGTERM"], lambda: None) as received:
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before and received == []


def test_a_signal_that_comes_before_anything_was_done_is_known_where_stop_raises() -> None:
    from fundamentallm.process.signals import obeyed

    def stop() -> None:
        raise InterruptedError

    received: list[int] = []
    manager = obeyed(["SIGTERM"], stop, received)
    manager.__enter__()
    with pytest.raises(InterruptedError):
        signal.raise_signal(signal.SIGTERM)
    manager.__exit__(None, None, None)
    assert received == [signal.SIGTERM]
