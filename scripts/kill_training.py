#!/usr/bin/env python
"""Kill a training again and again, resume it, and compare the result with an uninterrupted training."""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from afma_med.cli.arguments import positive_int
from afma_med.samples import write_street_scenes

BUNDLES = Path(__file__).parents[1] / "bundles"
OPTIONS = {"encoder": "resnet18", "crop_size": "[64,96]", "batch_size": 1, "milestones": "[2]", "num_workers": 1}
# Of the machine, not of the training.
NOT_COMPARED = ("training/images_per_second",)


def main() -> None:
    """Run the command, print a line for each kill, and exit with 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=positive_int, default=20, help="how many (default: %(default)s)")
    parser.add_argument("--epochs", type=positive_int, default=12, help="of the training (default: %(default)s)")
    parser.add_argument("--signal", choices=["KILL", "TERM"], default="KILL", help="default: %(default)s, as kill -9")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    parser.add_argument("--folder", type=Path, default=Path("runs/kill_training"), help="default: %(default)s")
    args = parser.parse_args()
    if args.folder.exists():
        parser.error(f"--folder {args.folder} must not exist yet; delete it, or name another one.")
    scenes = write_street_scenes(args.folder / "scenes", counts={"train": 8, "val": 2}, size=(64, 96))
    whole, killed = args.folder / "whole", args.folder / "killed"
    started = time.monotonic()
    start(scenes, whole, args.epochs).wait()
    seconds = time.monotonic() - started
    print(f"never killed: {args.epochs} epochs in {seconds:.0f} s", flush=True)
    moments = random.Random(args.seed)
    count = while_saving = 0
    while count < args.kills:
        process = start(scenes, killed, args.epochs)
        # Every other one as soon as a checkpoint is being written.
        saving = wait(process, killed, None if count % 2 else moments.uniform(0, seconds * 0.6))
        if process.poll() is not None:  # it was done before: once more from the beginning
            check_end(process)
            compare_checkpoints(whole, killed, args.epochs)
            killed = args.folder / f"killed_after_{count}"
            continue
        process.send_signal(getattr(signal, f"SIG{args.signal}"))
        process.wait()
        count, while_saving = count + 1, while_saving + saving
        print(f"{count}/{args.kills}  {'while saving' if saving else 'at random'}, {epochs_done(killed)}", flush=True)
    check_end(start(scenes, killed, args.epochs))
    compare_checkpoints(whole, killed, args.epochs)
    if args.signal == "KILL":
        compare_events(whole, killed)
    print(f"{count} kills survived, {while_saving} of them while a checkpoint was written; {killed} equals {whole}.")


def start(scenes: Path, folder: Path, epochs: int) -> subprocess.Popen[bytes]:
    """Start the training, or go on with it if there is something to go on with."""
    options = {**OPTIONS, "dataset_dir": scenes, "output_dir": folder, "max_epochs": epochs}
    options |= {"resume": True} if (folder / "last.pt").exists() else {}
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(BUNDLES / "camvid_afma.json")]
    given = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".log").open("ab") as log:
        return subprocess.Popen([*command, *given], stdout=log, stderr=log)


def wait(process: subprocess.Popen[bytes], folder: Path, seconds: float | None) -> bool:
    """Wait for so many seconds, or, without a number, until a checkpoint is being written; tell whether one is."""
    end = time.monotonic() + (600 if seconds is None else seconds)
    while process.poll() is None and time.monotonic() < end:
        # The temporary file of a checkpoint.
        saving = any(folder.glob(".*.pt"))
        if saving and seconds is None:
            return True
        time.sleep(0.002)
    return False


def check_end(process: subprocess.Popen[bytes]) -> None:
    """Refuse a training that ended with an error."""
    if process.wait():
        sys.exit(f"error: a training ended with code {process.returncode}; see its log next to its folder.")


def epochs_done(folder: Path) -> str:
    """Describe the checkpoint to resume from, or raise an error if it cannot be read."""
    if not (folder / "last.pt").exists():
        return "before the first epoch was done"
    trainer = torch.load(folder / "last.pt", weights_only=True)["trainer"]
    if (folder / "model.pt").exists():
        torch.load(folder / "model.pt", weights_only=True)
    return f"{trainer['iteration'] / trainer['epoch_length']:.2f} epochs done"


def compare_checkpoints(whole: Path, killed: Path, epochs: int) -> None:
    """Compare all that is saved, bit by bit."""
    for name in ("last.pt", "model.pt"):
        states = [torch.load(folder / name, weights_only=True) for folder in (whole, killed)]
        differing = find_differences(*states)
        if differing:
            sys.exit(f"error: {name} of {killed} differs from {whole} in {len(differing)} things: {differing[:3]}")


def find_differences(a: Any, b: Any, path: str = "") -> list[str]:
    """Name where two checkpoints differ."""
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return [found for key in a for found in find_differences(a[key], b[key], f"{path}/{key}")]
    if isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        return [
            found for i, pair in enumerate(zip(a, b, strict=True)) for found in find_differences(*pair, f"{path}/{i}")
        ]
    same = torch.equal(a, b) if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) else a == b
    return [] if same else [path]


def compare_events(whole: Path, killed: Path) -> None:
    """Compare the scalars in TensorBoard: they must be the same, with each step once."""
    curves = []
    for folder in (whole, killed):
        events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
        tags = [tag for tag in events.Tags()["scalars"] if tag not in NOT_COMPARED]
        curves.append({tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags})
    differing = [
        tag for tag in curves[0].keys() | curves[1].keys() if repr(curves[0].get(tag)) != repr(curves[1].get(tag))
    ]
    if differing:
        sys.exit(f"error: TensorBoard shows other values or steps of {differing[:5]}")


if __name__ == "__main__":
    main()
