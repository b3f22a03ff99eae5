"""Inverse problems with matrices, whose solutions linear algebra knows."""

from dataclasses import dataclass

import gaussians
import torch
from torch import Tensor

from mrigen.inverse import GeneratorPrior, Task, TeacherPrior
from mrigen.operators import Measurements
from mrigen.operators.base import LinearOperator

SHAPE = (1, 2, 3)
N = 6
COV = gaussians.covariance(N, seed=3)
SIGMA = 0.3


@dataclass(frozen=True, eq=False)
class Dense(LinearOperator):
    """A given as matrices (B or 1, m, n)."""

    matrix: Tensor

    def forward(self, x):
        return torch.einsum("bmn,bn->bm", self.matrix.expand(len(x), -1, -1), x.flatten(1))

    def adjoint(self, y):
        matrix = self.matrix.mH.expand(len(y), -1, -1)
        return torch.einsum("bnm,bm->bn", matrix, y).unflatten(1, SHAPE)

    def zero_image(self):
        return self.matrix.new_zeros(len(self.matrix), *SHAPE)


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


A = random(4, N, seed=1) / 2
Y = random(4, seed=2)


def posterior(A=A, y=Y, sigma=SIGMA, cov=COV):
    """Mean and covariance of x ~ N(0, cov) given y = A x + sigma eps, in float64."""
    gain = cov @ A.T @ torch.linalg.inv(A @ cov @ A.T + sigma**2 * torch.eye(len(A), dtype=A.dtype))
    return gain @ y, cov - gain @ A @ cov


def task(prior=None, images=1, sigma=SIGMA, A=A, y=Y):
    data = Measurements(
        y.expand(images, -1), Dense(A[None]), torch.full((images,), sigma, dtype=torch.float64)
    )
    return Task(data, list(range(images)), prior)


def teacher(cov=COV):
    """The exact denoiser of N(0, cov)."""
    objective = gaussians.objective("standard", gaussians.denoising(SHAPE))
    return TeacherPrior(gaussians.exact(cov), objective, lambda _: gaussians.denoising(SHAPE))


class LinearGenerator(torch.nn.Module):
    """G(z) = L z with L Lᵀ = cov."""

    def __init__(self, cov=COV):
        super().__init__()
        self.root = torch.nn.Parameter(torch.linalg.cholesky(cov))

    def forward(self, z, *, objective=None, further=None):
        return (z.flatten(1) @ self.root.T).view_as(z)


def generator(cov=COV):
    return GeneratorPrior(LinearGenerator(cov).requires_grad_(False))
