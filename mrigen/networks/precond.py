"""Preconditioning: from a raw network F to a denoiser D(x, σ) (EDM, Karras et al. 2022, table 1)."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor, nn

from mrigen.networks.base import Network
from mrigen.registry import Params, Registry

PRECONDITIONERS: Registry[Preconditioner] = Registry("preconditioning", "mrigen.networks")


class Preconditioner(nn.Module):
    """D(x, σ) = c_skip x + c_out F(c_in x, c_noise), called as ``model(x, sigma, labels, augment)``.

    All input channels are scaled by c_in, conditioning channels included, as in the released
    Ambient models; c_skip takes the first ``out_channels`` input channels.

    Args:
        params: constants of the preconditioning.
        network: F.
    """

    Params: ClassVar[type[Params]]

    def __init__(self, params: Params, network: Network) -> None:
        super().__init__()
        self.params = params
        self.network = network

    @abstractmethod
    def coefficients(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """c_skip, c_out, c_in, c_noise at σ, each (B,)."""

    def forward(
        self, x: Tensor, sigma: Tensor, class_labels: Tensor | None = None, augment_labels: Tensor | None = None
    ) -> Tensor:
        """Denoised float32 (B, out_channels, H, W) of x (B, in_channels, H, W) at σ (B,) or scalar."""
        x = x.float()
        sigma = sigma.float().reshape(-1).expand(len(x))
        skip, out, scale, noise = self.coefficients(sigma)
        raw = self.network(image(scale) * x, noise, class_labels, augment_labels)
        return image(skip) * x[:, : raw.shape[1]] + image(out) * raw.float()


def image(coefficient: Tensor) -> Tensor:
    """(B,) to (B, 1, 1, 1)."""
    return coefficient.reshape(-1, 1, 1, 1)


class EDMParams(Params):
    """Constants of EDM's preconditioning.

    Attributes:
        sigma_data: standard deviation of the data.
    """

    sigma_data: Annotated[float, Field(gt=0)] = 0.5


@PRECONDITIONERS.register("edm")
class EDM(Preconditioner):
    """c_skip = σ_d²/(σ²+σ_d²), c_out = σσ_d/√(σ²+σ_d²), c_in = 1/√(σ²+σ_d²), c_noise = ln(σ)/4."""

    Params = EDMParams
    params: EDMParams

    def coefficients(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """EDM, table 1, last column."""
        data = self.params.sigma_data
        total = sigma**2 + data**2
        return data**2 / total, sigma * data / total.sqrt(), 1 / total.sqrt(), sigma.log() / 4
