"""A signal stops a training after the current step, with a checkpoint; a second one stops it at once."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator

import pytest
from ignite.engine import Engine, Events

from afma_med.handlers import StopSignalsHandler

STEPS = 5


@pytest.fixture(autouse=True)
def handlers_come_back() -> Iterator[None]:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    yield
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


class Training:
    """A trainer of two epochs that is sent signals in some of its steps."""

    def __init__(self, signals: dict[int, list[int]]) -> None:
        self.signals = signals
        self.steps: list[int] = []
        self.saved: list[int] = []
        self.epochs: list[int] = []
        self.engine = Engine(self.step)
        self.engine.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: self.epochs.append(engine.state.epoch))
        self.stop = StopSignalsHandler(lambda engine: self.saved.append(engine.state.iteration), "--resume True")
        self.stop.attach(self.engine)

    def step(self, engine: Engine, batch: int) -> None:
        for number in self.signals.get(engine.state.iteration, []):
            os.kill(os.getpid(), number)
        self.steps.append(engine.state.iteration)

    def run(self) -> None:
        self.engine.run(range(STEPS), max_epochs=2)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stops_after_the_step_and_saves(number: int, caplog: pytest.LogCaptureFixture) -> None:
    training = Training({2: [number]})
    with caplog.at_level(logging.WARNING):
        training.run()
    assert training.steps == [1, 2] and training.saved == [2]
    assert "stopping after this step" in caplog.messages[0]
    assert (
        caplog.messages[1] == "Stopped in epoch 1 after 2 of 5 steps, and saved a checkpoint. To resume: --resume True"
    )
    with pytest.raises(SystemExit) as ended:
        training.stop.exit_if_stopped()
    assert ended.value.code == 128 + number


def test_after_the_last_step_of_an_epoch_its_checkpoint_is_enough() -> None:
    training = Training({STEPS: [signal.SIGTERM]})
    training.run()
    assert training.steps == list(range(1, STEPS + 1)) and training.saved == [] and training.epochs == [1]


def test_second_signal_ends_at_once() -> None:
    training = Training({2: [signal.SIGINT, signal.SIGINT]})
    with pytest.raises(SystemExit) as ended:
        training.run()
    assert ended.value.code == 130 and training.steps == [1]


def test_without_a_signal_nothing_happens() -> None:
    training = Training({})
    training.run()
    assert len(training.steps) == 2 * STEPS and training.saved == []
    training.stop.exit_if_stopped()


def test_errors_of_the_training_pass_through() -> None:
    training = Training({})
    training.engine.add_event_handler(Events.ITERATION_STARTED, lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        training.run()


def test_outside_of_the_main_thread_signals_are_left_alone() -> None:
    training = Training({})
    thread = threading.Thread(target=training.run)
    thread.start()
    thread.join()
    assert len(training.steps) == 2 * STEPS
