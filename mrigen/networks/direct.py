"""A denoiser that is the network itself, for networks that do not see all of the image."""

from __future__ import annotations

from torch import Tensor

from mrigen.networks.base import Network
from mrigen.networks.precond import PRECONDITIONERS, Positive, Preconditioner
from mrigen.registry import Params


class DirectParams(Params):
    """Constants of the input's scale.

    Attributes:
        sigma_data: standard deviation of the data.
    """

    sigma_data: Positive = 0.5


@PRECONDITIONERS.register("direct")
class Direct(Preconditioner):
    """D(x, σ) = F(x / √(σ² + σ_d²), ln(σ)/4): c_skip = 0, c_out = 1, input and noise label as EDM.

    EDM's c_out tends to σ for small σ, because the noisy image is then known almost exactly. Of a pixel that
    a mask hides nothing is known at any σ, so that F would have to be of the order 1/σ there. Convolutional
    networks learn that in a long training; small networks on small masked images learn faster without.
    """

    Params = DirectParams
    params: DirectParams

    def __init__(self, params: DirectParams, network: Network) -> None:
        super().__init__(params, network)

    def coefficients(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """0, 1, and the scale and label of EDM's table 1."""
        scale = (sigma**2 + self.params.sigma_data**2).rsqrt()
        return sigma.new_zeros(sigma.shape), sigma.new_ones(sigma.shape), scale, sigma.log() / 4
