"""Writes that are complete or absent, and what killed writers leave."""

import os
import resource
import signal

import h5py
import numpy as np
import pytest

from mrigen import hdf5
from mrigen.files import HERE, atomic, locked, remove_scratch, write_text


@pytest.fixture
def writer(tmp_path):
    """A process in the middle of a write of ``a.h5``."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        with atomic(tmp_path / "a.h5") as temporary, h5py.File(temporary, "w") as file:
            file["x"] = 1
            os.write(write, b"!")
            signal.pause()
    assert os.read(read, 1) == b"!"
    yield child
    if child not in ended:
        end(child)


ended = set()


def end(child):
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    ended.add(child)


def test_what_a_living_process_writes_is_left_alone_and_what_a_dead_one_left_goes(tmp_path, writer):
    write_text(tmp_path / "b", "1")
    assert len(list(tmp_path.glob(".a.h5.*.tmp"))) == 1
    assert not (tmp_path / "a.h5").exists()
    end(writer)
    write_text(tmp_path / "b", "2")
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
    assert (tmp_path / "b").read_text() == "2"


def test_another_machine_may_live(tmp_path):
    other = tmp_path / f".a.{'0' * 8}-abcdefgh.tmp"
    other.mkdir()
    write_text(tmp_path / "b", "1")
    assert other.is_dir()
    with locked(tmp_path):
        remove_scratch(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_a_link_of_such_a_name_leads_nowhere(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x").write_text("mine")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / f".a.{HERE}-abcdefgh.tmp").symlink_to(tmp_path / "mine")
    write_text(tmp_path / "out" / "b", "1")
    remove_scratch(tmp_path / "out")
    assert (tmp_path / "mine" / "x").read_text() == "mine"


def test_a_failed_write_leaves_the_old_file(tmp_path):
    write_text(tmp_path / "a", "old")
    with pytest.raises(FileNotFoundError), atomic(tmp_path / "a"):
        pass  # nothing was written
    assert (tmp_path / "a").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_names_cannot_be_guessed_and_others_cannot_look(tmp_path):
    names = set()
    for _ in range(5):
        with atomic(tmp_path / "a") as temporary:
            temporary.write_text("")
            names.add(temporary.parent.name)
            assert temporary.parent.stat().st_mode & 0o777 == 0o700
    assert len(names) == 5
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_hdf5_that_does_not_fit_is_an_error_and_leaves_nothing(tmp_path):
    """Wherever the room ends: in a chunk, in a small dataset whose bytes are written late, at the close."""
    rows = np.random.default_rng(0).random((20, 9, 9))

    def write(path):
        with hdf5.writer(path) as file:
            file.create_dataset("rows", rows.shape, rows.dtype, chunks=(1, 9, 9))
            file["rows"][...] = rows
            file["small"] = rows[:, 0]

    write(tmp_path / "whole.h5")
    size = (tmp_path / "whole.h5").stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for room in range(0, size, 256):
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
        try:
            with pytest.raises(OSError, match="too large"):
                write(tmp_path / "a.h5")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert [path.name for path in tmp_path.iterdir()] == ["whole.h5"]
    write(tmp_path / "a.h5")
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()
    with hdf5.reader(tmp_path / "a.h5") as file:
        assert np.array_equal(file["small"], rows[:, 0])
