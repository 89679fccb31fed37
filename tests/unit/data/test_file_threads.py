"""Functions are called for all files in threads, and no more of them after an exception."""

from __future__ import annotations

import threading

import pytest

from afma_med.data import files
from afma_med.data.files import map_files


def test_results_have_the_order_of_the_items() -> None:
    assert map_files(lambda x: x * x, range(20), title="Squares") == [x * x for x in range(20)]
    assert map_files(lambda x: x, [], title="Nothing") == []


def test_two_items_are_worked_on_at_once() -> None:
    meeting = threading.Barrier(2, timeout=20)
    assert sorted(map_files(lambda _: meeting.wait(), range(2), title="Meet")) == [0, 1]


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_nothing_is_begun_after_an_exception(kind: type[BaseException]) -> None:
    begun: list[int] = []
    raised = threading.Event()

    def work(item: int) -> None:
        begun.append(item)
        if item == 0:
            raised.set()
            raise kind
        assert raised.wait(20)
        threading.Event().wait(0.01)

    with pytest.raises(kind):
        map_files(work, range(5000), title="Stop")
    assert len(begun) < 1000


def test_a_log_gets_lines_of_long_work_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    map_files(str, range(3), title="Short")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(files, "_LOG_INTERVAL", 0.02)
    map_files(lambda _: threading.Event().wait(0.05), range(20), title="Long", unit="label")
    printed = capsys.readouterr().err
    assert "Long: " in printed and "/20" in printed and "label" in printed
