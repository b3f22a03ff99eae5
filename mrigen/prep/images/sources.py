"""From what the user names to a set of images."""

from __future__ import annotations

from pathlib import Path

from mrigen.data.archives import is_archive, open_files
from mrigen.data.images import ARRAYS
from mrigen.errors import UsageError
from mrigen.prep.images import arrays as image_array
from mrigen.prep.images import cifar as image_cifar
from mrigen.prep.images import idx as image_idx
from mrigen.prep.images import volumes as image_volumes
from mrigen.prep.images.base import ImageSet
from mrigen.prep.images.builtin import BUILT_IN
from mrigen.prep.images.files import FileSet, is_relevant


def open_set(source: str, *, labels: bool = False) -> ImageSet:
    """The images of a folder, an archive or a built-in set.

    Args:
        source: ``digits``, ``spiral``, ``shapes`` or ``black-holes``; a folder, zip or tar archive of image
            files, as EDM's data sets are; an array (``.npz``, ``.npy``, ``.safetensors``, ``.h5``); CIFAR's
            own archive or its folder; a folder of MNIST's IDX files; or NIfTI, DICOM and BIDS, a file or a
            folder, whose slices are the images. Write ``./digits`` for a folder of that name.
        labels: read class labels too.

    Raises:
        UsageError: nothing there, nothing that can be read, or no labels although they are wanted.
    """
    if source in BUILT_IN:
        return BUILT_IN[source].open(Path(source), labels=labels)
    path = Path(source).absolute()
    if not path.exists():
        built_in = ", ".join(sorted(BUILT_IN))
        raise UsageError(f"{source}: no such file or folder; give one, or a built-in set ({built_in})")
    if image_idx.looks_like(path):
        return image_idx.IdxSet.open(path, labels=labels)
    if image_volumes.looks_like(path):
        return image_volumes.VolumeSet.open(path, labels=labels)
    if path.suffix.lower() in {*ARRAYS, ".h5", ".hdf5"}:
        return image_array.ArrayFileSet.open(path, labels=labels)
    if path.is_dir() or is_archive(path):
        files = open_files(path, lambda name: is_relevant(name) or image_cifar.is_batch(name))
        if any(map(image_cifar.is_batch, files.places)):
            return image_cifar.CifarSet.of(files, labels=labels)
        return FileSet.of(files, labels=labels)
    raise UsageError(f"{source}: no folder, zip, tar or array of images; put single images into a folder")
