"""Stores larger than memory, on file systems without locks or writing, and with many readers."""

import hashlib
import multiprocessing
import os
import shutil
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest

from mrigen import memory
from mrigen.cli.main import run
from mrigen.data import mri_store as stores
from mrigen.data import volume_file
from mrigen.data.image_store import ImageStore
from mrigen.data.mri_manifest import MRIManifest, SliceStatistics, Volume, VolumeRecord
from mrigen.data.mri_store import MeasurementStore, VolumeArrays, pack, write_volume

TINY = Path(__file__).parents[1] / "recipes" / "tiny.yaml"
VOLUMES, SLICES, COILS, SIDE = 12, 6, 2, 48
SLICE_BYTES = 8 * COILS * SIDE * SIDE * 3 // 2  # maps, and half of the lines


def random_arrays(number):
    random = np.random.default_rng(number)
    shape = (SLICES, COILS, SIDE, SIDE)
    mask = np.zeros((SLICES, 1, SIDE), bool)
    mask[:, :, 12:36] = True
    kspace, maps = (
        random.normal(size=(*shape, 2)).astype(np.float32).view(np.complex64)[..., 0] for _ in "ab"
    )
    lines, scale = np.ones((SLICES, SIDE), bool), np.ones(SLICES, np.float32)
    return VolumeArrays(pack(kspace, mask), mask, lines, maps, scale)


def write(folder, number):
    """A volume of random numbers, and its entry in the manifest."""
    statistics = [
        SliceStatistics(slice=s, lines=24, acceleration=2.0, scale=1.0, mismatch=0.1) for s in range(SLICES)
    ]
    volume = Volume(
        file=f"v{number:02d}.h5",
        source="raw.h5",
        source_sha256="0",
        split="train",
        shape=(COILS, SIDE, SIDE),
        acs_lines=24,
        slices=statistics,
    )
    record = VolumeRecord(kind="measurements", parameters={}, volume=volume)
    write_volume(folder / volume.file, random_arrays(number), record)
    return volume


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A store of twelve volumes, 4 MB."""
    folder = tmp_path_factory.mktemp("stores") / "many"
    law = {"name": "exact-random", "acceleration": 2, "acs_lines": 4}
    MRIManifest(
        kind="measurements",
        created_by="test",
        parameters={},
        mask=law,
        volumes=[write(folder, number) for number in range(VOLUMES)],
    ).save(folder)
    return folder


def size(folder):
    return sum(path.stat().st_size for path in folder.glob("*.h5"))


def open_files(folder):
    links = (path.readlink() for path in Path("/proc/self/fd").iterdir() if path.is_symlink())
    return sum(link.parent == folder for link in links)


def digest(folder):
    """SHA-256 of everything that a store gives, read slice by slice."""
    store, total = MeasurementStore(folder, cache_bytes=0), hashlib.sha256()
    for index in range(len(store)):
        found = store.measurements([index])
        total.update(found.y.numpy().tobytes() + found.operator.maps.numpy().tobytes())
    return total.hexdigest()


def test_a_store_larger_than_memory_is_read_a_batch_at_a_time(many, monkeypatch):
    """Nothing is kept where the files are larger than an eighth of what is available."""
    monkeypatch.setattr(stores, "available", lambda: 8 * size(many) - 8)
    random = np.random.default_rng(0)
    tracemalloc.start()
    try:
        store = MeasurementStore(many)
        for _ in range(30):
            store.measurements(random.integers(len(store), size=4).tolist())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * 4 * SLICE_BYTES < size(many) / 4


def test_a_store_that_fits_is_read_once(many, monkeypatch):
    monkeypatch.setattr(stores, "available", lambda: 8 * size(many))
    store, slowly = MeasurementStore(many), MeasurementStore(many, cache_bytes=0)
    monkeypatch.setattr(volume_file.hdf5, "reader", None)
    everything = store.measurements(list(range(len(store))))
    monkeypatch.undo()
    again = slowly.measurements(list(range(len(slowly))))
    assert (everything.y == again.y).all()
    assert (everything.operator.maps == again.operator.maps).all()
    assert not open_files(many) or open_files(many) == VOLUMES


def test_more_volumes_than_a_process_may_open(many, monkeypatch):
    expected = digest(many)
    monkeypatch.setattr(volume_file, "MAX_OPEN", 3)
    store = MeasurementStore(many, cache_bytes=0)
    before = open_files(many)
    for index in np.random.default_rng(0).permutation(len(store)).tolist():
        store.measurements([index])
        assert open_files(many) - before <= 3
    assert digest(many) == expected


def test_image_shards_are_mapped(tmp_path):
    folder = tmp_path / "store"
    command = [
        "prep-images",
        "digits",
        "--size",
        "32",
        "--no-references",
        "--limit",
        "600",
        "--out",
        str(folder),
    ]
    assert run([*command, "--jobs", "1"]) == 0
    tracemalloc.start()
    try:
        store = ImageStore(folder, split=None)
        for first in range(0, len(store), 25):
            store.measurements(list(range(first, min(first + 25, len(store)))))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < size(folder) / 4


def test_a_read_only_store_trains_and_stays_as_it_is(prep, simulate, tmp_path):
    """Nobody writes into it, not even root, whom permissions do not stop."""
    store = prep(simulate(tmp_path / "raw", matrix=(16, 16)), acceleration=2)
    paths = [store, *store.iterdir()]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        before = {path: path.stat() for path in paths}
        few = ["--set", "teacher.images=8", "--set", "teacher.batch=4"]
        assert run(["train", str(TINY), "--data", str(store), "--out", str(tmp_path / "run"), *few]) == 0
        after = {path: path.stat() for path in [store, *store.iterdir()]}
        assert before.keys() == after.keys()
        assert all(before[p].st_mtime_ns == after[p].st_mtime_ns for p in paths)
    finally:
        store.chmod(0o755)


def test_four_processes_read_while_another_holds_and_replaces_files(many, tmp_path):
    """A program that locks one file for itself, and a preparation that writes another one again."""
    folder = tmp_path / "shared"
    shutil.copytree(many, folder)
    expected = digest(folder)
    with (
        h5py.File(folder / "v00.h5", "r+", locking=True),
        multiprocessing.get_context("spawn").Pool(4) as pool,
    ):
        reading = pool.map_async(digest, [folder] * 8, chunksize=1)
        while not reading.ready():
            write(folder, 1)
            reading.wait(0.05)
        assert reading.get() == [expected] * 8


def test_bytes_do_not_depend_on_who_looks_at_the_program(tmp_path, monkeypatch):
    """A profiler holds on to frames and so to datasets, which then close later."""
    write(tmp_path / "alone", 0)
    held, plain = [], h5py.Dataset.__setitem__

    def watched(self, key, value):
        held.append(self)
        plain(self, key, value)

    with monkeypatch.context() as patch:
        patch.setattr(h5py.Dataset, "__setitem__", watched)
        write(tmp_path / "watched", 0)
    assert len(held) == 5
    assert (tmp_path / "watched" / "v00.h5").read_bytes() == (tmp_path / "alone" / "v00.h5").read_bytes()


def test_memory_of_a_job_is_its_share(tmp_path):
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 9 kB\nMemAvailable:    700 kB\n")
    assert memory.available(tmp_path, meminfo) == 700 * 1024
    (tmp_path / "memory.current").write_text("100000\n")
    (tmp_path / "memory.max").write_text("300000\n")
    assert memory.available(tmp_path, meminfo) == 200000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.available(tmp_path, meminfo) == 700 * 1024
    assert memory.available(tmp_path, tmp_path / "none") == os.sysconf("SC_PHYS_PAGES") * os.sysconf(
        "SC_PAGE_SIZE"
    )
