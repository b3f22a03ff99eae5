"""Files and options that cannot be prepared: one line each, and the rest is done."""

import h5py
import numpy as np
import pytest

from mrigen.cli.main import run
from mrigen.data.mri_manifest import MRIManifest

from .scans import arguments, digests, header, noise, write_scan

RANDOM = np.random.default_rng(0)
GOOD = noise(RANDOM, 2, 3, 24, 20)
OPTIONS = {"acceleration": 2, "acs_lines": 4, "kernel_width": 3, "jobs": 1}
ENTITY = b'<!DOCTYPE a [<!ENTITY b "c">]><ismrmrdHeader>&b;</ismrmrdHeader>'


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch):
    """No line is folded."""
    monkeypatch.setenv("COLUMNS", "500")


def with_value(value):
    kspace = GOOD.copy()
    kspace[1, 0, 3, 3] = value
    return kspace


def external(path):
    with h5py.File(path, "w") as file:
        file["kspace"] = h5py.ExternalLink("other.h5", "kspace")


def virtual(path):
    layout = h5py.VirtualLayout(GOOD.shape, np.complex64)
    layout[:] = h5py.VirtualSource("other.h5", "kspace", GOOD.shape)
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("kspace", layout)


def cyclic(path):
    with h5py.File(path, "w") as file:
        file["kspace"] = h5py.SoftLink("/kspace")


def raw_file(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("kspace", GOOD.shape, np.complex64, external=[("/etc/hostname", 0, GOOD.nbytes)])


def absurd(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("kspace", (1000, 32, 512, 512), np.complex64, chunks=(1, 1, 512, 512))


def huge_slice(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("kspace", (1, 1024, 4096, 4096), np.complex64, chunks=(1, 1, 64, 64))


def truncated(path):
    write_scan(path, np.tile(GOOD, (20, 1, 1, 1)))
    path.write_bytes(path.read_bytes()[:50_000])


FILES = {
    "empty file": (lambda p: p.write_bytes(b""), "is empty"),
    "text": (lambda p: p.write_text("kspace"), "not a readable HDF5 file"),
    "truncated": (truncated, "not a readable HDF5 file"),
    "no kspace": (lambda p: h5py.File(p, "w").close(), "no dataset `kspace`"),
    "group": (lambda p: h5py.File(p, "w").create_group("kspace").file.close(), "not stored in this file"),
    "external link": (external, "is a link"),
    "virtual dataset": (virtual, "not stored in this file"),
    "cyclic link": (cyclic, "is a link"),
    "external raw file": (raw_file, "not stored in this file"),
    "absurd size": (absurd, "holds no such data"),
    "huge slice": (huge_slice, "more than 1 GiB"),
    "two dimensions": (lambda p: write_scan(p, GOOD[0, 0]), "has shape (24, 20)"),
    "six dimensions": (lambda p: write_scan(p, GOOD[None, None]), "has shape (1, 1, 2, 3, 24, 20)"),
    "scalar": (lambda p: write_scan(p, np.complex64(1)), "has shape ()"),
    "real": (lambda p: write_scan(p, GOOD.real), "float32, not complex"),
    "strings": (lambda p: write_scan(p, np.full((2, 3, 24, 20), b"x")), "not complex"),
    "zero slices": (lambda p: write_scan(p, GOOD[:0]), "is empty"),
    "zero coils": (lambda p: write_scan(p, GOOD[:, :0]), "is empty"),
    "zero lines": (lambda p: write_scan(p, GOOD[..., :0]), "is empty"),
    "NaN": (lambda p: write_scan(p, with_value(np.nan)), "not finite in slice 1"),
    "infinity": (lambda p: write_scan(p, with_value(np.inf)), "not finite in slice 1"),
    "beyond complex64": (lambda p: write_scan(p, with_value(0).astype(complex) * 1e300), "not finite"),
    "all zero": (lambda p: write_scan(p, 0 * GOOD), "k-space is zero"),
    "gap": (lambda p: write_scan(p, GOOD * (np.arange(20) != 7)), "has no mask"),
    "zero slice": (
        lambda p: write_scan(p, GOOD * np.array([1, 0])[:, None, None, None]),
        "slice 1 hold no data",
    ),
    "mask of wrong length": (lambda p: write_scan(p, GOOD, mask=np.ones(19)), "shape (20,) or (24, 20)"),
    "mask of strings": (lambda p: write_scan(p, GOOD, mask=np.full(20, b"1")), "must be numbers"),
    "entities": (lambda p: write_scan(p, GOOD, ismrmrd_header=ENTITY), "document type"),
    "broken XML": (lambda p: write_scan(p, GOOD, ismrmrd_header=b"<a>"), "not well-formed"),
    "header of numbers": (lambda p: write_scan(p, GOOD, ismrmrd_header=np.ones(3)), "not a string"),
    "DC not acquired": (
        lambda p: write_scan(p, GOOD, ismrmrd_header=header(24, 20).replace(b"<maximum>19<", b"<maximum>8<")),
        "DC was not acquired",
    ),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_bad_file_is_named_and_the_rest_is_done(tmp_path, capsys, kind):
    make, message = FILES[kind]
    source = tmp_path / "raw with spaces é"
    source.mkdir()
    write_scan(source / "good.h5", GOOD)
    make(source / "bad.h5")
    command = ["prep-fastmri", str(source), "--out", str(tmp_path / "store"), *arguments(OPTIONS)]
    assert run(command) == 1
    printed = capsys.readouterr().out
    assert "bad.h5" in printed
    assert message in printed
    assert [v.source for v in MRIManifest.load(tmp_path / "store").volumes] == ["good.h5"]
    assert set(digests(tmp_path / "store")) == {"good.h5", "manifest.json", "preview.png"}

    assert run([*command, "--strict"]) == 2
    assert (
        run(
            [
                command[0],
                str(source / "bad.h5"),
                "--out",
                str(tmp_path / "only"),
                *arguments(OPTIONS),
                "--strict",
            ]
        )
        == 2
    )
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith(f"mrigen: {source / 'bad.h5'}: ")
    assert message in error
    assert not (tmp_path / "only").exists()
    assert not (tmp_path / "only-reference").exists()


@pytest.fixture
def good(tmp_path):
    (tmp_path / "raw").mkdir()
    return write_scan(tmp_path / "raw" / "good.h5", GOOD)


WRONG = {
    "no acceleration": ({"acceleration": None}, "say with --acceleration"),
    "acceleration below one": ({"acceleration": 0.5}, "acceleration"),
    "no room": ({"acceleration": 5}, "too few for 4 ACS lines"),
    "unknown mask": ({"mask": "exact-radnom"}, "did you mean 'exact-random'"),
    "both centres": ({"center_fraction": 0.1}, "not both"),
    "kernel": ({"kernel_width": 6}, "4 ACS lines cannot host ESPIRiT's kernel of 6"),
    "whole acceleration": ({"mask": "magic", "acceleration": 2.5}, "whole acceleration"),
    "split": ({"split": "train=0.5,val=0.4"}, "sum to 1"),
    "split text": ({"split": "train;val"}, "train=0.9,val=0.1"),
    "empty part": ({"split": "train=0.5,val=0.5"}, "would get none of 1 volumes"),
    "slices": ({"slices": "a:b"}, "write all, 5:-5 or 0,3,7"),
    "slice step": ({"slices": "::0"}, "write all"),
    "only size": ({"only_size": "big"}, "HxW"),
    "maps": ({"maps_from": "thin air"}, "maps_from"),
    "two references": ({"references": "r", "no_references": True}, "not both"),
    "threshold": ({"espirit_threshold": 2}, "espirit_threshold"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_option_is_one_line(good, tmp_path, capsys, kind):
    options, message = WRONG[kind]
    command = ["prep-fastmri", str(good), "--out", str(tmp_path / "store"), *arguments(OPTIONS | options)]
    assert run(command) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["raw"]


@pytest.mark.parametrize(("slices", "message"), [("0,5", "has 2 slices"), ("2:", "leaves none of 2 slices")])
def test_slices_that_a_volume_does_not_have(good, tmp_path, capsys, slices, message):
    command = ["prep-fastmri", str(good), "--out", str(tmp_path / "store"), *arguments(OPTIONS)]
    assert run([*command, "--strict", "--slices", slices]) == 2
    assert message in capsys.readouterr().err


def test_a_missing_source(tmp_path, capsys):
    assert run(["prep-fastmri", str(tmp_path / "nowhere"), "--out", str(tmp_path / "store")]) == 2
    assert "no such file or folder" in capsys.readouterr().err
    (tmp_path / "raw").mkdir()
    assert run(["prep-fastmri", str(tmp_path / "raw"), "--out", str(tmp_path / "store")]) == 2
    assert "holds no files of raw k-space" in capsys.readouterr().err


def test_an_output_folder_that_cannot_be(good, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "store"):
        assert run(["prep-fastmri", str(good), "--out", str(out), *arguments(OPTIONS)]) == 2
        error = capsys.readouterr().err
        assert "cannot write there" in error
        assert error.count("\n") == 1
    assert (tmp_path / "file").read_text() == ""


def test_sources_are_never_overwritten(good, tmp_path, capsys):
    before = digests(tmp_path)
    assert run(["prep-fastmri", str(good), "--out", str(good.parent), *arguments(OPTIONS)]) == 2
    assert "both a source and an output folder" in capsys.readouterr().err
    write_scan(tmp_path / "good.h5", GOOD)
    assert (
        run(["prep-fastmri", str(tmp_path / "good.h5"), "--out", str(good.parent), *arguments(OPTIONS)]) == 2
    )
    assert "in the way and not a prepared volume" in capsys.readouterr().err
    assert digests(tmp_path).items() >= before.items()


def test_two_volumes_of_one_name(good, tmp_path, capsys):
    other = write_scan(tmp_path / "good.h5", GOOD)
    assert (
        run(["prep-fastmri", str(good), str(other), "--out", str(tmp_path / "store"), *arguments(OPTIONS)])
        == 2
    )
    assert "of the same name" in capsys.readouterr().err


def test_sizes_are_not_mixed_and_two_options_help(good, tmp_path, capsys):
    write_scan(good.parent / "wide.h5", noise(RANDOM, 2, 3, 24, 26))
    write_scan(good.parent / "more.h5", noise(RANDOM, 2, 5, 24, 20))
    command = ["prep-fastmri", str(good.parent), "--out", str(tmp_path / "store"), *arguments(OPTIONS)]
    assert run(command) == 2
    error = capsys.readouterr().err
    for part in ("1 of 3x24x20", "1 of 3x24x26", "1 of 4x24x20", "--crop", "--virtual-coils", "--only-size"):
        assert part in error
    assert not (tmp_path / "store").exists()

    cropped = [*command, "--crop", "24", "20", "--virtual-coils", "3"]
    assert run(cropped) == 0
    assert {v.shape for v in MRIManifest.load(tmp_path / "store").volumes} == {(3, 24, 20)}

    only = ["prep-fastmri", str(good.parent), "--out", str(tmp_path / "only"), *arguments(OPTIONS)]
    assert run([*only, "--only-size", "3x24x20"]) == 0
    assert [v.source for v in MRIManifest.load(tmp_path / "only").volumes] == ["good.h5"]
    assert "2 of another size" in capsys.readouterr().out


def test_a_volume_smaller_than_the_crop_is_named(good, tmp_path, capsys):
    write_scan(good.parent / "large.h5", noise(RANDOM, 2, 3, 32, 26))
    command = ["prep-fastmri", str(good.parent), "--out", str(tmp_path / "store"), *arguments(OPTIONS)]
    assert run([*command, "--crop", "28", "24"]) == 1
    assert "smaller than --crop 28 24" in capsys.readouterr().out


def test_other_parameters_into_the_same_folder(good, tmp_path, capsys):
    command = ["prep-fastmri", str(good), "--out", str(tmp_path / "store"), *arguments(OPTIONS)]
    assert run(command) == 0
    before = digests(tmp_path)
    assert run([*command, "--seed", "1", "--split", "val"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "seed 0 -> 1" in error
    assert "split" in error
    (tmp_path / "store" / "manifest.json").unlink()
    assert run([*command, "--seed", "1"]) == 2
    assert run(command) == 0
    assert digests(tmp_path) == before


def test_nothing_that_names_a_patient_is_copied(tmp_path, capsys):
    """Identifiers in every place that a file has; none in any byte of the output or on the terminal."""
    planted = "DOE^JANE-1961"
    end = b"</ismrmrdHeader>"
    subject = f"<subjectInformation><patientName>{planted}</patientName></subjectInformation>"
    study = f"<studyInformation><studyID>{planted}</studyID></studyInformation>"
    xml = header(24, 20).replace(end, (subject + study).encode() + end)
    attributes = dict.fromkeys(("patient_id", "acquisition", "norm", "max", planted), planted)
    path = write_scan(tmp_path / "scan.h5", GOOD, ismrmrd_header=xml, attributes=attributes)
    with h5py.File(path, "r+") as file:
        file["kspace"].attrs["patient"] = planted
        file[planted] = np.arange(3)
    assert run(["prep-fastmri", str(path), "--out", str(tmp_path / "store"), *arguments(OPTIONS)]) == 0
    written = [p for p in tmp_path.rglob("*") if p.is_file() and p != path]
    assert len(written) == 5
    for file in written:
        content = file.read_bytes()
        assert not any(part in content for part in (planted.encode(), b"DOE", b"JANE", b"1961")), file
    printed = capsys.readouterr()
    assert "DOE" not in printed.out + printed.err
    recorded = MRIManifest.load(tmp_path / "store").volumes[0].header
    assert "acquisition" not in recorded
    assert recorded["field_strength"] == 3.0
