"""Who asks for signals gets them until it is done; tests/end_to_end/test_signals.py sends them to runs."""

import signal

import pytest

from fundamentallm.process.system import obeyed


def test_stop_gets_the_number_and_may_raise_and_handlers_are_put_back() -> None:
    def stop(number: int) -> None:
        raise SystemExit(128 + number)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit, match="143"), obeyed(stop, signal.SIGTERM):
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
