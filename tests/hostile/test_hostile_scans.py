"""k-space files of strangers: cut off, flipped, absurd, linked elsewhere; in two commands."""

import h5py
import numpy as np
import pytest

from mrigen.cli.main import run

GENERATOR = np.random.default_rng(8)
SHAPE = (2, 3, 24, 20)
GOOD = (GENERATOR.normal(size=SHAPE) + 1j * GENERATOR.normal(size=SHAPE)).astype(np.complex64)
HEADER = b"<ismrmrdHeader xmlns='http://www.ismrm.org/ISMRMRD'>%s</ismrmrdHeader>"
PREP = ["--acceleration", 2, "--acs-lines", 4, "--kernel-width", 3, "--jobs", 1]
RECONSTRUCT = ["--solver", "zero-filled", "--acceleration", 2, "--acs-lines", 4, "--kernel-width", 3]


def write(path, kspace=GOOD, **more):
    with h5py.File(path, "w") as file:
        file["kspace"] = kspace
        for name, value in more.items():
            file[name] = value


def header(body):
    return lambda path: write(path, ismrmrd_header=body)


def laughs(path):
    """Entities that would unfold to 10^9 letters."""
    entities = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 10))
    text = f'<?xml version="1.0"?><!DOCTYPE h [<!ENTITY l0 "ha">{entities}]><h>&l9;</h>'
    write(path, ismrmrd_header=text.encode())


def external(path):
    with h5py.File(path, "w") as file:
        file["kspace"] = h5py.ExternalLink("/etc/passwd", "kspace")


def virtual(path):
    layout = h5py.VirtualLayout(SHAPE, np.complex64)
    layout[:] = h5py.VirtualSource("../../other.h5", "kspace", SHAPE)
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("kspace", layout)


def raw(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("kspace", SHAPE, np.complex64, external=[("/etc/passwd", 0, GOOD.nbytes)])


def circle(path):
    with h5py.File(path, "w") as file:
        file["a"], file["kspace"] = h5py.SoftLink("/kspace"), h5py.SoftLink("/a")


def declared(shape):
    def make(path):
        with h5py.File(path, "w") as file:
            file.create_dataset("kspace", shape, np.complex64, chunks=(1,) * len(shape))

    return make


def field_of_view(reconstructed):
    """A header whose reconstructed readout is so many millimetres, of 440."""
    spaces = "".join(
        f"<{tag}><fieldOfView_mm><x>{x}</x><y>1</y><z>1</z></fieldOfView_mm></{tag}>"
        for tag, x in (("encodedSpace", 440), ("reconSpace", reconstructed))
    )
    return header(HEADER % f"<encoding>{spaces}</encoding>".encode())


def virtual_mask(path):
    write(path)
    layout = h5py.VirtualLayout((20,), np.float64)
    layout[:] = h5py.VirtualSource("/etc/passwd", "mask", (20,))
    with h5py.File(path, "r+") as file:
        file.create_virtual_dataset("mask", layout)


def circle_of_groups(path):
    """A group that is its own member, and k-space that leads through it for ever."""
    with h5py.File(path, "w") as file:
        file["a"] = file["/"]
        file["kspace"] = h5py.SoftLink("/a/a/a/a/kspace")


def masked(mask):
    return lambda path: write(path, GOOD, mask=mask)


def linked_header(path):
    write(path)
    with h5py.File(path, "r+") as file:
        file["ismrmrd_header"] = h5py.ExternalLink("/etc/passwd", "x")


def compressed(path):
    """Chunks that claim to be compressed and are noise."""
    with h5py.File(path, "w") as file:
        data = file.create_dataset("kspace", SHAPE, np.complex64, chunks=(1, *SHAPE[1:]), compression="gzip")
        for number in range(SHAPE[0]):
            data.id.write_direct_chunk((number, 0, 0, 0), bytes(range(256)) * 8)


SCANS = {
    "nothing": lambda p: p.write_bytes(b""),
    "signature alone": lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n"),
    "a picture": lambda p: p.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100)),
    "a folder": lambda p: p.mkdir(),
    "a dangling link": lambda p: p.symlink_to(p.with_name("gone.h5")),
    "a link to itself": lambda p: p.symlink_to(p),
    "external": external,
    "virtual": virtual,
    "raw file": raw,
    "circle": circle,
    "circle of groups": circle_of_groups,
    "virtual mask": virtual_mask,
    "linked header": linked_header,
    "zero coils": lambda p: write(p, GOOD[:, :0]),
    "zero height": lambda p: write(p, GOOD[:, :, :0]),
    "one dimension": lambda p: write(p, GOOD[0, 0, 0]),
    "six dimensions": lambda p: write(p, GOOD[None, None]),
    "integers": lambda p: write(p, np.ones(SHAPE, np.int64)),
    "objects": lambda p: write(p, np.array([b"a", b"bc"], object)),
    "booleans": lambda p: write(p, np.ones(SHAPE, bool)),
    "compound": lambda p: write(p, np.zeros(SHAPE, [("x", "f4"), ("y", "f4")])),
    "all NaN": lambda p: write(p, GOOD * np.nan),
    "one infinity": lambda p: write(p, np.where(np.arange(20) == 3, np.inf, GOOD)),
    "2^62 slices": declared((1 << 62, 1, 1)),
    "2^40 coils": declared((1, 1 << 40, 8, 8)),
    "2^31 x 2^31": declared((1, 1, 1 << 31, 1 << 31)),
    "damaged compression": compressed,
    "billion laughs": laughs,
    "file entity": header(b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>'),
    "open tag": header(HEADER % b"<encoding>"),
    "not UTF-8": header(b"<a>\xff\xfe</a>"),
    "10^5 nested tags": header(b"<a>" * 100_000 + b"</a>" * 100_000),
    "header of 2^24 letters": header(b"<a>" + b"x" * (1 << 24) + b"</a>"),
    "encoding that is none": header(b"<?xml version='1.0' encoding='uutf-8'?><a/>"),
    "encoding that is no text's": header(b"<?xml version='1.0' encoding='zlib'?><a/>"),
    "readout of nothing": field_of_view("1e-3"),
    "mask of zeros": masked(np.zeros(20)),
    "mask of NaN": masked(np.full(20, np.nan)),
    "mask of other slices": masked(np.ones((5, 24, 20))),
    "mask as a scalar": masked(1.0),
    "mask of objects": masked(np.array([b"a"] * 20, object)),
}


@pytest.mark.parametrize("kind", SCANS)
def test_prep_refuses(refused, tmp_path, kind):
    path = tmp_path / "bad\nné 1.h5"
    SCANS[kind](path)
    refused("prep-fastmri", path, "--out", tmp_path / "store", *PREP, "--strict")


@pytest.mark.parametrize("kind", SCANS)
def test_reconstruction_refuses(refused, tmp_path, kind):
    path = tmp_path / "bad\nné 1.h5"
    SCANS[kind](path)
    refused("reconstruct", path, "--out", tmp_path / "out", *RECONSTRUCT)


@pytest.mark.parametrize("place", range(20))
def test_cut_off_anywhere(refused, tmp_path, place):
    path = tmp_path / "cut.h5"
    write(path, ismrmrd_header=HEADER % b"")
    content = path.read_bytes()
    kept = int(np.random.default_rng(place).integers(1, len(content)))
    path.write_bytes(content[:kept])
    refused("prep-fastmri", path, "--out", tmp_path / "store", *PREP, "--strict")


@pytest.mark.parametrize("place", range(20))
def test_bytes_flipped_in_the_structure(tmp_path, capsys, place):
    """The file may still be readable; if not, it is refused by name and leaves nothing."""
    path, out = tmp_path / "flipped.h5", tmp_path / "store"
    write(path, ismrmrd_header=HEADER % b"")
    content, generator = bytearray(path.read_bytes()), np.random.default_rng(100 + place)
    for at in generator.integers(0, 2048, 6):
        content[at] = int(generator.integers(0, 256))
    path.write_bytes(content)
    code = run([str(a) for a in ("prep-fastmri", path, "--out", out, *PREP, "--strict", "--no-references")])
    said = capsys.readouterr().err
    assert code in {0, 2}, said
    assert out.exists() == (code == 0)
    assert len([line for line in said.splitlines() if line.startswith("mrigen: ")]) == (code == 2), said


def test_a_good_file_among_names_with_everything(tmp_path, capsys):
    """Spaces, quotes, markup, Unicode and line breaks in names are names."""
    folder = tmp_path / "raw [bold]\n'é ü\""
    folder.mkdir()
    for name in ("a b", "[red]c", "d\ne", "é日本", "%s{}", "-x", "e[|]"):
        write(folder / f"{name}.h5")
    (folder / "bad [|red]\n\x1b[31m1.h5").write_bytes(b"")
    out = tmp_path / "out [bold]\né"
    (tmp_path / "out [").mkdir()
    out = tmp_path / "out [" / "bold]\né"  # together: a closing tag of rich's markup
    assert run([str(a) for a in ("prep-fastmri", folder, "--out", out, *PREP)]) == 1
    said = capsys.readouterr()
    assert "is empty; copy the file again" in " ".join(said.out.split())
    assert "\x1b[31m" not in said.out + said.err
    assert len(list(out.glob("*.h5"))) == 7
    assert run(["doctor", str(out)]) == 0
