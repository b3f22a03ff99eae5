"""Which volumes a preparation takes, and whether they fit into one store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from mrigen.data.mri_manifest import Volume
from mrigen.errors import UsageError
from mrigen.operators.masks import MASKS
from mrigen.prep.kspace.options import Options
from mrigen.prep.kspace.pipeline import prepared_shape
from mrigen.prep.kspace.sampling import after_crop, between
from mrigen.prep.readers import READERS
from mrigen.prep.scan import Scan

HDF5 = {".h5", ".hdf5"}


def discover(sources: Iterable[Path], outputs: Iterable[Path]) -> tuple[list[Path], list[str]]:
    """Absolute paths of files and of the files of folders, by name, none of them in an output folder.

    Of files of a folder that differ in their endings only, one volume in several formats, the HDF5 file or
    else the first is taken.

    Returns:
        Paths, and a note on each file that was left out.

    Raises:
        UsageError: nothing there, two files of one name, or a source among the outputs.
    """
    paths: list[Path] = []
    notes: list[str] = []
    for source in map(Path.absolute, sources):
        if source.is_dir():
            inside = raw_files(source)
            if not inside:
                raise UsageError(f"{source}: holds no files of raw k-space; give a folder of fastMRI volumes")
            first: dict[str, Path] = {}
            for path in sorted(inside, key=lambda p: (p.suffix.lower() not in HDF5, p)):
                kept = first.setdefault(path.stem, path)
                if kept is not path:
                    notes.append(
                        f"{path.name} is left out: {kept.name} beside it has the same name; give it by itself"
                    )
            paths += first.values()
        else:
            paths.append(named_file(source))
    taken = {folder.resolve() for folder in outputs}
    names: dict[str, Path] = {}
    for path in paths:
        other = names.setdefault(path.stem, path)
        if other.resolve() != path.resolve():
            raise UsageError(
                f"{other} and {path}: volumes of the same name; prepare them into different folders"
            )
        if path.resolve().parent in taken:
            raise UsageError(f"{path.parent}: is both a source and an output folder; choose another --out")
    return [names[name] for name in sorted(names)], notes


def named_file(path: Path) -> Path:
    """A file, or the pair of BART that is named without an ending.

    Raises:
        UsageError: there is none.
    """
    for file in (path, path.with_name(f"{path.name}.cfl")):
        if file.exists():
            return file
    raise UsageError(f"{path}: no such file or folder; give files of raw k-space or folders of them")


def raw_files(folder: Path) -> list[Path]:
    """Files of raw k-space in a folder, by name."""
    return sorted(p for p in folder.iterdir() if p.is_file() and _is_raw(p))


def _is_raw(path: Path) -> bool:
    """Whether a file of a folder is taken: HDF5 by its name, other formats by their content."""
    if path.name.startswith(".") or path.suffix.lower() == ".hdr":
        return False
    return path.suffix.lower() in HDF5 or any(READERS[n].matches(path) for n in READERS.names())


def undersampled(scans: Iterable[Scan], options: Options, *, references: bool) -> bool:
    """Whether the data were undersampled at the scanner.

    Args:
        scans: the volumes.
        options: must speak of retrospective masks where the data are fully sampled, and only there.
        references: whether references were asked for.

    Raises:
        UsageError: some were undersampled and some were not, or the options do not fit.
    """
    carrying = {scan.path.name: scan.mask is not None for scan in scans}
    masked = [name for name, mask in carrying.items() if mask]
    if len(masked) not in (0, len(carrying)):
        raise UsageError(
            f"some volumes are fully sampled and some carry a mask ({', '.join(masked):.200}); "
            "prepare them into different folders"
        )
    if carrying and not masked and options.acceleration is None:
        raise UsageError("the volumes are fully sampled: say with --acceleration how to undersample them")
    if masked and options.undersamples:
        raise UsageError(
            "the volumes carry their own masks and are not undersampled again: leave out --acceleration, "
            "--mask and --further-drop"
        )
    if masked and options.maps_from == "full":
        raise UsageError("the volumes are not fully sampled: compute their maps with --maps-from acs")
    if masked and references and not all(scan.full for scan in scans):
        raise UsageError("the volumes are not fully sampled and give no references: leave out --references")
    return bool(masked)


def require_one_size(scans: Iterable[Scan], there: Iterable[Volume], options: Options) -> None:
    """Refuse volumes that would have different sizes in the store.

    Raises:
        UsageError: names the sizes and the options that help.
    """
    shapes = Counter(prepared_shape(scan, options) for scan in scans)
    shapes.update(volume.shape for volume in there)
    if len(shapes) > 1:
        sizes = ", ".join(f"{count} of {c}x{h}x{w}" for (c, h, w), count in sorted(shapes.items()))
        raise UsageError(
            f"the volumes would have different sizes, coils x H x W: {sizes}; bring them to one size "
            "with --crop and --virtual-coils, or take one with --only-size"
        )


def require_lines(scans: Iterable[Scan], options: Options) -> None:
    """Refuse masks that fit none of the volumes, before anything is read.

    A single volume that they do not fit fails by itself later.

    Raises:
        UsageError: no room for the ACS lines in the mask, or for ESPIRiT's kernel in the ACS lines.
    """
    faults = []
    for scan in scans:
        try:
            _require_lines(scan, options)
        except UsageError as error:
            faults.append(error)
        else:
            return
    if faults:
        raise faults[0]


def _require_lines(scan: Scan, options: Options) -> None:
    """The headers say which lines were acquired."""
    law = MASKS.build(options.law)
    _, height, width = prepared_shape(scan, options)
    padding = scan.header.acquired_lines(scan.width) or (0, scan.width)
    law.check(after_crop(between(scan.width, *padding), width), height)
    lines = law.params.centre(width)
    if scan.coils > 1 and options.maps_from == "acs" and lines < options.kernel_width:
        raise UsageError(
            f"{lines} ACS lines cannot host ESPIRiT's kernel of {options.kernel_width}; raise --acs-lines "
            "or lower --kernel-width"
        )
