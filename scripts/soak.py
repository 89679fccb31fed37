#!/usr/bin/env python
"""Train and validate for many epochs, and watch whether memory, open files, threads or the folder grow."""

from __future__ import annotations

import argparse
import csv
import statistics
import subprocess
import sys
import time
from pathlib import Path

from afma_med.cli.arguments import positive_int
from afma_med.runs.run import read_curve
from afma_med.samples import write_street_scenes

BUNDLES = Path(__file__).parents[1] / "bundles"
OPTIONS = {"encoder": "resnet18", "crop_size": "[64,96]", "batch_size": 4, "milestones": "[]", "num_workers": 1}
FIGURES = ("memory_MiB", "open_files", "threads", "processes", "files_in_folder")


def main() -> None:
    """Watch a training as long as the command line says, print the figures, and exit with 1 if any has grown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=positive_int, default=200, help="default: %(default)s")
    parser.add_argument("--folder", type=Path, default=Path("runs/soak"), help="default: %(default)s")
    parser.add_argument("--growth", type=float, default=0.05, help="of memory that is let pass (default: %(default)s)")
    args = parser.parse_args()
    if args.folder.exists():
        parser.error(f"--folder {args.folder} must not exist yet; delete it, or name another one.")
    scenes = write_street_scenes(args.folder / "scenes", counts={"train": 8, "val": 4}, size=(64, 96))
    options = {**OPTIONS, "dataset_dir": scenes, "output_dir": args.folder / "run", "max_epochs": args.epochs}
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(BUNDLES / "camvid_afma.json")]
    given = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    with (args.folder / "log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen([*command, *given], stdout=log, stderr=log)
    rows = watch(process, args.folder)
    if process.wait():
        sys.exit(f"error: the training ended with code {process.returncode}; see {args.folder}/log")
    with (args.folder / "figures.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["seconds", *FIGURES], *rows])
    report(rows, args.folder, args.growth)


def watch(process: subprocess.Popen[bytes], folder: Path) -> list[list[float]]:
    """Read the figures every second: of the process and those that it started, and of its folder."""
    rows, started = [], time.monotonic()
    while process.poll() is None:
        figures = measure(process.pid, folder / "run")
        if figures is not None:
            seconds = time.monotonic() - started
            rows.append([seconds, *figures])
            if len(rows) % 60 == 0:
                print("  ".join(f"{value:.0f}" for value in rows[-1]), flush=True)
        time.sleep(1)
    return rows


def measure(pid: int, folder: Path) -> list[float] | None:
    """Return the figures, None while the process starts or ends."""
    if not (folder / "last.pt").exists():
        return None
    try:
        family = [
            pid,
            *(int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()),
        ]
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except (FileNotFoundError, ProcessLookupError):
        return None
    values = dict(line.split(":", 1) for line in status.splitlines())
    memory = int(values["VmRSS"].split()[0]) / 1024
    return [memory, files, int(values["Threads"]), len(family), len(list(folder.iterdir()))]


def report(rows: list[list[float]], folder: Path, growth: float) -> None:
    """Compare the second tenth of the time with the last tenth, and compute the growth of the folder in an epoch."""
    tenth = max(1, len(rows) // 10)
    grown = []
    for i, name in enumerate(FIGURES, start=1):
        early, late = (statistics.median(row[i] for row in part) for part in (rows[tenth : 2 * tenth], rows[-tenth:]))
        print(f"{name:16} {early:10.1f} {late:10.1f}  {late / early - 1:+.1%}")
        if late > early * (1 + growth if name == "memory_MiB" else 1):
            grown.append(name)
    epochs = max(read_curve(folder / "run"))
    logged = sum(path.stat().st_size for path in (folder / "run").glob("events*")) / 2**20
    print(f"TensorBoard's log: {logged:.1f} MiB, {logged / epochs:.3f} an epoch")
    if grown:
        sys.exit(
            f"error: {', '.join(grown)} grew in {epochs} epochs; every second's figures are in {folder}/figures.csv"
        )
    print(f"Nothing grew in {epochs} epochs; every second's figures are in {folder}/figures.csv")


if __name__ == "__main__":
    main()
