"""What names a patient stays in the raw file: planted everywhere, found nowhere in what commands leave."""

import gzip
import shutil
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest

from mrigen.cli.main import run

from .scans import header, write_scan

PARTS = ("DOE", "JANE", "1961-12-24", "4711-0815")
NAME, BORN, NUMBER = "DOE^JANE", "1961-12-24", "4711-0815"
GENERATOR = np.random.default_rng(3)
SHAPE = (2, 3, 24, 20)
KSPACE = (GENERATOR.normal(size=SHAPE) + 1j * GENERATOR.normal(size=SHAPE)).astype(np.complex64)
KSPACE[..., 12, 10] += 300
TINY = Path(__file__).parents[1] / "recipes" / "tiny.yaml"
SMALL = ["--acs-lines", "4", "--kernel-width", "3"]


@pytest.fixture
def scan(tmp_path):
    """A scan whose folder, header, attributes, comments and further datasets name its patient."""
    folder = tmp_path / f"{NAME}_{BORN}"
    folder.mkdir()
    more = (
        f"<subjectInformation><patientName>{NAME}</patientName><patientID>{NUMBER}</patientID>"
        f"<patientBirthdate>{BORN}</patientBirthdate></subjectInformation>"
        f"<studyInformation><studyDate>{BORN}</studyDate><accessionNumber>{NUMBER}</accessionNumber>"
        f"<referringPhysicianName>{NAME}</referringPhysicianName></studyInformation>"
        f"<measurementInformation><protocolName>{NAME}</protocolName></measurementInformation>"
        f"<!-- {NAME} {BORN} -->"
    )
    end = b"</ismrmrdHeader>"
    xml = header(24, 20).replace(end, more.encode() + end)
    attributes = {"patient_id": NUMBER, "acquisition": NAME, "norm": 1.0, "max": NAME, NAME: BORN}
    path = write_scan(folder / "scan.h5", KSPACE, ismrmrd_header=xml, attributes=attributes)
    with h5py.File(path, "r+") as file:
        file["kspace"].attrs["patient"] = NAME
        file["kspace"].attrs["study"] = np.array([BORN.encode(), NUMBER.encode()])
        file[f"{NAME}/{BORN}"] = np.frombuffer(NUMBER.encode(), np.uint8)
        h5py.h5o.set_comment(file["kspace"].id, NAME.encode())
    content = path.read_bytes()
    assert all(part.encode() in content for part in PARTS)
    return path


def told(path):
    """Everything that a file says, compressed parts unpacked."""
    content = path.read_bytes()
    if path.suffix == ".gz":
        content += gzip.decompress(content)
    if path.suffix == ".png":
        content += b"".join(_unpacked(chunk) for chunk in _text_chunks(content))
    return content


def _text_chunks(png):
    at = 8
    while at < len(png):
        size = int.from_bytes(png[at : at + 4], "big")
        if png[at + 4 : at + 8] in {b"zTXt", b"iTXt"}:
            yield png[at + 8 : at + 8 + size].split(b"\0", 1)[1].lstrip(b"\0\1")
        at += 12 + size


def _unpacked(text):
    try:
        return zlib.decompress(text)
    except zlib.error:
        return text


def require_none(folders, printed=""):
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert files
    for path in files:
        content = told(path)
        for part in PARTS:
            for form in ("utf-8", "utf-16-le", "utf-16-be"):
                assert part.encode(form) not in content, (path, part)
            assert part not in path.name
    assert not [part for part in PARTS if part in printed]
    return len(files)


def test_a_search_finds_what_is_there(scan, tmp_path):
    """Planted in the clear, compressed, and as the name of a file."""
    for name, content in (("a", NAME.encode()), ("a.nii.gz", gzip.compress(NUMBER.encode())), (BORN, b"")):
        folder = tmp_path / f"of {name}"
        folder.mkdir()
        (folder / name).write_bytes(content)
        with pytest.raises(AssertionError):
            require_none([folder])


def test_preparation(scan, tmp_path, capsys):
    out = tmp_path / "store"
    command = ["prep-fastmri", str(scan), "--out", str(out), "--acceleration", "2", *SMALL]
    assert run([*command, "--no-noise-whitening", "--jobs", "1"]) == 0
    printed = capsys.readouterr()
    assert require_none([out, tmp_path / "store-reference"], printed.out + printed.err) == 5


def test_reconstruction(scan, tmp_path, capsys):
    out = tmp_path / "found"
    command = ["reconstruct", str(scan), "--out", str(out), "--solver", "zero-filled", "--acceleration", "2"]
    assert run([*command, *SMALL]) == 0
    printed = capsys.readouterr()
    assert require_none([out], printed.out + printed.err) >= 4


def test_reports_of_a_store_made_of_it(scan, tmp_path):
    """A reconstruction of the prepared data, whose report, figure and volume come from the store alone."""
    store, out = tmp_path / "store", tmp_path / "found"
    command = ["prep-fastmri", str(scan), "--out", str(store), "--acceleration", "2", *SMALL]
    assert run([*command, "--no-noise-whitening", "--jobs", "1", "--split", "test"]) == 0
    assert run(["reconstruct", str(store), "--out", str(out), "--solver", "zero-filled"]) == 0
    assert require_none([out]) >= 4


def test_a_study_of_a_store_made_of_it(scan, tmp_path, capsys):
    """Logs, models, summary and figure of training, distillation and evaluation on the prepared data."""
    other = Path(shutil.copy(scan, scan.with_name("other.h5")))
    with h5py.File(other, "r+") as file:
        file["kspace"][:] = KSPACE[:, :, ::-1].copy()
        file.attrs["patient_id"] = f"{NUMBER}-3"
    store, out = tmp_path / "store", tmp_path / "study"
    command = ["prep-fastmri", str(scan.parent), "--out", str(store), "--acceleration", "2", *SMALL]
    assert run([*command, "--no-noise-whitening", "--jobs", "1", "--split", "train=0.5,test=0.5"]) == 0
    capsys.readouterr()
    changes = [f"--set={change}" for change in ("evaluate.samples=2", "distill.selection.samples=2")]
    assert run(["run", str(TINY), "--data", str(store), "--out", str(out), "--device", "cpu", *changes]) == 0
    printed = capsys.readouterr()
    assert {"summary.json", "figure.png", "log.jsonl"} <= {path.name for path in out.rglob("*")}
    require_none([out], printed.out + printed.err)
