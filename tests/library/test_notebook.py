"""The whole chain as a notebook has it, in memory: k-space to coil maps, teacher, generator, distance."""

import re
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from sigpy.mri import birdcage_maps

import mrigen as mg
from mrigen.checkpoints.description import read_description

SIZE, SLICES = 32, 8
COIL_MAPS = torch.from_numpy(birdcage_maps((4, SIZE, SIZE)).astype(np.complex64))
NETWORK = {
    "name": "song-unet",
    "model_channels": 8,
    "channel_mult": [1],
    "num_blocks": 1,
    "attn_resolutions": [],
}
FAST = {"lr": 1e-3, "betas": [0.0, 0.999]}
DISTILL = {"images": 8, "batch": 4, "generator": FAST, "fake": FAST, "device": "cpu"}


@pytest.fixture(scope="module")
def heads():
    """Discs of random size and brightness, complex (n, 1, H, W)."""
    rng = torch.Generator().manual_seed(0)
    grid = torch.linspace(-1, 1, SIZE)
    radius = torch.hypot(grid[:, None], grid[None])
    sizes = 0.4 + 0.4 * torch.rand(SLICES, 1, 1, 1, generator=rng)
    return (torch.sigmoid(20 * (sizes - radius)) * (0.5 + sizes)).to(torch.complex64)


@pytest.fixture(scope="module")
def store(heads):
    """Undersampled k-space of four coils, with ESPIRiT's maps of its own centre."""
    kspace = mg.fft(COIL_MAPS * heads)
    maps = mg.espirit(kspace, calib_width=8, kernel_width=3)
    mask = mg.masks.exact_random(width=SIZE, acceleration=2, acs_lines=8, seed=0)
    law = {"name": "exact-random", "acceleration": 2, "acs_lines": 8}
    return mg.TensorStore(kspace * mask, maps, mask, mask_distribution=law)


@pytest.fixture(scope="module")
def teacher(store):
    return mg.train(store, objective="ambient", images=16, batch=4, network=NETWORK, device="cpu")


def test_the_whole_chain(store, teacher, heads):
    data = store.measurements([0, 1])
    sense = mg.reconstruct(data, solver="cg-sense", steps=30)
    brightness = COIL_MAPS.abs().square().sum(0).sqrt()  # ESPIRiT's maps have sum of squares 1
    truth = heads[:2].abs() * brightness
    assert (sense.abs() - truth).norm() < 0.1 * truth.norm()
    posterior = mg.reconstruct(data, solver="dds", model=teacher, samples=2, seed=0, steps=4)
    assert posterior.shape == (2, 2, 1, SIZE, SIZE)
    assert not torch.equal(posterior[:, 0], posterior[:, 1])
    student = mg.distill(teacher, store, loss="sid", **DISTILL)
    images = student.sample(12, seed=0)
    assert images.shape == (12, 1, SIZE, SIZE)
    assert images.is_complex()
    assert mg.metrics.frechet(images, heads, features="pixels") > 0


def test_the_readme_runs(heads, tmp_path, monkeypatch):
    """Its Python, line by line, with fewer images and steps and a small network."""
    text = (Path(__file__).parents[2] / "README.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    few = {"images": 4, "batch": 4, "device": "cpu"}
    fewer = {"train": {**few, "network": NETWORK}, "distill": few, "reconstruct": {"steps": 4}}
    for name, less in fewer.items():
        real = getattr(mg, name)
        tiny = partial(lambda run, over, *given, **named: run(*given, **{**named, **over}), real, less)
        monkeypatch.setattr(mg, name, tiny, raising=False)
    monkeypatch.chdir(tmp_path)
    size = (SIZE, 4 * SIZE)  # lines enough for the README's acceleration
    wide = torch.nn.functional.interpolate(heads[:2].real, size, mode="bilinear").to(torch.complex64)
    maps = torch.from_numpy(birdcage_maps((4, *size)).astype(np.complex64))
    with h5py.File("scan.h5", "w") as file:
        file["kspace"] = mg.fft(maps * wide).numpy()
    names = {"reference": wide}
    exec(compile(code, "README.md", "exec"), names)
    assert names["posterior"].shape == (2, 8, 1, *size)
    assert names["student"].role == "generator"
    assert names["distance"] > 0


@pytest.mark.parametrize("factor", [1e-5, 1e4])
def test_images_in_units_of_a_scanner_are_refused(store, factor):
    """Noise levels belong to images of about 1; the message says what to divide by."""
    raw = mg.TensorStore(factor * store.y, store.maps, store.masks)
    with pytest.raises(mg.UsageError, match="of about 1; divide y and sigma") as raised:
        mg.train(raw, images=4, network=NETWORK, device="cpu")
    by = float(str(raised.value).split()[-1])
    assert 0.1 < by / factor < 3


def test_kspace_of_a_file_has_zeros_where_its_mask_says(heads, tmp_path):
    kspace = mg.fft(COIL_MAPS * heads).numpy()
    mask = np.arange(SIZE) % 2 == 0
    mask[SIZE // 2 - 4 : SIZE // 2 + 4] = True
    np.savez(tmp_path / "scan.npz", kspace=kspace, mask=mask)
    read = mg.read_kspace(tmp_path / "scan.npz")
    assert np.array_equal(read.numpy(), kspace * mask)


def test_an_image_depends_on_its_seed_alone(store, teacher):
    sampler = {"name": "heun", "steps": 2}
    several = teacher.sample(3, seed=5, sampler=sampler, store=store, batch=2)
    one = teacher.sample(1, seed=7, sampler=sampler, store=store)
    torch.testing.assert_close(several[2:], one)


def test_denoise_looks_through_further_masks(store, teacher, heads):
    """Without Ã everything is seen; with it, what Ã leaves of the noisy image is what decides."""
    further = store.measurements([0, 1]).operator
    noisy = heads[:2] + 0.3
    with torch.no_grad():
        free, masked = teacher.denoise(noisy, 0.5), teacher.denoise(noisy, 0.5, further)
        level = torch.tensor([0.5, 0.5])
        assert torch.equal(free, teacher.denoiser(noisy, level))
        assert torch.equal(masked, teacher.denoiser(further.normal(noisy), level, further))
    assert not torch.equal(free, masked)


def test_a_run_folder_is_continued_and_kept(store, tmp_path):
    """The same call returns the finished model; other settings and other data are refused."""
    settings = {"batch": 4, "network": NETWORK, "device": "cpu", "out": tmp_path}
    steps, snapshots = [], {}
    keep = {"on_step": steps.append, "snapshot_images": 4}
    first = mg.train(
        store, images=8, on_snapshot=lambda n, model: snapshots.update({n: model}), **keep, **settings
    )
    assert list(snapshots) == [4, 8]
    assert snapshots[8].role == "teacher"
    assert snapshots[4].description.provenance["snapshot"] == {"images": 4, "of": 8}
    assert [step["images"] for step in steps] == [4, 8]
    assert all(np.isfinite(step["loss"]) for step in steps)
    again = mg.train(store, images=8, **keep, **settings)
    assert len(steps) == 2
    assert again.fingerprint == first.fingerprint
    assert mg.load(tmp_path / "teacher" / "model").fingerprint == first.fingerprint
    other = mg.TensorStore(2 * store.y, store.maps, store.masks)
    for data, seed in ((other, 0), (store, 1)):
        with pytest.raises(mg.UsageError, match="other settings"):
            mg.train(data, images=8, seed=seed, snapshot_images=4, **settings)


def test_a_run_in_memory_is_that_of_a_folder(store, teacher, tmp_path):
    kept = mg.train(store, images=16, batch=4, network=NETWORK, device="cpu", out=tmp_path)
    assert teacher.folder is None
    for mine, other in zip(teacher.denoiser.parameters(), kept.denoiser.parameters(), strict=True):
        assert torch.equal(mine, other)
    saved = teacher.save(tmp_path / "saved")
    assert saved.fingerprint == kept.fingerprint == read_description(tmp_path / "saved").weights_sha256


def test_distillation_selects_and_leaves_its_teacher_alone(store, teacher):
    before = [weight.clone() for weight in teacher.denoiser.parameters()]
    numbers = []
    selection = {"every_images": 4, "samples": 4}
    student = mg.distill(teacher, store, selection=selection, on_step=numbers.append, **DISTILL)
    assert any("selection" in step for step in numbers)
    assert student.description.provenance["distilled"] == {"name": "sid"}
    assert all(map(torch.equal, before, teacher.denoiser.parameters()))
    assert not teacher.denoiser.training


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda store, _: mg.train(store, images=8, batchsize=4), "teacher.batchsize: unknown key"),
        (lambda store, _: mg.train(store, images=8, objective="ambiet"), "did you mean 'ambient'"),
        (lambda store, _: mg.train(store, images=8, loggers=["csv"]), "need a run folder"),
        (lambda _, teacher: mg.distill(teacher, images=8), "takes coil maps and masks from a store"),
        (lambda store, teacher: mg.distill(teacher, store, images=8, loss="sit"), "did you mean 'sid'"),
        (
            lambda store, teacher: mg.distill(
                teacher, store, images=8, loss={"name": "sid", "denoising_weight": 1}
            ),
            "denoising_weight leaves a teacher in out/student/denoiser: give out",
        ),
        (lambda _, teacher: teacher.sample(2), "give --maps STORE"),
        (lambda _, teacher: teacher.generator, "is a teacher"),
        (lambda _, teacher: teacher.denoise(torch.zeros(1, 1, 32, 32), 1.0), "denoises complex images"),
    ],
)
def test_mistakes_are_one_line(store, teacher, call, said):
    with pytest.raises(mg.UsageError, match=said) as raised:
        call(store, teacher)
    assert "\n" not in str(raised.value)
