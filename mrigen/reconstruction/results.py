"""What a reconstruction leaves: complex HDF5, NIfTI magnitudes, previews, errors and one figure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import torch
from torch import Tensor

from mrigen import __version__, hdf5
from mrigen.errors import UsageError
from mrigen.files import write_json
from mrigen.metrics.reconstruction import Errors, image_errors, volume_errors
from mrigen.metrics.reconstruction import mean as mean_errors
from mrigen.metrics.rendering import magnitude_window
from mrigen.reconstruction.calibration import Calibration
from mrigen.reconstruction.sources import Batch, Source
from mrigen.reconstruction.uncertainty import Pictures, Reliability, Uncertainty
from mrigen.reconstruction.volumes import VolumeErrors
from mrigen.report.figures import comparison, grid
from mrigen.tensors import evenly_spaced

SHOWN = 8
TRUSTED = 1.5  # ratio of errors to predicted deviations, or its inverse, beyond which the spread misleads
GAIN = 5.0  # by which errors and standard deviations are brightened in the figure


class Results:
    """Takes batches of reconstructions and writes everything about them.

    Args:
        out: folder.
        source: what is reconstructed.
        samples: posterior samples of each slice.
        calibration: of their spread; None for the spread as it is.
        file: open HDF5 file.
    """

    def __init__(
        self, out: Path, source: Source, samples: int, calibration: Calibration | None, file: h5py.File
    ) -> None:
        self._out, self._source, self._samples, self._file = out, source, samples, file
        self._calibrated = calibration
        self._reliability, self._pictures = Reliability(), Pictures()
        self._shown = evenly_spaced(len(source), SHOWN)
        self._rows: dict[str, list[Tensor]] = {}
        self._errors: list[dict[str, Any]] = []
        self._zero_filled: list[Errors] = []
        self._estimate_errors: list[Errors] = []
        self._volumes = VolumeErrors(source.volumes) if source.has_reference and source.volumes else None
        self._squares = torch.zeros(2, dtype=torch.float64)  # of errors and of predicted deviations

    def add(self, batch: Batch, images: Tensor, steps: Tensor, misfit: Tensor) -> None:
        """Results of a batch.

        Args:
            batch: the slices.
            images: (n, samples, C, H, W) in the units of the batch.
            steps: steps that each sample took, (n, samples).
            misfit: relative residual of each, (n, samples).

        Raises:
            UsageError: the solver diverged.
        """
        bad = [p for p, x in zip(batch.positions, images, strict=True) if not x.isfinite().all()]
        if bad:
            raise UsageError(
                f"{self._source.labels[bad[0]]}: the solver diverged; weaken its parameters (guidance, lr, "
                "step_size) or try another"
            )
        calibrated = images if self._calibrated is None else self._calibrated.calibrated(images)
        mean, deviation = images.mean(1), _deviation(calibrated)
        observed = batch.data.operator.as_image(batch.data.y).cpu()
        uncertainty = None
        if self._calibrated is not None:
            uncertainty = Uncertainty.of(images, calibrated, self._calibrated.quantile)
        self._write(batch, images, mean, deviation, observed, uncertainty)
        self._measure(batch, mean, deviation, observed, uncertainty)
        for row, position in enumerate(batch.positions):
            label = self._source.labels[position]
            entry: dict[str, Any] = {
                "name": label,
                "steps": steps[row].tolist(),
                "misfit": misfit[row].tolist(),
            }
            if self._source.has_reference:
                entry["errors"] = self._estimate_errors[position].row()
            self._errors.append(entry)
            if position in self._shown:
                self._keep(row, batch, mean, deviation, observed)
                if uncertainty is not None:
                    self._pictures.add(uncertainty, row, observed, mean, batch.reference)

    def _write(
        self,
        batch: Batch,
        images: Tensor,
        mean: Tensor,
        deviation: Tensor,
        observed: Tensor,
        uncertainty: Uncertainty | None,
    ) -> None:
        factor = batch.scale.reshape(-1, 1, 1, 1)
        own = factor if batch.phase is None else factor * batch.phase
        arrays = {"image": mean * own, "scale": batch.scale, "zero_filled": observed * own}
        if batch.reference is not None:
            arrays["reference"] = batch.reference * factor
        if self._samples > 1:
            arrays |= {"samples": images * own[:, None], "std": deviation * factor}
        if uncertainty is not None:
            arrays |= {"lower": uncertainty.lower * factor, "upper": uncertainty.upper * factor}
            arrays["exceedance"] = uncertainty.exceedance
        for name, values in arrays.items():
            rows = values.numpy()
            if name not in self._file:
                shape = (len(self._source), *rows.shape[1:])
                chunks = (1, *shape[1:]) if len(shape) > 1 else None
                self._file.create_dataset(name, shape, rows.dtype, chunks=chunks)
            self._file[name][batch.positions[0] : batch.positions[-1] + 1] = rows

    def _measure(
        self,
        batch: Batch,
        mean: Tensor,
        deviation: Tensor,
        observed: Tensor,
        uncertainty: Uncertainty | None,
    ) -> None:
        if batch.reference is None:
            return
        for estimates, errors in ((mean, self._estimate_errors), (observed, self._zero_filled)):
            if self._source.complex_valued:
                pairs = zip(estimates, batch.reference, strict=True)
                errors.extend(volume_errors(one, other) for one, other in pairs)
            else:
                errors.extend(image_errors(estimates, batch.reference))
        if self._volumes is not None:
            for row, position in enumerate(batch.positions):
                images = (batch.scale[row] * shown[row] for shown in (mean, observed, batch.reference))
                self._volumes.add(self._source.volumes[position], *images)
        if uncertainty is not None:
            self._reliability.add(uncertainty, batch.reference)
        error = (mean - batch.reference).abs().double()
        self._squares += torch.stack([error.square().sum(), deviation.double().square().sum()])

    def _keep(self, row: int, batch: Batch, mean: Tensor, deviation: Tensor, observed: Tensor) -> None:
        rows = {"zero-filled": observed[row], "reconstruction": mean[row]}
        if self._samples > 1:
            rows[f"standard deviation × {GAIN:g}"] = self._bright(deviation[row])
        if batch.reference is not None:
            rows["reference"] = batch.reference[row]
            rows[f"error × {GAIN:g}"] = self._bright((mean[row] - batch.reference[row]).abs())
        for name, image in rows.items():
            self._rows.setdefault(name, []).append(image)

    def _bright(self, values: Tensor) -> Tensor:
        """Something that is not negative, on the scale of images: magnitudes, or [-1, 1]."""
        bright = GAIN * values
        return bright.to(torch.complex64) if self._source.complex_valued else bright.clamp(max=2) - 1

    def finish(self, summary: dict[str, Any]) -> dict[str, Any]:
        """Write what belongs to the whole; returns the content of ``metrics.json``."""
        self._file["names"] = self._source.labels
        self._file.attrs.update({"created_by": f"mrigen {__version__}", "source": self._source.name})
        self._file.attrs.update({k: v for k, v in summary.items() if isinstance(v, str | int)})
        rows = {name: torch.stack(images) for name, images in self._rows.items()}
        window = None
        if self._source.complex_valued:
            window = magnitude_window(rows.get("reference", rows["reconstruction"]))
        grid(rows["reconstruction"], window, self._out / "preview.png")
        title = f"{self._source.name}, solver {summary['solver']}"
        calibration = self._calibration()
        if calibration is not None:
            title = f"{title}\n{calibration['note']}"
            plain = {name: value for name, value in calibration.items() if name != "exceedance"}
            self._file["std"].attrs.update(plain)
        comparison(rows, window, self._out / "figure.png", title)
        if self._calibrated is not None and window is not None:
            self._pictures.write(self._out, window, f"{self._source.name}, solver {summary['solver']}")
        report = {**summary, "slices": self._errors}
        if self._source.has_reference:
            report["mean"] = mean_errors(self._estimate_errors)
            report["zero_filled"] = mean_errors(self._zero_filled)
            if self._volumes is not None:
                report["volumes"] = self._volumes.report()
        if calibration is not None:
            report["calibration"] = calibration
            report["notes"] = [*report.get("notes", []), calibration["note"]]
        if self._source.has_reference:
            write_json(self._out / "metrics.json", _finite(report))
        return report

    def _calibration(self) -> dict[str, Any] | None:
        """What is known of the spread of posterior samples as a measure of error; None for one sample."""
        if self._samples == 1:
            return None
        if self._calibrated is not None:
            return self._conformal(self._calibrated)
        if not self._source.has_reference:
            return {
                "note": "the spread of these samples was not compared with errors: no true image is known"
            }
        error, predicted = self._squares.sqrt().tolist()
        if not predicted:
            return {"note": "the samples do not differ: their spread says nothing about errors"}
        ratio = error / predicted
        note = f"errors are {ratio:.3g} times the predicted deviation"
        if not 1 / TRUSTED < ratio < TRUSTED:
            note += ": do not read the spread as uncertainty"
        return {"error_over_deviation": ratio, "note": note}

    def _conformal(self, calibration: Calibration) -> dict[str, Any]:
        """How the spread was calibrated, and where the truth is known, whether that holds for images."""
        row, note = calibration.row(), calibration.note
        if self._source.has_reference:
            error, predicted = self._squares.sqrt().tolist()
            row |= {"error_over_deviation": error / predicted, **self._reliability.row()}
            note += f"; {100 * row['coverage_image']:.1f} % of the head's pixels lie in their intervals"
        return {**row, "note": note}


@contextmanager
def open_results(
    out: Path, source: Source, samples: int, calibration: Calibration | None = None
) -> Iterator[Results]:
    """Results in a folder; ``reconstruction.h5`` appears, complete, when the block ends."""
    with hdf5.writer(out / "reconstruction.h5") as file:
        yield Results(out, source, samples, calibration, file)


def _finite(value: Any) -> Any:
    """A report with null for the infinite PSNR of an exact image, which JSON cannot say."""
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and math.isinf(value) else value


def _deviation(images: Tensor) -> Tensor:
    """Standard deviation of the samples about their mean, (n, C, H, W); zero for one sample."""
    if images.shape[1] == 1:
        return torch.zeros_like(images[:, 0].real if images.is_complex() else images[:, 0])
    square = (images - images.mean(1, keepdim=True)).abs().square().sum(1)
    return (square / (images.shape[1] - 1)).sqrt()
