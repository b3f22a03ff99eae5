"""Inputs as scanners, archives and other programs leave them: read rightly, or refused in one line."""

import h5py
import numpy as np
import pytest

from mrigen.cli.main import run
from mrigen.data.mri_manifest import MRIManifest
from mrigen.errors import UsageError
from mrigen.prep.kspace.options import Options
from mrigen.prep.measured import measured
from mrigen.prep.readers import inspect, open_slices

from .scans import centred_fft, dense, noise, write_scan

SIZE, ACS = (36, 30), 10


@pytest.fixture(autouse=True)
def _wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "500")


def kspace(slices=3, coils=4, size=SIZE):
    """An ellipse with some structure, seen by smooth coils, with little noise."""
    height, width = size
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    body = ((x / 0.7) ** 2 + (y / 0.8) ** 2 < 1) * (1 + 0.5 * np.cos(7 * x) * np.sin(5 * y))
    images = np.stack([(1 - 0.1 * s) * body * np.exp(0.4j * x) for s in range(slices)])
    angle = 2 * np.pi * np.arange(coils)[:, None, None] / coils
    maps = np.exp(-((x - np.cos(angle)) ** 2 + (y - np.sin(angle)) ** 2) / 1.6 + 1j * angle)
    k = centred_fft(images[:, None] * maps)
    return (k + 1e-3 * noise(np.random.default_rng(0), *k.shape)).astype(np.complex64)


def lines(width=SIZE[1], step=3):
    mask = np.arange(width) % step == 0
    mask[width // 2 - ACS // 2 : width // 2 + ACS // 2] = True
    return mask


def frames(slices=3):
    masks = np.stack([np.roll(np.arange(SIZE[1]) % 5 == 0, s) for s in range(slices)])
    masks[:, SIZE[1] // 2 - ACS // 2 : SIZE[1] // 2 + ACS // 2] = True
    return masks


def points():
    height, width = SIZE
    y, x = np.meshgrid(np.arange(height) - height // 2, np.arange(width) - width // 2, indexing="ij")
    centre = (abs(y) < 8) & (abs(x) < 8)
    rows = (np.arange(height)[:, None] % 3 == 0) | (abs(y) < 8)
    return {
        "rows": rows,
        "poisson": (np.random.default_rng(0).random(SIZE) < 0.3) | centre,
        "partial echo": y >= -height // 4,
        "elliptical": (2 * y / height) ** 2 + (2 * x / width) ** 2 <= 1,
    }


def prep(source, out, *more):
    command = ["prep-fastmri", str(source), "--out", str(out), "--kernel-width", "4", "--jobs", "1"]
    return run([*command, *map(str, more)])


def store_mask(folder):
    return dense(folder, "scan.h5")[0]["mask"]


@pytest.mark.parametrize("kind", points())
@pytest.mark.parametrize("ending", ["h5", "npy"])
def test_zero_points_were_not_measured(tmp_path, kind, ending):
    mask = points()[kind]
    path = tmp_path / f"scan.{ending}"
    data = kspace() * mask
    write_scan(path, data) if ending == "h5" else np.save(path, data)
    assert prep(path, tmp_path / "store", "--virtual-coils", 0) == 0
    np.testing.assert_array_equal(store_mask(tmp_path / "store"), np.broadcast_to(mask, (3, *SIZE)))


def test_zeros_beside_an_acceleration_are_refused(tmp_path, capsys):
    write_scan(tmp_path / "scan.h5", kspace() * points()["rows"])
    assert prep(tmp_path, tmp_path / "store", "--acceleration", 2, "--acs-lines", 8) == 1
    assert "the file has no mask" in capsys.readouterr().out
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    "given", ["(n, W)", "(n, 1, W)", "(n, H, W)", "(n, 1, 1, W)", "(n, C, H, W)", "none"]
)
@pytest.mark.parametrize("kind", [bool, np.float32, np.uint8])
def test_a_mask_for_every_frame(tmp_path, given, kind):
    masks = frames()
    data = kspace() * masks[:, None, None]
    full = np.broadcast_to(masks[:, None, None], data.shape)
    shapes = {
        "(n, W)": masks,
        "(n, 1, W)": masks[:, None],
        "(n, H, W)": full[:, 0],
        "(n, 1, 1, W)": masks[:, None, None],
        "(n, C, H, W)": full,
    }
    more = {} if given == "none" else {"mask": shapes[given].astype(kind)}
    write_scan(tmp_path / "scan.h5", data, **more)
    assert prep(tmp_path / "scan.h5", tmp_path / "store", "--virtual-coils", 0) == 0
    np.testing.assert_array_equal(store_mask(tmp_path / "store"), masks[:, None])
    _, stored = dense(tmp_path / "store", "scan.h5")
    assert not (stored[0] == 0).all((0, 1))[masks[0]].any()


@pytest.mark.parametrize("shape", ["(W,)", "(1, W)", "(H, W)", "(C, H, W)", "(H, 1)", "(H,)"])
def test_shapes_of_one_mask(tmp_path, shape):
    by_rows = shape.startswith("(H") and shape != "(H, W)"
    mask = lines(SIZE[0])[:, None] if by_rows else lines()[None]
    full = np.broadcast_to(mask, SIZE)
    given = {
        "(W,)": mask[0],
        "(1, W)": mask,
        "(H, W)": full,
        "(C, H, W)": np.broadcast_to(full, (4, *SIZE)),
        "(H, 1)": mask,
        "(H,)": mask[:, 0],
    }[shape]
    path = write_scan(tmp_path / "scan.h5", kspace() * mask, mask=given.astype(np.float64))
    found = inspect(path)
    np.testing.assert_array_equal(np.broadcast_to(found.mask, SIZE), full)
    assert not found.full
    assert not found.inferred
    assert found.points == by_rows


def test_the_data_say_along_which_axis_of_a_square_a_mask_lies(tmp_path):
    mask = lines(32)
    data = kspace(size=(32, 32)) * mask[:, None]
    found = inspect(write_scan(tmp_path / "scan.h5", data, mask=mask))
    np.testing.assert_array_equal(found.mask, np.broadcast_to(mask[:, None], (32, 32)))


@pytest.mark.parametrize("ending", ["h5", "npz"])
def test_a_mask_beside_full_data_is_applied(tmp_path, ending):
    """And the full image is the reference."""
    path, full = tmp_path / f"scan.{ending}", kspace()
    write_scan(path, full, mask=lines()) if ending == "h5" else np.savez(path, kspace=full, mask=lines())
    assert prep(path, tmp_path / "store", "--virtual-coils", 0) == 0
    arrays, stored = dense(tmp_path / "store", "scan.h5")
    np.testing.assert_array_equal(arrays["mask"], np.broadcast_to(lines(), (3, 1, SIZE[1])))
    np.testing.assert_allclose(stored * arrays["scale"][:, None, None, None], full * lines(), rtol=1e-5)
    assert (tmp_path / "store-reference" / "scan.h5").is_file()


def test_rounding_at_unmeasured_points_is_no_data(tmp_path):
    data = kspace() * lines()
    there_and_back = np.fft.fftn(np.fft.ifftn(data.astype(complex), axes=(-2, -1)), axes=(-2, -1))
    assert (there_and_back[..., ~lines()] != 0).any()
    found = inspect(write_scan(tmp_path / "scan.h5", there_and_back.astype(np.complex64), mask=lines()))
    assert not found.full
    np.testing.assert_array_equal(found.mask, lines())


def test_a_mask_that_the_data_contradict_is_refused(tmp_path, capsys):
    for name, changed in (("more", 1), ("fewer", 12)):
        mask = lines()
        mask[changed] ^= True
        write_scan(tmp_path / "scan.h5", kspace() * lines(), mask=mask)
        assert prep(tmp_path / "scan.h5", tmp_path / "store") == 1, name
        assert "mask and data disagree" in capsys.readouterr().out


def test_a_mask_of_another_shape_is_refused(tmp_path):
    path = write_scan(tmp_path / "scan.h5", kspace(), mask=np.ones((SIZE[1], SIZE[0] + 1)))
    with pytest.raises(UsageError, match="must be numbers of shape"):
        inspect(path)


def test_isolated_zeros_are_values():
    """Data rounded by the scanner have some."""
    import torch

    k = torch.from_numpy(kspace(1))
    k[:, :, 2, 3] = k[:, :, 30, 20] = 0
    found = measured(lambda slices: k[slices], tuple(k.shape), None, None, "k")
    assert found.mask is None
    assert found.full


def test_padded_columns_leave_a_scan_complete():
    import torch

    k = torch.from_numpy(kspace(1))
    k[..., :3] = k[..., -2:] = 0
    assert measured(lambda slices: k[slices], tuple(k.shape), None, None, "k").mask is None


@pytest.mark.parametrize("command", ["prep-fastmri", "reconstruct"])
@pytest.mark.parametrize("ending", ["h5", "npy"])
def test_dc_in_the_corner_is_refused_by_every_command(tmp_path, capsys, command, ending):
    path, data = tmp_path / f"scan.{ending}", np.fft.ifftshift(kspace(), axes=(-2, -1))
    write_scan(path, data) if ending == "h5" else np.save(path, data)
    more = ["--acceleration", "2", "--acs-lines", "8", "--kernel-width", "4", "--out", str(tmp_path / "out")]
    more += ["--solver", "rss"] if command == "reconstruct" else []
    assert run([command, str(path), *more]) != 0
    said = capsys.readouterr()
    assert "DC is in the corner: apply numpy.fft.fftshift" in said.out + said.err


@pytest.mark.parametrize("virtual", [0, 1])
def test_one_coil_explains_its_data_exactly(tmp_path, virtual):
    """However many steps conjugate gradients may take."""
    data = kspace(2, 1) * lines()
    write_scan(tmp_path / "scan.h5", data, mask=lines())
    assert prep(tmp_path, tmp_path / "store", "--virtual-coils", virtual, "--acs-lines", 8) == 0
    (volume,) = MRIManifest.load(tmp_path / "store").volumes
    assert max(s.mismatch for s in volume.slices) < 1e-5


def test_three_axes_mean_the_same_in_every_format(tmp_path):
    write_scan(tmp_path / "a.h5", kspace()[0])
    np.save(tmp_path / "b.npy", kspace()[0])
    for path in (tmp_path / "a.h5", tmp_path / "b.npy"):
        scan = inspect(path)
        assert (scan.slices, scan.coils) == (1, 4)
        assert any("one slice of 4 coils" in note for note in scan.notes)


@pytest.mark.parametrize("averages", [1, 3])
def test_an_axis_of_averages(tmp_path, averages):
    """One is no axis; of several, each line is the mean of those that measured it."""
    odd, data = np.arange(SIZE[1]) % 2 == 1, kspace()
    stored = np.stack([data * odd, data * ~odd, 3 * data * odd]) if averages == 3 else data[None]
    scan = inspect(write_scan(tmp_path / "scan.h5", stored))
    assert (scan.slices, scan.coils, scan.mask) == (3, 4, None)
    assert scan.notes == (("3 averages were averaged",) if averages == 3 else ())
    with open_slices(scan) as read:
        expected = data[1:2] * np.where(odd, 2, 1) if averages == 3 else data[1:2]
        np.testing.assert_allclose(read([1]).numpy(), expected, rtol=1e-5)


def test_one_volume_in_two_formats_is_taken_once(tmp_path, capsys):
    folder = tmp_path / "raw"
    folder.mkdir()
    write_scan(folder / "scan.h5", kspace()[0])
    np.save(folder / "scan.npy", kspace()[0])
    assert prep(folder, tmp_path / "store", "--acceleration", 2, "--acs-lines", 8) == 0
    assert [v.file for v in MRIManifest.load(tmp_path / "store").volumes] == ["scan.h5"]
    assert "scan.npy is left out: scan.h5 beside it has the same name" in capsys.readouterr().out


def test_fastmris_single_coil_layout_has_slices(tmp_path):
    path = write_scan(tmp_path / "a.h5", kspace(3, 1)[:, 0], attributes={"acquisition": "CORPD_FBK"})
    scan = inspect(path)
    assert (scan.slices, scan.coils) == (3, 1)


@pytest.mark.parametrize(("size", "coils"), [((64, 56), 12), ((36, 30), 4), ((30, 36), 15)])
def test_coils_last_are_named(tmp_path, size, coils):
    path = write_scan(tmp_path / "scan.h5", np.moveaxis(kspace(2, coils, size), 1, -1))
    with pytest.raises(UsageError, match=r"coils seem to come last.*moveaxis"):
        inspect(path)


@pytest.mark.parametrize(("swapped", "level"), [(True, 0.0), (False, 0.0), (False, 0.3)])
def test_slices_in_the_place_of_coils_are_suspected(tmp_path, capsys, swapped, level):
    """And noise, whose level is known, is not."""
    rng = np.random.default_rng(1)
    y, x = np.meshgrid(np.linspace(-1, 1, SIZE[0]), np.linspace(-1, 1, SIZE[1]), indexing="ij")
    discs = [(x - a) ** 2 + (y - b) ** 2 < 0.1 for a, b in rng.uniform(-0.5, 0.5, (60, 2))]
    images = np.stack([np.sum(discs[s::6], 0) for s in range(6)]) + 0.5 * (
        (x / 0.7) ** 2 + (y / 0.8) ** 2 < 1
    )
    angle = 2 * np.pi * np.arange(8)[:, None, None] / 8
    maps = np.exp(-((x - np.cos(angle)) ** 2 + (y - np.sin(angle)) ** 2) / 1.6 + 1j * angle)
    data = centred_fft(images[:, None] * maps)
    data = (data + (1e-3 + level) * noise(rng, *data.shape)).astype(np.complex64)
    path = tmp_path / "scan.npy"
    np.save(path, data.swapaxes(0, 1) if swapped else data)
    more = ["--acceleration", 2, "--acs-lines", 10]
    assert prep(path, tmp_path / "store", "--virtual-coils", 0, *more) == 0
    assert ("are the axes (slices, coils, H, W)?" in capsys.readouterr().out) == swapped
    (volume,) = MRIManifest.load(tmp_path / "store").volumes
    assert level == 0 or volume.slices[0].mismatch > 0.15
    out = ["--solver", "zero-filled", "--kernel-width", 4, "--out", tmp_path / "out"]
    assert run([str(a) for a in ("reconstruct", path, *more, *out)]) == 0
    assert ("are the axes (slices, coils, H, W)?" in capsys.readouterr().out) == swapped


@pytest.mark.parametrize("kind", ["c16", ">c8", "f2 pairs", "last axis", "compressed"])
def test_complex_numbers_of_every_kind(tmp_path, kind):
    data = kspace()
    pairs = np.stack([data.real, data.imag], -1)
    stored = {
        "c16": data.astype(np.complex128),
        ">c8": data.astype(">c8"),
        "f2 pairs": np.rec.fromarrays([pairs[..., 0].astype("f2"), pairs[..., 1].astype("f2")], names="r,i"),
        "last axis": pairs,
        "compressed": data,
    }[kind]
    with h5py.File(tmp_path / "scan.H5", "w") as file:
        more = {"compression": "gzip", "chunks": (1, 2, 9, 10)} if kind == "compressed" else {}
        file.create_dataset("kspace", data=stored, **more)
    scan = inspect(tmp_path / "scan.H5")
    with open_slices(scan) as read:
        found = read([0, 2]).numpy()
    np.testing.assert_allclose(
        found, data[[0, 2]], rtol=0, atol=1e-3 * abs(data).max() * (kind == "f2 pairs")
    )


def test_coils_in_the_place_of_h_are_named(tmp_path):
    from scipy.io import savemat

    savemat(tmp_path / "scan.mat", {"kspace": kspace()[0]})
    with pytest.raises(UsageError, match=r"seems to stand where H is.*in MATLAB \(H, W, coils\)"):
        inspect(tmp_path / "scan.mat")


def test_large_values_do_not_move_the_centre(tmp_path):
    path = tmp_path / "scan.npy"
    np.save(path, kspace() * np.complex64(1e30))
    assert inspect(path).mask is None


@pytest.mark.parametrize("ending", ["h5", "npy", "npz", "mat", "dat", "cfl"])
def test_empty_files_are_called_empty(tmp_path, ending):
    (tmp_path / f"scan.{ending}").touch()
    (tmp_path / "scan.hdr").write_text("# Dimensions\n1 1\n")
    with pytest.raises(UsageError, match="is empty; copy the file again"):
        inspect(tmp_path / f"scan.{ending}")


@pytest.mark.parametrize("endings", ["CFL HDR", "cfl hdr"])
def test_pairs_of_bart_are_named_by_either_file_or_by_none(tmp_path, endings):
    from mrigen.prep.readers.bart import write_cfl

    write_cfl(tmp_path / "scan.cfl", kspace()[0].transpose(1, 2, 0)[:, :, None])
    data, header = endings.split()
    (tmp_path / "scan.cfl").rename(tmp_path / f"scan.{data}")
    (tmp_path / "scan.hdr").rename(tmp_path / f"scan.{header}")
    names = [f"scan.{data}", f"scan.{header}", *(["scan"] if data == "cfl" else [])]
    for name in names:
        out = tmp_path / name.replace(".", "-")
        assert prep(tmp_path / name, f"{out}-store", "--acceleration", 2, "--acs-lines", 8) == 0


def test_a_filter_that_is_missing_is_named(tmp_path):
    data = kspace()
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((1, *data.shape[1:]))
        plist.set_filter(32026, h5py.h5z.FLAG_OPTIONAL)
        kind = h5py.h5t.py_create(data.dtype, logical=True)
        made = h5py.h5d.create(file.id, b"kspace", kind, h5py.h5s.create_simple(data.shape), plist)
        for i, one in enumerate(data):
            made.write_direct_chunk((i, 0, 0, 0), one.tobytes(), 0)
    if h5py.h5z.filter_avail(32026):
        pytest.skip("hdf5plugin is loaded")
    with pytest.raises(
        UsageError, match=r"compressed with Blosc2 \(HDF5 filter 32026\).*pip install hdf5plugin"
    ):
        inspect(tmp_path / "scan.h5")


def test_files_of_one_subject_come_into_one_part(tmp_path, capsys):
    names = [f"{subject:03d}_T20{n}" for subject in range(8) for n in (1, 2, 3)]
    options = Options(split="train=0.5,test=0.5", group=r"^[^_]+")
    parts = {name: options.part(name) for name in names}
    for subject in range(8):
        assert len({parts[f"{subject:03d}_T20{n}"] for n in (1, 2, 3)}) == 1
    assert set(parts.values()) == {"train", "test"}
    plain = Options(split="train=0.5,test=0.5")
    assert {plain.part(n, "one") for n in names} == {plain.part("one")}
    with pytest.raises(UsageError, match="finds no subject"):
        Options(group="^x").part("a")
    for name in names[:6]:
        write_scan(tmp_path / f"{name}.h5", kspace(1))
    more = ["--acceleration", "2", "--acs-lines", "8", "--split", "train=0.5,test=0.5"]
    assert prep(tmp_path, tmp_path / "store", *more) == 0
    assert "say what names the subject" in capsys.readouterr().out
    assert prep(tmp_path, tmp_path / "grouped", *more, "--group", "^[^_]+") in {0, 2}
    assert "say what names the subject" not in capsys.readouterr().out
