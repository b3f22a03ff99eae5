"""Loggers of a training beside its ``log.jsonl``: TensorBoard, CSV, Weights & Biases, MLflow.

They are the loggers of Lightning Fabric and PyTorch Lightning. A step's number is the count of images.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mrigen.engine.logs import Log, OpenLog
from mrigen.engine.sampling import StudentSampler, TeacherSampler
from mrigen.errors import UsageError
from mrigen.files import write_json
from mrigen.metrics.rendering import magnitude_window
from mrigen.report.figures import view_of

RUNS = "loggers.json"

NewSampler = Callable[[], TeacherSampler | StudentSampler]
Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Kind:
    """A logger that can be chosen.

    Attributes:
        package: what must be installed.
        opened: the logger of a run folder that goes on after so many images.
        show: shows a picture (H, W, 3) after so many images; None where it logs numbers only.
        close: ends it, given ``success`` or ``failed``.
    """

    package: str
    opened: Callable[[Path, int], Any]
    show: Callable[[Any, Picture, int], None] | None = None
    close: Callable[[Any, str], None] = lambda logger, status: logger.finalize(status)


def _tensorboard(folder: Path, images: int) -> Any:
    """Events in ``folder/tensorboard``; those of a killed run beyond its last state are declared void."""
    from lightning_fabric.loggers import TensorBoardLogger

    purge = images + 1 if images else 0
    return TensorBoardLogger(folder, name="tensorboard", version="", purge_step=purge)


def _csv(folder: Path, images: int) -> Any:
    """``folder/csv/from-IMAGES/metrics.csv``, one for each start; it supersedes rows of earlier ones."""
    from lightning_fabric.loggers import CSVLogger

    for old in (folder / "csv").glob("from-*"):
        if int(old.name.removeprefix("from-")) >= images:
            shutil.rmtree(old)
    return CSVLogger(folder, name="csv", version=f"from-{images}", flush_logs_every_n_steps=1)


def _wandb(folder: Path, images: int) -> Any:
    """A run of the project ``WANDB_PROJECT``, or ``mrigen``; a continued training continues it."""
    from pytorch_lightning.loggers import WandbLogger

    number = _run(folder, "wandb", images) or uuid.uuid4().hex[:8]
    _remember(folder, "wandb", number)
    project = os.environ.get("WANDB_PROJECT", "mrigen")
    return WandbLogger(_name(folder), save_dir=folder, version=number, project=project, resume="allow")


def _mlflow(folder: Path, images: int) -> Any:
    """A run at ``MLFLOW_TRACKING_URI``, or in ``folder``; a continued training continues it.

    In the folder are a database, ``mlflow.db``, and the images, ``mlflow-artifacts``.
    """
    from pytorch_lightning.loggers import MLFlowLogger

    where, images_folder = os.environ.get("MLFLOW_TRACKING_URI"), None
    if where is None:
        where = f"sqlite:///{folder.resolve() / 'mlflow.db'}"
        images_folder = (folder.resolve() / "mlflow-artifacts").as_uri()
    number = _run(folder, "mlflow", images)
    logger = MLFlowLogger(
        "mrigen", _name(folder), tracking_uri=where, run_id=number, artifact_location=images_folder
    )
    _remember(folder, "mlflow", str(logger.run_id))
    return logger


KINDS = {
    "tensorboard": Kind(
        "tensorboard",
        _tensorboard,
        lambda logger, picture, images: logger.experiment.add_image(
            "samples", picture, images, dataformats="HWC"
        ),
    ),
    "csv": Kind("lightning_fabric", _csv),
    "wandb": Kind(
        "wandb",
        _wandb,
        lambda logger, picture, images: logger.log_image("samples", [picture], images),
        lambda logger, status: logger.experiment.finish(int(status != "success")),
    ),
    "mlflow": Kind(
        "mlflow",
        _mlflow,
        lambda logger, picture, images: logger.experiment.log_image(
            logger.run_id, picture, key="samples", step=images
        ),
    ),
}


def require(names: Sequence[str]) -> None:
    """Check the names of loggers and their packages before anything starts.

    Raises:
        UsageError: there is no such logger, or its package is not installed.
    """
    for name in names:
        if name not in KINDS:
            raise UsageError(f"--logger {name}: unknown; choose from {', '.join(KINDS)}")
        package = KINDS[name].package
        if find_spec(package) is None:
            raise UsageError(
                f"--logger {name}: the package {package} is not installed; pip install 'mrigen[{name}]'"
            )


def open_loggers(names: Sequence[str], sampler: NewSampler) -> OpenLog:
    """A log of every step's numbers, and of a few images of the average at every snapshot.

    The same seeds are drawn every time. What a killed run logged beyond its last state is logged again by
    the run that continues it: TensorBoard and CSV drop the first account of it, the others keep both.

    Args:
        names: of ``KINDS``.
        sampler: draws images with the present weights.
    """

    @contextmanager
    def opened(folder: Path, images: int) -> Iterator[Log]:
        loggers = {name: KINDS[name].opened(folder, images) for name in names}
        status = "failed"
        try:
            yield _Loggers(loggers, sampler)
            status = "success"
        finally:
            for name, logger in loggers.items():
                KINDS[name].close(logger, status)

    return opened


class _Loggers(Log):
    def __init__(self, loggers: dict[str, Any], sampler: NewSampler) -> None:
        self._loggers, self._sampler = loggers, sampler

    def step(self, images: int, logs: dict[str, float]) -> None:
        for logger in self._loggers.values():
            logger.log_metrics(logs, images)

    def snapshot(self, images: int) -> None:
        shows = [(show, logger) for name, logger in self._loggers.items() if (show := KINDS[name].show)]
        if shows:
            sampler = self._sampler()
            drawn = torch.cat(
                [batch.cpu() for batch in sampler(list(range(view_of(sampler.shape).compared)))]
            )
            picture = _picture(drawn)
            for show, logger in shows:
                show(logger, picture, images)
        for logger in self._loggers.values():
            logger.save()


def _picture(images: Tensor) -> Picture:
    """The figure that the views draw of a set, (H, W, 3)."""
    from PIL import Image

    window = magnitude_window(images) if images.is_complex() else None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "samples.png"
        view_of(tuple(images.shape[1:])).several(images, window, path)
        with Image.open(path) as file:
            return np.asarray(file.convert("RGB"))


def _name(folder: Path) -> str:
    """A run's name for people: the study and the stage."""
    whole = folder.resolve()
    return f"{whole.parent.name}/{whole.name}"


def _run(folder: Path, kind: str, images: int) -> str | None:
    """The service's number of the run that is continued."""
    path = folder / RUNS
    known = json.loads(path.read_text(encoding="utf-8")) if images and path.is_file() else {}
    return known.get(kind)


def _remember(folder: Path, kind: str, number: str) -> None:
    path = folder / RUNS
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if known.get(kind) != number:
        write_json(path, {**known, kind: number})
