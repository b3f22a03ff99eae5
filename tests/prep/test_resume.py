"""Killed at any moment, with any number of processes: the same bytes in the end."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import pytest
from waiting import moments, wait_until

from mrigen.cli.main import run
from mrigen.data import manifest
from mrigen.data.mri_manifest import MRIManifest
from mrigen.files import sha256

from .scans import digests

COMMAND = [sys.executable, "-c", "from mrigen.cli.main import main; main()"]
OPTIONS = ["--acceleration", "4", "--acs-lines", "4", "--kernel-width", "3", "--fixed-further"]


@pytest.fixture(scope="module")
def raw(simulate, tmp_path_factory):
    return simulate(tmp_path_factory.mktemp("raw") / "raw", volumes=24, slices=6)


@pytest.fixture(scope="module")
def expected(raw, tmp_path_factory):
    """Bytes of an uninterrupted run in one process."""
    folder = tmp_path_factory.mktemp("expected")
    assert run(["prep-fastmri", str(raw), "--out", str(folder / "store"), *OPTIONS, "--jobs", "1"]) == 0
    return digests(folder)


def test_a_killed_run_continues_to_the_same_bytes(raw, expected, tmp_path):
    """SIGKILL at a random moment of a run with two processes, half-written files left behind."""
    store = tmp_path / "store"
    arguments = ["prep-fastmri", str(raw), "--out", str(store), *OPTIONS]
    marker = f"{tmp_path.name}-{os.getpid()}"
    process = subprocess.Popen(
        [*COMMAND, *arguments, "--jobs", "2"],
        env={**os.environ, "MRIGEN_TEST": marker},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: process.poll() is not None or list(store.glob("*.h5")), pause=0.002)
    assert process.poll() is None
    time.sleep(moments().uniform(0, 0.3))
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=60)
    wait_until(lambda: not _running(marker), 60)  # workers end with the run that started them
    left = store / ".simulated_0001.h5.0a1b2c3d-0a1b2c3d.tmp"
    left.mkdir()
    (left / "part").write_bytes(b"half written")
    assert run([*arguments, "--jobs", "1"]) == 0
    assert digests(tmp_path) == expected


def _running(marker: str) -> bool:
    wanted = f"MRIGEN_TEST={marker}".encode()
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            if wanted in environ.read_bytes():
                return True
        except OSError:
            continue
    return False


def test_a_second_run_skips_everything_and_more_volumes_join(raw, expected, tmp_path, capsys):
    store, part = tmp_path / "store", tmp_path / "part"
    part.mkdir()
    for path in sorted(raw.glob("*.h5"))[:5]:
        shutil.copy(path, part)
    command = ["--out", str(store), *OPTIONS, "--jobs", "1"]
    assert run(["prep-fastmri", str(part), *command]) == 0
    assert len(MRIManifest.load(store).volumes) == 5
    others = [str(path) for path in sorted(raw.glob("*.h5"))[5:]]
    assert run(["prep-fastmri", *others, *command]) == 0
    shutil.rmtree(part)
    assert digests(tmp_path) == expected
    capsys.readouterr()
    assert run(["prep-fastmri", str(raw), *command]) == 0
    assert "0 prepared, 24 skipped (already there), 0 failed" in capsys.readouterr().out
    assert digests(tmp_path) == expected


def test_only_what_changed_is_read_for_its_checksum(simulate, tmp_path, monkeypatch):
    """A manifest is younger than its files from the second run on, whatever the clock's grain."""
    raw, store = simulate(tmp_path / "raw", volumes=3), tmp_path / "store"
    command = ["prep-fastmri", str(raw), "--out", str(store), *OPTIONS, "--jobs", "1"]
    read = []

    def counted(path):
        read.append(path)
        return sha256(path)

    monkeypatch.setattr(manifest, "sha256", counted)
    for _ in range(2):
        assert run(command) == 0
    assert {path.relative_to(tmp_path) for path in read} == {
        Path(folder, f"simulated_000{i}.h5") for folder in ("store", "store-reference") for i in range(3)
    }
    before = digests(tmp_path)
    read.clear()
    assert run(command) == 0
    assert read == []
    assert digests(tmp_path) == before
    touched = store / "simulated_0001.h5"
    with h5py.File(touched, "r+") as file:
        file["scale"][0] += 1
    times = (store / "simulated_0000.h5").stat()
    os.utime(touched, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert len(MRIManifest.load(store).faults(store)) == 1
    read.clear()
    assert run(command) == 0
    assert read == [touched]


def test_a_changed_source_and_a_lost_reference_are_prepared_again(simulate, tmp_path, capsys):
    raw, store = simulate(tmp_path / "raw", volumes=3), tmp_path / "store"
    command = ["prep-fastmri", str(raw), "--out", str(store), *OPTIONS, "--jobs", "1"]
    assert run(command) == 0
    before = digests(tmp_path)
    (tmp_path / "store-reference" / "simulated_0000.h5").unlink()
    shutil.copy(raw / "simulated_0002.h5", raw / "simulated_0001.h5")
    capsys.readouterr()
    assert run(command) == 0
    assert "2 prepared, 1 skipped" in capsys.readouterr().out
    after = digests(tmp_path)
    changed = {name for name in before if before[name] != after[name]}
    names = ("manifest.json", "simulated_0001.h5")
    written = {f"{folder}/{name}" for folder in ("store", "store-reference") for name in names}
    assert changed == {"raw/simulated_0001.h5", "store/preview.png"} | written


def test_one_run_at_a_time(simulate, tmp_path, capsys):
    from mrigen.prep.folder import exclusive

    raw, store = simulate(tmp_path / "raw"), tmp_path / "store"
    with exclusive(store):
        assert run(["prep-fastmri", str(raw), "--out", str(store), *OPTIONS]) == 2
    assert "another mrigen is writing there" in capsys.readouterr().err


def test_a_full_disk_stops_the_run_and_is_named(simulate, tmp_path, capsys, monkeypatch):
    import errno

    from mrigen import files

    raw, store = simulate(tmp_path / "raw"), tmp_path / "store"
    command = ["prep-fastmri", str(raw), "--out", str(store), *OPTIONS, "--jobs", "1"]

    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files, "_sync", full)
        assert run(command) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "No space left on device" in error
    assert str(store) in error
    assert not list(tmp_path.rglob(".*.tmp"))
    assert run(command) == 0
