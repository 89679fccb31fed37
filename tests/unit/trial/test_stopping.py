"""A list of trainings stops on a signal or when its time is over, and leaves the handlers as they were."""

from __future__ import annotations

import os
import signal
import time

import pytest

from afma_med.trial.stopping import TimeIsUp, stop_after, stop_on_signals

HANDLED = (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)


def handlers() -> list[object]:
    return [signal.getsignal(one) for one in HANDLED]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signal_becomes_an_exit(number: signal.Signals) -> None:
    # Under `nohup`, the tests themselves ignore SIGHUP.
    outside = signal.signal(number, signal.SIG_DFL)
    before = handlers()
    try:
        with pytest.raises(SystemExit) as ended, stop_on_signals():
            os.kill(os.getpid(), number)
            time.sleep(10)
        assert ended.value.code == 128 + number
        assert handlers() == before
    finally:
        signal.signal(number, outside)


def test_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signals():
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_time_ends_a_block_and_no_longer_one_that_is_over() -> None:
    before = handlers()
    with pytest.raises(TimeIsUp), stop_after(0.001):
        time.sleep(10)
    with stop_after(0.001):
        pass
    time.sleep(0.1)
    with stop_after(None):
        assert handlers() == before
    assert handlers() == before
