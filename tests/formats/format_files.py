"""One small volume, written in every format by the format's own writer where there is one."""

from __future__ import annotations

import struct
from pathlib import Path

import h5py
import numpy as np
import torch
from sigpy.mri import birdcage_maps

from mrigen import fourier
from mrigen.prep import ismrmrd as header_xml
from mrigen.prep.readers.bart import write_cfl

SLICES, COILS, HEIGHT, WIDTH = 3, 4, 32, 28
FOV, THICKNESS = (224.0, 196.0), 5.0
CENTRE = np.array([12.5, -30.0, 41.25])
ROTATIONS = {
    "axial": np.eye(3),
    "axial, readout to the back": np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1.0]]),
    "coronal": np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0.0]]),
    "coronal, readout to the head": np.array([[0, 1, 0], [0, 0, -1], [-1, 0, 0.0]]),
    "sagittal": np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0.0]]),
    "sagittal, readout to the feet": np.array([[0, 0, 1], [0, 1, 0], [-1, 0, 0.0]]),
}


def rotation(x: float, y: float, z: float) -> np.ndarray:
    """Rotation matrix of Euler angles in degrees."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_euler("xyz", [x, y, z], degrees=True).as_matrix()


ROTATIONS["oblique"] = rotation(20, -15, 35)
ROTATIONS["double oblique, near coronal"] = rotation(80, 10, -25)


def image(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A complex body without symmetry, air around it."""
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    body = (((x / 0.6) ** 2 + (y / 0.7) ** 2) < 1) * (1 + 0.5 * np.cos(7 * x + y) * np.sin(5 * y))
    body[: height // 3, : width // 3] *= 2
    return (body * np.exp(1j * (0.4 * x + 0.3 * y))).astype(np.complex64)


def kspace(noise: float = 1e-3) -> np.ndarray:
    """Fully sampled k-space (slices, coils, H, W)."""
    maps = birdcage_maps((COILS, HEIGHT, WIDTH)).astype(np.complex64)
    images = np.stack([(1 + s) * np.roll(image(), s, 1) for s in range(SLICES)])
    clean = fourier.fft(torch.from_numpy(maps * images[:, None]))
    rng = torch.Generator().manual_seed(0)
    return (clean + noise * torch.randn(clean.shape, dtype=clean.dtype, generator=rng)).numpy()


def lines(acs: int = 10) -> np.ndarray:
    """Every third line, and the ones around DC."""
    mask = np.arange(WIDTH) % 3 == 0
    first = (WIDTH - acs + 1) // 2
    mask[first : first + acs] = True
    return mask


def header() -> header_xml.Header:
    return header_xml.Header(
        encoded_matrix=(HEIGHT, WIDTH, 1),
        recon_matrix=(HEIGHT, WIDTH, 1),
        encoded_fov=(*FOV, THICKNESS),
        recon_fov=(*FOV, THICKNESS),
        centre=WIDTH // 2,
        maximum=WIDTH - 1,
        field_strength=3.0,
        tr_ms=500.0,
        te_ms=10.0,
        ti_ms=0.0,
        flip_angle_deg=70.0,
    )


def fastmri(folder: Path, k: np.ndarray, mask: np.ndarray | None = None) -> Path:
    path = folder / "scan.h5"
    with h5py.File(path, "w") as file:
        file["kspace"] = k
        file["ismrmrd_header"] = header_xml.write(header(), {})
        file.attrs["acquisition"] = "AXT2"
        if mask is not None:
            file["mask"] = mask
    return path


def npz(folder: Path, k: np.ndarray, mask: np.ndarray | None = None) -> Path:
    path = folder / "scan.npz"
    np.savez(path, kspace=k, **({} if mask is None else {"mask": mask}))
    return path


def npy(folder: Path, k: np.ndarray, mask: np.ndarray | None = None) -> Path:
    del mask
    np.save(folder / "scan.npy", k)
    return folder / "scan.npy"


def bart(folder: Path, k: np.ndarray, mask: np.ndarray | None = None) -> Path:
    del mask
    full = np.zeros((HEIGHT, WIDTH, 1, COILS, *[1] * 9, len(k)), np.complex64)
    full[:, :, 0, :, 0, 0, 0, 0, 0, 0, 0, 0, 0, :] = k.transpose(2, 3, 1, 0)
    write_cfl(folder / "scan.cfl", full)
    return folder / "scan.cfl"


def matlab5(folder: Path, k: np.ndarray, mask: np.ndarray | None = None) -> Path:
    from scipy.io import savemat

    path = folder / "scan.mat"
    savemat(path, {"kspace": k.transpose(2, 3, 1, 0), **({} if mask is None else {"mask": mask})})
    return path


def matlab73(folder: Path, k: np.ndarray, mask: np.ndarray | None = None, name: str = "kspace_full") -> Path:
    """As MATLAB writes version 7.3: reversed axes, compound numbers, 512 bytes of text in front."""
    del mask
    path = folder / "scan.mat"
    stored = np.ascontiguousarray(k.swapaxes(-1, -2))  # (slices, coils, ky, kx)
    pairs = np.zeros(stored.shape, [("real", "<f4"), ("imag", "<f4")])
    pairs["real"], pairs["imag"] = stored.real, stored.imag
    with h5py.File(path, "w", userblock_size=512) as file:
        file[name] = pairs
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
    return path


def mrd(
    folder: Path,
    k: np.ndarray,
    mask: np.ndarray | None = None,
    *,
    directions: np.ndarray = ROTATIONS["axial"],
    gap: float = 1.5,
    order: list[int] | None = None,
    noise: np.ndarray | None = None,
    more=None,
    xml: bytes | None = None,
) -> Path:
    """By the ismrmrd package; ``more(dataset, acquisition)`` adds lines before the image's.

    Args:
        directions: rows are the directions of readout, phase encode and slice.
        noise: samples (coils, n) of a noise scan with twice the image's dwell time.
    """
    import ismrmrd

    path = folder / "scan.mrd"
    dataset = ismrmrd.Dataset(str(path), "dataset", create_if_needed=True)
    dataset.write_xml_header(xml or header_xml.write(header(), {}))

    def acquisition(data, line=0, number=0, **fields):
        one = ismrmrd.Acquisition.from_array(np.ascontiguousarray(data, np.complex64))
        one.idx.kspace_encode_step_1, one.idx.slice = line, number
        for name, value in fields.items():
            setattr(one.idx if hasattr(one.idx, name) else one, name, value)
        one.center_sample = fields.get("center_sample", data.shape[1] // 2)
        one.sample_time_us = fields.get("sample_time_us", 5.0)
        one.read_dir[:], one.phase_dir[:], one.slice_dir[:] = directions
        one.position[:] = CENTRE + number * (THICKNESS + gap) * directions[2]
        return one

    if noise is not None:
        one = acquisition(noise, sample_time_us=10.0)
        one.set_flag(ismrmrd.ACQ_IS_NOISE_MEASUREMENT)
        dataset.append_acquisition(one)
    if more is not None:
        more(dataset, acquisition)
    for number in order or range(len(k)):
        for line in range(k.shape[-1]):
            if mask is None or mask[line]:
                dataset.append_acquisition(acquisition(k[number, :, :, line], line, number))
    dataset.close()
    return path


def siemens(  # noqa: C901
    folder: Path,
    k: np.ndarray,
    mask: np.ndarray | None = None,
    *,
    directions: np.ndarray = ROTATIONS["axial"],
) -> Path:
    """A measurement of VD/VE layout by twixtools' blocks, with a phase correction line and a noise scan."""
    from scipy.spatial.transform import Rotation
    from twixtools.mdb import Mdb_local

    path = folder / "scan.dat"
    columns = np.stack([directions[1], directions[0], directions[2]], axis=1)
    columns[:, 2] *= np.sign(np.linalg.det(columns))
    quaternion = Rotation.from_matrix(columns).as_quat(scalar_first=True)
    protocol = {
        "sKSpace.lBaseResolution": HEIGHT,
        "sKSpace.lPhaseEncodingLines": WIDTH,
        "sKSpace.lPartitions": 1,
        "sKSpace.ucDimension": "0x2",
        "sSliceArray.lSize": len(k),
        "sSliceArray.asSlice[0].dThickness": THICKNESS,
        "sSliceArray.asSlice[0].dReadoutFOV": FOV[0],
        "sSliceArray.asSlice[0].dPhaseFOV": FOV[1],
        "sRXSPEC.alDwellTime[0]": 5000,
    }
    text = (
        "### ASCCONV BEGIN ###\n"
        + "".join(f"{n} = {v}\n" for n, v in protocol.items())
        + "### ASCCONV END ###\n"
    )
    buffers = [
        ("Config", ""),
        ("Dicom", ""),
        ("Meas", ""),
        ("MeasYaps", text),
        ("Phoenix", ""),
        ("Spice", ""),
    ]
    body = struct.pack("<I", len(buffers))
    for name, content in buffers:
        raw = content.encode() + b"\0"
        body += name.encode() + b"\0" + struct.pack("<I", len(raw)) + raw
    body += bytes(-(len(body) + 4) % 32)
    blocks = []

    def block(data, line=0, number=0, *flags):
        one = Mdb_local(np.asarray(data, np.complex64))
        one.mdh.Counter.Lin, one.mdh.Counter.Sli = line, number
        one.mdh.CenterCol, one.mdh.CenterLin = HEIGHT // 2, WIDTH // 2
        for i, value in enumerate(quaternion):
            one.mdh.SliceData.Quaternion[i] = value
        place = CENTRE + number * THICKNESS * columns[:, 2]
        for axis, value in zip(("Sag", "Cor", "Tra"), place, strict=True):
            setattr(one.mdh.SliceData.SlicePos, axis, value)
        for flag in flags:
            one.add_flag(flag)
        blocks.append(one)

    block(99 * np.ones((COILS, HEIGHT)), 3, 0, "PHASCOR")
    for number in range(len(k)):
        for line in range(k.shape[-1]):
            if mask is None or mask[line]:
                block(k[number, :, :, line], line, number)
    end = Mdb_local()
    end.add_flag("ACQEND")
    with path.open("wb") as file:
        file.write(bytes(10240))
        file.write(struct.pack("<I", len(body) + 4) + body)
        for one in blocks:
            file.write(bytearray(one.mdh))
            for channel, samples in zip(one.channel_hdr, one.data, strict=True):
                file.write(bytearray(channel))
                file.write(samples.tobytes())
        file.write(bytearray(end.mdh) + end.data)
        length = file.tell() - 10240
        file.seek(0)
        file.write(struct.pack("<IIIIQQ", 0, 1, 1, 1, 10240, length))
    return path


def calgary(folder: Path, k: np.ndarray, mask: np.ndarray | None = None) -> Path:
    """As ``numpy.fft.fft2`` of the coil images leaves k-space, DC in the middle."""
    del mask
    images = fourier.ifft(torch.from_numpy(k)).numpy()
    stored = np.fft.fftshift(np.fft.fft2(images, norm="ortho"), axes=(-2, -1))
    stored[np.roll(k == 0, 0)] = 0
    pairs = np.zeros((len(k), HEIGHT, WIDTH, 2 * COILS), np.float32)
    pairs[..., ::2], pairs[..., 1::2] = np.moveaxis(stored.real, 1, -1), np.moveaxis(stored.imag, 1, -1)
    with h5py.File(folder / "e.h5", "w") as file:
        file["kspace"] = pairs
    return folder / "e.h5"


def skm_tea(folder: Path, k: np.ndarray, mask: np.ndarray | None = None) -> Path:
    del mask
    two = np.stack([k, 0.5 * k])  # echoes
    with h5py.File(folder / "MTR_001.h5", "w") as file:
        file["kspace"] = np.ascontiguousarray(two.transpose(1, 3, 4, 0, 2))
        file["maps"] = np.ones((len(k), HEIGHT, WIDTH, COILS, 1), np.complex64)
        file["masks/poisson_8.0x"] = np.ones((HEIGHT, WIDTH), bool)
    return folder / "MTR_001.h5"


def prostate(folder: Path, k: np.ndarray, mask: np.ndarray | None = None) -> Path:
    """Three averages: the odd lines twice, the even ones once."""
    del mask
    odd = np.arange(WIDTH) % 2 == 1
    with h5py.File(folder / "file_prostate_AXT2_001.h5", "w") as file:
        file["kspace"] = np.stack([k * odd, k * ~odd, k * odd]).astype(np.complex64)
        file["ismrmrd_header"] = header_xml.write(header(), {})
    return folder / "file_prostate_AXT2_001.h5"


WRITERS = {
    "fastmri": fastmri,
    "numpy": npz,
    "npy": npy,
    "bart": bart,
    "matlab": matlab5,
    "matlab 7.3": matlab73,
    "mrd": mrd,
    "siemens": siemens,
    "calgary-campinas": calgary,
    "skm-tea": skm_tea,
    "fastmri-prostate": prostate,
}
CHOOSE = {"skm-tea": "echo=0"}
