"""Save checkpoints in one step, so that a crash leaves the one before; load weights from them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.handlers import CheckpointLoader
from torch import nn

from afma_med.atomic_write import replacing
from afma_med.checks import NonFiniteError, RunError
from afma_med.handlers.run_files import BEST, LAST

__all__ = ["BestCheckpointHandler", "LastCheckpointHandler", "choose_weights", "is_better", "load_weights"]
__all__ += ["ResumeHandler", "next_epoch"]

# Name of the trainer's state in last.pt.
_TRAINER = "trainer"


class LastCheckpointHandler:
    """Save the state of the training to ``last.pt`` after each epoch.

    Attach it after the validation, so that the checkpoint includes the scores of the epoch. The file is replaced in one
    step: a crash while saving leaves the one before.

    Args:
        output_dir: Folder of the run.
        save_dict: Objects with ``state_dict``, by name: model, optimizer, lr_scheduler, best. The engine that calls the
            handler is added as ``"trainer"``.

    Raises:
        RunError: If the file cannot be written, for example because the disk is full.

    Example:
        >>> net = nn.Linear(1, 1)
        >>> checkpoint = LastCheckpointHandler("runs/example", {"model": net})  # checkpoint.attach(trainer)
    """

    def __init__(self, output_dir: str | os.PathLike[str], save_dict: Mapping[str, Any]) -> None:
        self.output_dir = output_dir
        self.save_dict = save_dict

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        items = {**self.save_dict, _TRAINER: engine}
        _save(self.output_dir, LAST, {name: _unwrap(item).state_dict() for name, item in items.items()})


class ResumeHandler(CheckpointLoader):
    """Restore the state that :class:`LastCheckpointHandler` saved, that of the trainer included, when it starts.

    Args:
        load_path, load_dict, map_location: As of :class:`monai.handlers.CheckpointLoader`. The engine that the handler
            is attached to is added to ``load_dict`` as ``"trainer"``.

    Example:
        >>> resume = ResumeHandler("runs/example/last.pt", {"model": nn.Linear(1, 1)})  # resume.attach(trainer)
    """

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer."""
        self.load_dict = {**self.load_dict, _TRAINER: engine}
        super().attach(engine)


class BestCheckpointHandler:
    """Save the weights to ``model.pt`` whenever the evaluator's key metric improves.

    Its state is the best score and its epoch. Add it to the ``save_dict`` of :class:`LastCheckpointHandler`, so that a
    resumed run does not replace better weights with worse ones.

    Args:
        output_dir: Folder of the run.
        model: Network to save.

    Example:
        >>> best = BestCheckpointHandler("runs/example", nn.Linear(1, 1))  # val_handlers of a SupervisedEvaluator
    """

    def __init__(self, output_dir: str | os.PathLike[str], model: nn.Module) -> None:
        self.output_dir = output_dir
        self.model = model
        self._evaluator: Engine | None = None

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator with a key metric."""
        self._evaluator = engine
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        if engine.state.best_metric_epoch == engine.state.epoch:  # type: ignore[attr-defined]
            _save(self.output_dir, BEST, _unwrap(self.model).state_dict())

    def state_dict(self) -> dict[str, float]:
        """Return best score and epoch."""
        state = self._state()
        return {"best_metric": float(state.best_metric), "best_metric_epoch": state.best_metric_epoch}

    def load_state_dict(self, state_dict: Mapping[str, float]) -> None:
        """Restore best score and epoch in the evaluator."""
        state = self._state()
        state.best_metric = state_dict["best_metric"]
        state.best_metric_epoch = int(state_dict["best_metric_epoch"])

    def _state(self) -> Any:
        if self._evaluator is None:
            raise RuntimeError(
                "`BestCheckpointHandler` must be attached to an evaluator; got none. "
                "Put it into the val_handlers before saving or loading its state."
            )
        return self._evaluator.state


def load_weights(network: nn.Module, checkpoint: str | os.PathLike[str], *, weights: str | None = "model") -> None:
    """Load the weights of a run into a network. No code in the file is executed.

    Args:
        network: Network that the settings next to the checkpoint describe.
        checkpoint: ``model.pt``, which is a state_dict, or ``last.pt``, which holds several by name.
        weights: Entry of ``last.pt``: ``"model"``, or ``"ema"`` for the moving average; None accepts ``model.pt`` only.

    Raises:
        ValueError: If the file does not hold these weights, one of them is NaN or infinite, or they belong to another
            network.
    """
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        network.load_state_dict(choose_weights(state, weights))
    except Exception as error:  # torch.load raises many types of errors for other files
        remedy = "model.pt, not its last.pt" if weights is None else "model.pt or last.pt"
        raise ValueError(
            f"`checkpoint` must hold the weights of the network that its settings.json describes; got `{checkpoint}`: "
            f"{_in_short(error)} Name a run's {remedy}, and the dataset that it was trained on."
        ) from error


def choose_weights(state: Mapping[str, Any], weights: str | None) -> Mapping[str, Any]:
    """Return the state_dict of that name in a checkpoint; the checkpoint itself for None, or if it is a state_dict.

    Raises:
        ValueError: If it holds no weights of that name, or one of them is NaN or infinite.
    """
    found = state if weights is None else state.get(weights)
    chosen: Mapping[str, Any] = found if isinstance(found, Mapping) else state
    if chosen is not found and (weights != "model" or any(isinstance(one, Mapping) for one in state.values())):
        raise ValueError(f"the file has no weights named {weights!r}.")
    for name, x in chosen.items():
        if isinstance(x, torch.Tensor) and x.is_floating_point() and not bool(x.isfinite().all()):
            raise NonFiniteError(f"its tensor {name} must be finite; it holds {float(x[~x.isfinite()][0])}.")
    return chosen


def next_epoch(checkpoint: str | os.PathLike[str]) -> int:
    """Return the epoch at which a training resumes from its ``last.pt``.

    ``SummaryWriter(purge_step=next_epoch(checkpoint))`` hides the logs of an interrupted training after the checkpoint.

    Raises:
        ValueError: If the file is not the ``last.pt`` of a run.
    """
    try:
        trainer = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)[_TRAINER]
        return int(trainer["iteration"] // trainer["epoch_length"] + 1)
    except Exception as error:  # torch.load raises many types of errors for other files
        raise ValueError(
            f"`checkpoint` must be the last.pt of a run; got `{checkpoint}`: {_in_short(error)} Name another file, or "
            "train without --resume."
        ) from error


def is_better(new: float, best: float) -> bool:
    """Compare two scores. Every score is better than NaN, the score of a section without scored pixels."""
    return new > best or best != best


def _save(output_dir: str | os.PathLike[str], name: str, checkpoint: Mapping[str, Any]) -> None:
    # Ignite's Checkpoint deletes the old file before the new one exists.
    target = Path(output_dir, name)
    try:
        with replacing(target) as temporary, temporary.open("wb") as file:
            torch.save(checkpoint, file)
    except (OSError, RuntimeError) as error:  # torch wraps an OSError in a RuntimeError
        cause = error.__context__ if isinstance(error.__context__, OSError) else error
        free = shutil.disk_usage(target.parent).free / 2**20
        raise RunError(
            f"`output_dir` must have room for {name}; it could not be written to {target.parent}, where {free:.0f} MiB "
            f"are free: {_in_short(cause)}. The file of the epoch before is intact. Free some space, then repeat the "
            "command with --resume True."
        ) from error


def _in_short(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


def _unwrap(item: Any) -> Any:
    """Return the network inside DistributedDataParallel, so that checkpoints do not depend on the processes."""
    return item.module if isinstance(item, nn.parallel.DistributedDataParallel) else item
