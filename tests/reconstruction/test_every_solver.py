"""Every solver on several operators, the training's and others: finite images that explain the data."""

import shutil
from dataclasses import replace
from unittest.mock import Mock

import h5py
import numpy as np
import phantoms
import pytest
import torch
from sigpy.mri import birdcage_maps
from torch._dynamo.backends.debugging import aot_eager

from mrigen.cli.main import run
from mrigen.errors import UsageError
from mrigen.inverse import SOLVERS, Task
from mrigen.model import Model
from mrigen.operators import Measurements, MultiCoilMRI
from mrigen.operators.corruption import make_corruption
from mrigen.operators.noise import Noise
from mrigen.reconstruction import batches, job
from mrigen.reconstruction.job import Request, solve_batch
from mrigen.reconstruction.sources import Batch, Source

SIZE, SIGMA = 16, 0.02
TRAINED = {"name": "inpainting", "missing": 0.3}
OPERATORS = {
    "inpainting": {"name": "inpainting", "missing": 0.5},
    "super-resolution": {"name": "super-resolution", "factor": 2, "restored": False},
    "blur": {"name": "gaussian-blur", "std": 1.0, "size": 5},
}
SHORT = {
    "dds": {"steps": 10},
    "dps": {"steps": 20},
    "ambient-dps": {"steps": 20},
    "mmps": {"steps": 10},
    "langevin": {"levels": 20, "inner": 3},
    "latent": {"steps": 60},
    "pnp": {"steps": 8, "latent_steps": 5},
    "l1-wavelet": {"iterations": 30},
    "total-variation": {"iterations": 30},
    "non-local-means": {"steps": 5},
}


@pytest.fixture(scope="module")
def priors(tmp_path_factory):
    """Untrained networks: their denoiser is nearly that of white images, their generator nearly linear."""
    folder = tmp_path_factory.mktemp("models")
    found = {}
    for kind in ("real", "complex"):
        corruption = {"operator": TRAINED, "sigma": 0.0} if kind == "real" else None
        for role in ("teacher", "generator"):
            model = phantoms.write_model(
                folder / f"{kind}-{role}",
                role=role,
                size=SIZE,
                complex_valued=kind == "complex",
                corruption=corruption,
            )
            found[kind, role] = Model.load(model).prior((1, SIZE, SIZE), complex_valued=kind == "complex")
    return found


def measured(name):
    """Two noisy measurements of a head."""
    head = torch.from_numpy(phantoms.image(SIZE)).expand(2, 1, SIZE, SIZE)
    generator = torch.Generator().manual_seed(0)
    if name != "mri":
        law = make_corruption(OPERATORS[name], (1, SIZE, SIZE), Noise(low=SIGMA))
        return law.measure(head.abs() - 0.5, generator)
    maps = torch.from_numpy(birdcage_maps((3, SIZE, SIZE)).astype(np.complex64))[None]
    mask = torch.from_numpy(phantoms.lines(SIZE, 6)).view(1, 1, 1, SIZE)
    operator = MultiCoilMRI(maps / maps.abs().square().sum(1, keepdim=True).sqrt(), mask)
    y, sigma = operator.forward(head), torch.full((2,), SIGMA)
    return Measurements(y + operator.noise(y, sigma, generator), operator, sigma)


@pytest.mark.parametrize("operator", [*OPERATORS, "mri"])
@pytest.mark.parametrize("name", SOLVERS.names())
def test_the_result_is_finite_and_explains_the_data(priors, name, operator):
    """Better than no image, and than what the solver starts from unless that fits the data already."""
    solver = SOLVERS.build({"name": name, **SHORT.get(name, {})})
    data = measured(operator)
    kind = "complex" if operator == "mri" else "real"
    for role in sorted(solver.needs) or [None]:
        task = Task(data, [1, 2], None if role is None else priors[kind, role])
        if name == "rss" and operator != "mri":
            with pytest.raises(UsageError, match="Cartesian k-space only"):
                solver.solve(task)
            continue
        found = solver.solve(task)
        assert found.image.shape == (2, 1, SIZE, SIZE)
        assert found.image.isfinite().all()
        assert found.image.is_complex() == (operator == "mri")
        assert (found.misfit < 0.9).all(), found.misfit
        energy = data.y.abs().square().flatten(1).sum(1)
        start = (task.misfit(solver.start(task).x) / energy).sqrt()
        assert ((found.misfit < start) | (start < 0.1)).all(), (found.misfit, start)


def test_priors_add_nothing_where_no_coil_sees(priors):
    """ESPIRiT's maps end with the head; a prior may put another head into the corner."""
    data = measured("mri")
    maps = data.operator.maps.clone()
    maps[..., :5, :5] = 0
    data = replace(data, operator=MultiCoilMRI(maps, data.operator.mask))
    batch = Batch([0, 1], data, torch.ones(2))
    solver, request = SOLVERS.build({"name": "dds", **SHORT["dds"]}), Request(solver="dds", samples=2)
    prior = priors["complex", "teacher"]
    images, _, _ = solve_batch(solver, batch, prior, request, torch.device("cpu"), lambda *_: None)
    assert (images[..., :5, :5] == 0).all()
    assert (images[..., 5:, 5:] != 0).all()


def test_a_smaller_batch_is_filled_up_and_what_was_added_is_dropped(priors, monkeypatch):
    """On a GPU every batch has one size, so that nothing is compiled again; results are those of each."""
    batch = Batch([3, 4], measured("mri"), torch.ones(2))
    solver, prior = SOLVERS.build({"name": "dds", **SHORT["dds"]}), priors["complex", "teacher"]
    request, cpu, sizes, told = Request(solver="dds", samples=3, batch=4), torch.device("cpu"), [], []

    def solved():
        return solve_batch(solver, batch, prior, request, cpu, lambda n, _: told.append(n), 2)

    expected, usual = solved(), sum(told)

    def always(chunk, size, device):
        filled_up = batches.filled(chunk, size, torch.device("cuda"))
        sizes.append((len(chunk), len(filled_up)))
        return filled_up

    monkeypatch.setattr(job, "filled", always)
    for found, reference in zip(solved(), expected, strict=True):
        assert found.shape == reference.shape == (2, 3, *found.shape[2:])
        torch.testing.assert_close(found, reference, rtol=1e-4, atol=1e-5)
    assert sizes == [(4, 4), (2, 4)]
    assert sum(told) == 2 * usual
    assert batches.filled([1, 2], 4, cpu) == [1, 2]


@pytest.mark.parametrize(
    ("slices", "samples", "fitting", "expected"),
    [(130, 1, 64, 44), (10, 8, 64, 40), (3, 8, 64, 24), (2, 70, 64, 35), (5, 1, 64, 5)],
)
def test_batches_on_a_gpu_are_as_equal_as_possible(slices, samples, fitting, expected, monkeypatch):
    monkeypatch.setattr(batches, "batch_that_fits", lambda *_, **__: fitting)
    source = Mock(spec=Source, shape=(1, 8, 8), __len__=lambda _: slices)
    solver, model = SOLVERS.build({"name": "dds"}), Mock(description=None)
    assert batches.batch_size_for(solver, source, model, samples, torch.device("cuda")) == expected
    assert batches.batch_size_for(solver, source, model, samples, torch.device("cpu")) == fitting


def compiled_by(monkeypatch, backend):
    """Models are compiled whatever the work, by a given backend."""
    real = torch.nn.Module.compile
    monkeypatch.setattr(job, "compiles", lambda *asked: True)
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **options: real(self, backend=backend))
    torch._dynamo.reset()


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize(
    ("solver", "role"),
    [
        ("dds:steps=2", "teacher"),
        ("mmps:steps=2", "teacher"),
        ("mmps:steps=2,covariance=jacobian", "teacher"),
        ("latent:steps=2", "generator"),
    ],
)
def test_a_compiled_model_reconstructs_the_same(solver, role, measured, tmp_path, monkeypatch, request):
    """With the compiler's halves before code is generated, gradients included."""
    model, images, calls = request.getfixturevalue(role), [], []

    def backend(graph, inputs):
        calls.append(graph)
        return aot_eager(graph, inputs)

    for name in ("plain", "compiled"):
        if name == "compiled":
            compiled_by(monkeypatch, backend)
        command = ["reconstruct", measured, "--solver", solver, "--model", model, "--out", tmp_path / name]
        assert run([*map(str, command), "--device", "cpu"]) == 0
        with h5py.File(tmp_path / name / "reconstruction.h5") as file:
            images.append(file["image"][()])
    assert calls
    assert np.linalg.norm(images[0] - images[1]) < 1e-4 * np.linalg.norm(images[0])


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_reconstruction_does_without_a_compiler_that_fails(reconstruct, measured, teacher, monkeypatch):
    def backend(graph, inputs):
        raise RuntimeError("no such kernel")

    compiled_by(monkeypatch, backend)
    with pytest.warns(UserWarning, match="compile: failed .*; the network runs as it is"):
        arrays, _ = reconstruct(measured, "dds:steps=2", "--model", teacher)
    assert np.isfinite(arrays["image"]).all()
