"""Exact denoisers of Gaussian images, and corruptions of them, for tests by closed forms."""

import torch

from mrigen.diffusion.objectives import OBJECTIVES
from mrigen.operators.corruption import Corruption
from mrigen.operators.identity import Identity
from mrigen.operators.inpainting import PixelMask
from mrigen.operators.noise import Noise


def covariance(size, seed=0, rank=None):
    """A random covariance matrix of trace ``size``, float64."""
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(size, rank or size, dtype=torch.float64, generator=generator)
    matrix = root @ root.mT
    return matrix * size / matrix.trace()


def sample(cov, batch, shape, generator):
    """Images of N(0, cov), float64 (batch, *shape)."""
    values, vectors = torch.linalg.eigh(cov)
    root = vectors * values.clamp(min=0).sqrt()
    return (torch.randn(batch, len(cov), dtype=cov.dtype, generator=generator) @ root.mT).unflatten(1, shape)


def gain(cov, sigma, mask=None):
    """C M (M C M + σ² I)⁻¹ for σ (B,) and masks (B, n): the linear map of E[x | M (x + σ ε), M]."""
    n = len(cov)
    seen = torch.ones(len(sigma), n, dtype=cov.dtype) if mask is None else mask.to(cov)
    noisy = seen[:, :, None] * cov * seen[:, None]
    noisy = noisy + (sigma.to(cov) ** 2)[:, None, None] * torch.eye(n, dtype=cov.dtype)
    return torch.linalg.solve(noisy, seen[:, :, None] * cov).mT


def exact(cov):
    """E[x | M (x + σ ε), M] of images of N(0, cov) as a denoiser."""

    def denoiser(x, sigma, A_tilde=None, labels=None, augment=None):
        mask = None if A_tilde is None else A_tilde.conditioning().expand(x.shape).flatten(1)
        return torch.einsum("bij,bj->bi", gain(cov, sigma, mask).to(x.dtype), x.flatten(1)).view_as(x)

    return denoiser


def lbfgs(loss, parameters, **options):
    """Minimise ``loss()`` by one call of L-BFGS with line search."""
    optimizer = torch.optim.LBFGS(parameters, line_search_fn="strong_wolfe", **options)

    def closure():
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    optimizer.step(closure)


def second_moment(images):
    """E[x xᵀ] of flattened images."""
    flat = images.flatten(1).double()
    return flat.mT @ flat / len(flat)


class Given(Corruption):
    """The same operator for every sample."""

    def __init__(self, operator, noise=0.0, reason=""):
        self.operator, self.ambient_obstacle = operator, reason
        self.noise = noise if isinstance(noise, Noise) else Noise(low=noise)

    def draw(self, batch, generator):
        return self.operator

    def corrupt_further(self, operator, generator):
        return operator


def denoising(shape, noise=0.0):
    """A = I."""
    return Given(Identity(torch.zeros(1, *shape)), noise)


def fixed_mask(mask, shape, noise=0.0):
    """A = M for one mask, given as a flat list."""
    return Given(PixelMask(torch.tensor(mask, dtype=torch.bool).view(1, *shape), shape[0]), noise)


def objective(name, corruption, sigma=None, **constants):
    """An objective; with ``sigma``, of training at that noise level alone."""
    if sigma is not None:
        level = torch.tensor(sigma, dtype=torch.float64).log().item()
        constants["noise"] = {"p_mean": level, "p_std": 1e-9}
    return OBJECTIVES.build({"name": name, **constants}, corruption=corruption)
