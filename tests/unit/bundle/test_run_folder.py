"""One process writes to a run folder, and the lock ends with that process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from _helpers.bundle_runs import options, workflow
from _helpers.synthetic_runs import write_untrained
from afma_med.bundle.run_folder import lock_folder, open_run_folder
from afma_med.checks import RunError
from afma_med.samples import write_street_scenes

HOLD = (
    "import sys; from afma_med.bundle.run_folder import lock_folder as f; f(sys.argv[1]); print(1, flush=True); input()"
)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that writes to the folder ``run``."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stdout is not None and process.stdout.readline() == "1\n"
        yield process
        process.kill()


def test_a_folder_has_one_writer_until_its_process_is_killed(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    for start in (lock_folder, open_run_folder):
        with pytest.raises(RunError, match=rf"`output_dir` must be .* is used by process {holder.pid}\."):
            start(tmp_path / "run")
    lock_folder(tmp_path / "other")
    (tmp_path / "run" / "last.pt").touch()
    for resume in (True, False):
        with pytest.raises(RunError, match="no other process"):
            open_run_folder(tmp_path / "run", resume=resume)
    holder.kill()
    holder.wait()
    assert open_run_folder(tmp_path / "run", resume=True) == str(tmp_path / "run" / "last.pt")
    assert open_run_folder(tmp_path / "run", resume=True) is not None, "a process may open its own folder again"


def test_a_link_to_the_folder_is_the_folder(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "run")
    with pytest.raises(RunError, match=str(holder.pid)):
        lock_folder(tmp_path / "link")


def test_a_run_that_was_moved_aside_is_free(tmp_path: Path) -> None:
    run = tmp_path / "run"
    open_run_folder(run)
    (run / "last.pt").touch()
    open_run_folder(run)
    aside = next(path for path in tmp_path.iterdir() if path.name.startswith("run_"))
    code = "import sys; from afma_med.bundle.run_folder import lock_folder; lock_folder(sys.argv[1])"
    held = subprocess.run([sys.executable, "-c", code, str(run)], capture_output=True, encoding="utf-8", check=False)
    assert held.returncode == 1 and f"process {os.getpid()}." in held.stderr
    subprocess.run([sys.executable, "-c", code, str(aside)], check=True)


def test_a_deleted_folder_is_locked_again(tmp_path: Path) -> None:
    lock_folder(tmp_path / "run")
    (tmp_path / "run").rmdir()
    lock_folder(tmp_path / "run")
    code = "import sys; from afma_med.bundle.run_folder import lock_folder; lock_folder(sys.argv[1])"
    command = [sys.executable, "-c", code, str(tmp_path / "run")]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 1


def test_a_process_of_a_data_loader_does_not_keep_the_lock(tmp_path: Path) -> None:
    code = (
        "import os, sys, time; from afma_med.bundle.run_folder import lock_folder; lock_folder(sys.argv[1]); "
        "child = os.fork(); child or time.sleep(60); print(child, flush=True); os.kill(os.getpid(), 9)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as killed:
        assert killed.stdout is not None
        child = int(killed.stdout.readline())
        killed.wait()
        try:
            lock_folder(tmp_path / "run")
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_second_training_evaluation_and_prediction_are_refused(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    scenes = write_street_scenes(tmp_path / "scenes", counts={"train": 2, "val": 1, "test": 1}, size=(64, 64))
    trained = write_untrained(tmp_path / "trained", "camvid", scenes)
    kept = {path.name for path in (tmp_path / "run").iterdir()}
    own = {"output_dir": str(trained), "prediction_dir": str(tmp_path / "run"), "num_workers": 0}
    for files, given in (
        (["camvid_afma.json"], options("camvid", scenes, tmp_path / "run")),
        (["camvid_afma.json", "evaluate.json"], own),
        (["camvid_afma.json", "inference.json"], own),
    ):
        bundle = workflow(*files, **given)
        with pytest.raises(RuntimeError) as raised:
            bundle.initialize()
            bundle.run()
        assert isinstance(raised.value.__cause__, RunError) and str(holder.pid) in str(raised.value.__cause__)
        assert {path.name for path in (tmp_path / "run").iterdir()} == kept
