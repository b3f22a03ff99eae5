"""Whose samples have the spread of the posterior, where mean and covariance are known: Gaussian images.

    python -m benchmarks.posterior

Images of six pixels with a random covariance, four measurements of them with noise, and the exact denoiser,
so that all that is wrong is the solver. Samples are whitened by the posterior: their standard deviation along
the direction where it is least and where it is most, in units of the posterior's (1 and 1 are right), the
distance of their mean from the posterior's in its standard deviations per pixel, and the root mean square
error of the mean of many samples, with the posterior's spread, over the standard deviation that they claim.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

import torch
from benchmarks.arguments import new_file, positive, several
from torch import Tensor

from mrigen.diffusion.objectives import OBJECTIVES
from mrigen.files import write_json
from mrigen.inverse import SOLVERS, Task, TeacherPrior
from mrigen.operators import Measurements
from mrigen.operators.base import LinearOperator
from mrigen.operators.corruption import make_corruption

SHAPE, PIXELS, MEASURED = (1, 2, 3), 6, 4
ROUNDING = 1e-6
SOLVERS_COMPARED = [
    "mmps:steps=10",
    "mmps",
    "mmps:steps=30,covariance=jacobian",
    "mmps:covariance=jacobian",
    "mmps:steps=300,covariance=jacobian",
    "dds",
    "dds:spread=0",
    "langevin",
    "langevin:inner=20",
    "dps",
    "dps:guidance=0.3",
    "pnp",
]


@dataclass(frozen=True, eq=False)
class Dense(LinearOperator):
    """A as a matrix (1, m, n), the same for every sample."""

    matrix: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """A x."""
        return x.flatten(1) @ self.matrix[0].T

    def adjoint(self, y: Tensor) -> Tensor:
        """Aᵀ y."""
        return (y @ self.matrix[0]).unflatten(1, SHAPE)

    def zero_image(self) -> Tensor:
        """Zeros (1, C, H, W)."""
        return self.matrix.new_zeros(1, *SHAPE)


class Problem:
    """y = A x + σ ε with x ~ N(0, C), and its posterior.

    Args:
        sigma: σ.
    """

    def __init__(self, sigma: float) -> None:
        random = torch.Generator().manual_seed(0)
        root = torch.randn(PIXELS, PIXELS, dtype=torch.float64, generator=random)
        self.covariance = root @ root.T / PIXELS / 4
        self.A = torch.randn(MEASURED, PIXELS, dtype=torch.float64, generator=random) / 2
        x = torch.linalg.cholesky(self.covariance) @ torch.randn(
            PIXELS, dtype=torch.float64, generator=random
        )
        self.y = self.A @ x + sigma * torch.randn(MEASURED, dtype=torch.float64, generator=random)
        self.sigma = sigma
        spread = self.A @ self.covariance @ self.A.T + sigma**2 * torch.eye(MEASURED, dtype=torch.float64)
        gain = torch.linalg.solve(spread, self.A @ self.covariance).T
        self.mean, self.posterior = gain @ self.y, self.covariance - gain @ self.A @ self.covariance

    def denoiser(self, x: Tensor, sigma: Tensor, *others: Any) -> Tensor:
        """E[x₀ | x₀ + σ ε]."""
        del others
        level = sigma.double()[:, None, None] ** 2 * torch.eye(PIXELS, dtype=torch.float64)
        weights = torch.linalg.solve(self.covariance + level, x.double().flatten(1)[..., None])
        return (self.covariance @ weights).view_as(x)

    def samples(self, words: str, count: int) -> Tensor:
        """Samples of a solver, (count, pixels)."""
        law = make_corruption({"name": "identity"}, SHAPE)
        prior = TeacherPrior(
            self.denoiser, OBJECTIVES.build({"name": "standard"}, corruption=law), lambda _: law
        )
        level = torch.full((count,), self.sigma, dtype=torch.float64)
        data = Measurements(self.y.expand(count, -1), Dense(self.A[None]), level)
        solver = SOLVERS.build(SOLVERS.parse(words))
        return solver.solve(Task(data, list(range(count)), prior)).image.double().flatten(1)

    def judged(self, samples: Tensor) -> dict[str, float]:
        """Least and largest spread, bias, and error over claimed standard deviation."""
        whiten = torch.linalg.inv(torch.linalg.cholesky(self.posterior))
        covariance, off = torch.cov(samples.T), samples.mean(0) - self.mean
        spread = torch.linalg.eigvalsh(whiten @ covariance @ whiten.T).clamp(min=0).sqrt()
        error = off.square().sum() + self.posterior.trace()
        return {
            "least": float(spread[0]),
            "most": float(spread[-1]),
            "bias": float((whiten @ off).norm() / PIXELS**0.5),
            "error_over_deviation": float((error / covariance.trace()).sqrt()),
        }


def shown(value: float) -> str:
    """Two digits; ratios to a spread that is only rounding are infinite."""
    return f"{value:.2f}" if value < 1 / ROUNDING else "∞"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sigma", type=positive, nargs="+", default=[0.3, 0.05])
    parser.add_argument("--samples", type=several, default=1000)
    parser.add_argument("--json", type=new_file)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for sigma in options.sigma:
        problem = Problem(sigma)
        print(f"\nσ = {sigma:g}\n\n| solver | least | most | bias | error / deviation |\n{'|---' * 5}|")
        for words in SOLVERS_COMPARED:
            row = problem.judged(problem.samples(words, options.samples))
            rows.append({"sigma": sigma, "solver": words, **row})
            print(f"| `{words}` | {' | '.join(map(shown, row.values()))} |", flush=True)
    if options.json:
        write_json(options.json, rows)


if __name__ == "__main__":
    main()
