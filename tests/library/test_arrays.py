"""A notebook's view: numpy arrays where tensors are, and one line for what does not fit."""

import numpy as np
import pytest
import torch

import mrigen as mg


def random(*shape):
    rng = np.random.default_rng(0)
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)


KSPACE = random(1, 4, 24, 24)
A = mg.MultiCoilMRI(random(2, 3, 12, 9), np.ones(9, bool))
IMAGES = random(2, 1, 12, 9)
DATA = mg.Measurements(A(IMAGES), A, sigma=np.float64(0.1))


@pytest.mark.parametrize(
    ("of_numpy", "of_torch"),
    [
        (lambda: mg.whiten(KSPACE), lambda: mg.whiten(torch.from_numpy(KSPACE))),
        (
            lambda: mg.whiten(KSPACE, 2 * np.eye(4)),
            lambda: 2 * torch.from_numpy(KSPACE),
        ),
        (lambda: mg.compress_coils(KSPACE, 2), lambda: mg.compress_coils(torch.from_numpy(KSPACE), 2)),
        (lambda: mg.espirit(KSPACE, 12), lambda: mg.espirit(torch.from_numpy(KSPACE), 12)),
        (lambda: mg.fft(KSPACE), lambda: mg.fft(torch.from_numpy(KSPACE))),
        (lambda: A(IMAGES), lambda: A.forward(torch.from_numpy(IMAGES))),
        (lambda: A.H(DATA.y.numpy()), lambda: A.adjoint(DATA.y)),
        (lambda: (A.H @ A)(IMAGES), lambda: A.normal(torch.from_numpy(IMAGES))),
        (lambda: A.solve(DATA.y.numpy(), iterations=3), lambda: A.solve(DATA.y, iterations=3)),
        (lambda: DATA[np.int64(1)].y, lambda: DATA.y[1:]),
        (lambda: DATA[np.array([True, False])].y, lambda: DATA.y[:1]),
    ],
)
def test_numpy_arrays_are_taken_as_tensors(of_numpy, of_torch):
    torch.testing.assert_close(of_numpy(), of_torch(), rtol=1e-4, atol=1e-4)


def test_arrays_that_cannot_be_written_to_are_copied():
    frozen = IMAGES.copy()
    frozen.flags.writeable = False
    torch.testing.assert_close(A(frozen), A(IMAGES))


REAL = KSPACE.real.copy()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mg.whiten(REAL), r"must be complex \(\.\.\., coils, H, W\), not float32"),
        (lambda: mg.whiten(KSPACE[0, 0]), "must be complex"),
        (lambda: mg.whiten(KSPACE, np.eye(3)), r"of 4 coils is \(4, 4\), not \(3, 3\)"),
        (lambda: mg.compress_coils(REAL, 2), "must be complex"),
        (lambda: mg.espirit(REAL, 12), "must be complex"),
        (lambda: mg.masks.exact_random(12.0), "12.0 is no size of a k-space"),
        (lambda: mg.masks.poisson_disc((0, 4)), "no size of a k-space"),
        (lambda: A(IMAGES[:1]), r"must be \(2, 1, 12, 9\), not \(1, 1, 12, 9\)"),
        (lambda: A(IMAGES[0, 0]), "add the leading axes"),
        (lambda: A.H(DATA.y[:1]), r"must be \(2, 3, 12, 9\), not \(1, 3, 12, 9\)"),
        (lambda: mg.Measurements(DATA.y[:1], A), r"must be \(2, 3, 12, 9\), not \(1, 3, 12, 9\)"),
        (lambda: mg.Measurements(DATA.y[..., :-1], A), "measurements of MultiCoilMRI must be"),
        (lambda: mg.Measurements(DATA.y.real, A), "are complex, not float32"),
        (lambda: mg.Measurements(DATA.y, A.maps), "need the operator that they are of"),
        (lambda: mg.masks.draw({"name": "random"}, 32), r"or draw\(shape=320, \*\*mapping\)"),
        (lambda: mg.masks.draw("random", 32, accel=4), "accel: unknown key .it has acceleration, acs_lines"),
        (lambda: mg.masks.draw("random", True), "no size of a k-space"),
        (lambda: mg.operators.make_corruption("blur", (1, 8, 8)), "give a mapping with a name"),
        (lambda: mg.Measurements(DATA.y, A, sigma=-1), "not negative"),
        (lambda: mg.Measurements(DATA.y, A, sigma=np.ones(3)), "sigma must be one number"),
        (lambda: mg.train(DATA, images=2), "give a store, .* not Measurements"),
        (lambda: mg.reconstruct(DATA.y), r"give mrigen.Measurements\(y, A, sigma\), not Tensor"),
        (lambda: mg.operators.from_sigpy("fft"), "give a sigpy.linop.Linop"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(call, message):
    with pytest.raises(mg.UsageError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_there_are_as_many_samples_as_there_are():
    assert [len(one) for one in DATA] == [1, 1]
    with pytest.raises(IndexError, match="no sample 2, there are 2"):
        DATA[2]


def test_a_model_denoises_arrays():
    mask = mg.masks.exact_random(9, 2, 3)
    store = mg.TensorStore(DATA.y.numpy().astype(complex), A.maps.numpy().astype(complex), mask)
    assert store.y.dtype == store.maps.dtype == torch.complex64  # as in files
    model = mg.train(store, images=2, batch=2, network={"name": "mlp", "hidden": 8}, device="cpu")
    with pytest.raises(mg.UsageError, match="did you mean 'mlp'"):
        mg.train(store, images=2, network="mlpp")
    x = model.denoise(IMAGES, np.array([0.1, 0.2]))
    torch.testing.assert_close(x, model.denoise(torch.from_numpy(IMAGES), torch.tensor([0.1, 0.2])))
    with pytest.raises(mg.UsageError, match=r"sigma must be one number or \(2,\)"):
        model.denoise(IMAGES, np.ones(3))
    with pytest.raises(mg.UsageError, match="not negative"):
        model.denoise(IMAGES, -1.0)
