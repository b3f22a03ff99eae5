"""The report of a reconstruction: slices to scroll through, errors, settings and the command."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrigen import hdf5
from mrigen.errors import UsageError
from mrigen.files import sha256, write_text
from mrigen.recipe import health
from mrigen.reconstruction import uncertainty
from mrigen.report import html

FILE = "reconstruction.h5"
NUMBERS = "metrics.json"
WIDTH_90 = 2 * 1.6449  # of a normal distribution's central 90 %, in standard deviations
RAW = 24_000_000  # bytes of slices to begin with; half as many while the page is too large
COLUMNS = {"psnr": "PSNR (dB)", "ssim": "SSIM", "nrmse": "NRMSE"}


def write_page(folder: Path, out: Path, beside: Sequence[Path] = ()) -> Path:
    """Write the page of a folder of ``mrigen reconstruct``; returns its path.

    Args:
        folder: of the reconstruction.
        out: HTML file.
        beside: folders of other reconstructions of the same measurements, baselines for example.

    Raises:
        UsageError: there is no reconstruction in a folder, or it is of other measurements.
    """
    with ExitStack() as stack:
        file = stack.enter_context(_opened(folder))
        others: dict[str, tuple[Any, Mapping[str, Any]]] = {}
        for other in beside:
            another = stack.enter_context(_opened(other))
            if not _same_measurements(file, another):
                raise UsageError(
                    f"{other}: of other measurements than {folder}; reconstruct the same file, sampled alike"
                )
            name = f"{other.resolve().name}: {_plain(another.attrs.get('solver', '?'))}"
            others[name] = another, _numbers(other)
        if len(others) < len(beside):
            raise UsageError(f"{', '.join(map(str, beside))}: folders of the same name; rename one")
        attributes = {key: _plain(value) for key, value in file.attrs.items()}
        names = [str(n, "utf-8") if isinstance(n, bytes) else str(n) for n in file["names"][:]]
        count, *_, height, width = file["image"].shape
        truth = "reference" in file
        layers = 2 + ("std" in file) + 2 * truth + (1 + truth) * len(others)
        shown = max(1, min(count, RAW // (layers * height * width)))
        while True:
            chosen = np.unique(np.linspace(0, count - 1, shown).round().astype(int))
            text = _page(folder, file, attributes, names, chosen, others)
            if len(text.encode()) <= html.LARGEST or shown == 1:
                break
            shown = max(1, shown // 2)
    write_text(out, text)
    return out


def _opened(folder: Path) -> Any:
    path = folder / FILE
    if not path.is_file():
        raise UsageError(f"{folder}: no {FILE} in it; give a folder of mrigen reconstruct, or a run")
    return hdf5.reader(path)


def _same_measurements(one: Any, other: Any) -> bool:
    """Whether both are of the same slices, seen by the same lines or points."""
    if one["image"].shape != other["image"].shape or not np.array_equal(one["names"][:], other["names"][:]):
        return False
    if not {"zero_filled"} <= one.keys() & other.keys():
        return True
    first, second = (np.asarray(file["zero_filled"][:1]) for file in (one, other))
    return bool(np.allclose(first, second, rtol=0, atol=1e-4 * float(np.abs(first).max())))


def _page(
    folder: Path,
    file: Any,
    attributes: Mapping[str, Any],
    names: list[str],
    chosen: NDArray[np.int64],
    others: Mapping[str, tuple[Any, Mapping[str, Any]]],
) -> str:
    numbers = _numbers(folder)
    layers = _layers(file, chosen, {name: another for name, (another, _) in others.items()})
    source, solver = attributes.get("source", "?"), attributes.get("solver", "?")
    left_out = len(names) - len(chosen)
    note = f'<p class="note">{left_out} of {len(names)} slices are left out.</p>' if left_out else ""
    command = str(attributes.get("command", ""))
    seconds = numbers.get("seconds_per_slice")
    settings = {
        "input": source,
        "solver": solver,
        "model": attributes.get("model") and f"weights with SHA-256 {attributes['model']}",
        "posterior samples": attributes.get("samples") if "std" in file else None,
        "seed": attributes.get("seed"),
        "seconds per slice": f"{seconds:.3g}" if seconds is not None else None,
        "written by": attributes.get("created_by"),
    }
    return html.document(
        f"Reconstruction of {source} by {solver}",
        f"{len(names)} image{'s' * (len(names) > 1)} of {' × '.join(map(str, file['image'].shape[-2:]))}."
        + ("" if "mean" in numbers else " No reference is known, and so no errors.")
        + (" Colours are shown as the mean of their channels." if file["image"].shape[1] > 1 else ""),
        [
            ("Slices", html.viewer("slices", layers, [names[i] for i in chosen]) + note),
            ("Errors", _errors(numbers, {name: theirs for name, (_, theirs) in others.items()})),
            ("Can the spread be read as uncertainty?", _spread(numbers, file)),
            ("Where may the reconstruction be wrong?", _where(folder)),
            ("Notes", _notes(numbers)),
            ("What was done", html.facts(settings)),
            ("Again", html.preformatted(command) if command else ""),
            ("Checksums", html.facts({FILE: f"SHA-256 {sha256(folder / FILE)}"})),
            ("Versions when this page was written", html.facts(health.versions())),
        ],
    )


def _layers(file: Any, chosen: NDArray[np.int64], others: Mapping[str, Any]) -> list[html.Layer]:
    """What the panels show, as values that are not negative."""
    rows = chosen.tolist()

    def read(name: str, file: Any = file) -> NDArray[Any]:
        values: NDArray[Any] = np.asarray(file[name][rows])
        return values.reshape(len(rows), -1, *values.shape[-2:])

    image = read("image")
    level = 0.0 if np.iscomplexobj(image) else 1.0  # pictures are in [-1, 1]

    def grey(values: NDArray[Any]) -> html.Grey:
        flat = np.abs(values) if np.iscomplexobj(values) else values + level
        shown: html.Grey = np.maximum(flat.mean(1), 0).astype(np.float32)
        return shown

    picture = grey(image)
    layers = []
    if "zero_filled" in file:
        layers.append(html.Layer("measurement, zero-filled", grey(read("zero_filled"))))
    layers.append(html.Layer("reconstruction", picture))
    beside = {name: grey(read("image", another)) for name, another in others.items()}
    layers += [html.Layer(name, shown) for name, shown in beside.items()]
    if "reference" in file:
        truth = read("reference")
        truth = np.abs(truth) if np.iscomplexobj(image) and not np.iscomplexobj(truth) else truth
        true = grey(truth)
        layers += [html.Layer("reference", true), html.Layer("error", np.abs(picture - true), is_map=True)]
        layers += [
            html.Layer(f"error, {name}", np.abs(shown - true), is_map=True) for name, shown in beside.items()
        ]
    if "std" in file:
        deviation = np.abs(read("std")).mean(1).astype(np.float32)
        layers.append(html.Layer("width of the 90 % interval, if normal", WIDTH_90 * deviation, is_map=True))
    return layers


def _errors(numbers: Mapping[str, Any], others: Mapping[str, Mapping[str, Any]]) -> str:
    """Means beside those of zero filling and of the other reconstructions, and every slice's."""
    if "mean" not in numbers:
        return ""
    rows = {"reconstruction": numbers["mean"]}
    rows |= {name: theirs["mean"] for name, theirs in others.items() if "mean" in theirs}
    rows |= {"zero-filled": numbers["zero_filled"]}
    whole = html.table(rows, COLUMNS, "mean of the slices")
    volumes = numbers.get("volumes", {}).get("mean")
    if volumes is not None:
        whole += html.table({"reconstruction": volumes}, COLUMNS, "whole volumes, as fastMRI defines them")
    slices = {entry["name"]: entry["errors"] for entry in numbers["slices"] if "errors" in entry}
    each = html.table(slices, COLUMNS, "each slice")
    return f"{whole}<details><summary>each slice</summary>{each}</details>"


def _spread(numbers: Mapping[str, Any], file: Any) -> str:
    if "std" not in file:
        return ""
    note = numbers.get("calibration", {}).get("note") or _plain(file["std"].attrs.get("note", ""))
    return html.facts({"compared with errors": note})


def _where(folder: Path) -> str:
    path = folder / uncertainty.FILE
    if not path.is_file():
        return ""
    return html.png(
        path.read_bytes(), "slices with colours where brightness may be wrong", uncertainty.LEGEND
    )


def _notes(numbers: Mapping[str, Any]) -> str:
    """What the command said, without what is said of the spread."""
    said = numbers.get("calibration", {}).get("note")
    notes = [note for note in numbers.get("notes", []) if note != said]
    return html.preformatted("\n".join(notes)) if notes else ""


def _numbers(folder: Path) -> dict[str, Any]:
    path = folder / NUMBERS
    if not path.is_file():
        return {}
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _plain(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value.item() if hasattr(value, "item") else value
