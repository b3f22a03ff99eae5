"""Preconditioning: from a raw network F to a denoiser D(x, σ) (EDM, Karras et al. 2022, table 1)."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Annotated, ClassVar, Self

import torch
from pydantic import BaseModel, Field
from torch import Tensor, nn

from mrigen.networks.base import Network
from mrigen.registry import Params, Registry

PRECONDITIONERS: Registry[Preconditioner] = Registry(
    "preconditioning", "mrigen.networks", "mrigen.networks.Preconditioner"
)
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Steps = Annotated[int, Field(ge=2, le=100_000)]


class Preconditioner(nn.Module):
    """D(x, σ) = c_skip x + c_out F(c_in x, c_noise), called as ``model(x, sigma, labels, augment)``.

    All input channels are scaled by c_in, conditioning channels included, as in the released
    Ambient models; c_skip takes the first ``out_channels`` input channels.

    Args:
        params: constants of the preconditioning.
        network: F.

    Attributes:
        sigma_min: lowest noise level that the model supports.
        sigma_max: highest noise level, infinite where there is no bound.
        hidden: c_out of components of which nothing is seen; None where the form has none.

    Examples:
        >>> import torch
        >>> import mrigen as mg
        >>> spec = {"name": "mlp", "hidden": 8, "resolution": 4, "in_channels": 2, "out_channels": 2}
        >>> network = mg.networks.NETWORKS.build(spec)
        >>> D = mg.networks.PRECONDITIONERS.build({"name": "edm"}, network=network)
        >>> D(torch.zeros(3, 2, 4, 4), torch.tensor(0.5)).shape
        torch.Size([3, 2, 4, 4])
    """

    Params: ClassVar[type[Params]]
    sigma_min: float = 0.0
    sigma_max: float = math.inf
    hidden: float | None = None

    def __init__(self, params: BaseModel, network: Network) -> None:
        super().__init__()
        self.params = params
        self.network = network

    @abstractmethod
    def coefficients(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """c_skip, c_out, c_in, c_noise at σ, each (B,)."""

    @property
    def out_channels(self) -> int:
        """Channels of the denoised image."""
        return self.network.params.out_channels

    def round_sigma(self, sigma: Tensor) -> Tensor:
        """Nearest noise levels that the model was trained at: σ itself where they are continuous."""
        return sigma

    def nearest_level(self, sigma: float) -> float:
        """The noise level nearest to σ that the model was trained at, between the lowest and the highest."""
        within = min(max(sigma, self.sigma_min), self.sigma_max)
        return float(self.round_sigma(torch.tensor(within, dtype=torch.float64)))

    def forward(
        self,
        x: Tensor,
        sigma: Tensor,
        class_labels: Tensor | None = None,
        augment_labels: Tensor | None = None,
        project: Callable[[Tensor], Tensor] | None = None,
        *,
        encode: bool = False,
    ) -> Tensor:
        """Denoised float32 (B, out_channels, H, W) of x (B, in_channels, H, W) at σ (B,) or scalar.

        Args:
            x: image channels, then conditioning channels.
            sigma: noise levels.
            class_labels: (B, classes), or None.
            augment_labels: (B, 9), or None.
            project: P, the projection on what is seen of an image (B, out_channels, H, W): F then has the
                factor c_out P + ``hidden`` (I − P) instead of c_out; None where everything is seen.
            encode: return the features (B, c, h, w) of F's encoder instead of the denoised image.

        Raises:
            ValueError: P for a form that has no factor for hidden components.
        """
        x = x.float()
        sigma = sigma.float().reshape(-1).expand(x.shape[0])
        skip, out, scale, noise = self.coefficients(sigma)
        if encode:
            return self.network.encode(image(scale) * x, noise, class_labels, augment_labels).float()
        raw: Tensor = self.network(image(scale) * x, noise, class_labels, augment_labels)
        channels = self.out_channels
        raw = raw[:, :channels].float()
        if project is None:
            return image(skip) * x[:, :channels] + image(out) * raw
        if self.hidden is None:
            raise ValueError(f"{type(self).__name__} has no factor for hidden components: use EDM")
        with torch.autocast(x.device.type, enabled=False):
            projected = project(raw)
        return image(skip) * x[:, :channels] + image(out) * projected + self.hidden * (raw - projected)

    @classmethod
    def example(cls, network: Network) -> Self:
        """Default constants around ``network``."""
        return cls(cls.Params(), network)


def image(coefficient: Tensor) -> Tensor:
    """(B,) to (B, 1, 1, 1)."""
    return coefficient.reshape(-1, 1, 1, 1)


class EDMParams(Params):
    """Constants of EDM's preconditioning.

    Attributes:
        sigma_data: standard deviation of the data.
        sigma_min: lowest supported noise level.
        sigma_max: highest supported noise level, None for no bound.
    """

    sigma_data: Positive = 0.5
    sigma_min: NonNegative = 0.0
    sigma_max: Positive | None = None


@PRECONDITIONERS.register("edm")
class EDM(Preconditioner):
    """c_skip = σ_d²/(σ²+σ_d²), c_out = σσ_d/√(σ²+σ_d²), c_in = 1/√(σ²+σ_d²), c_noise = ln(σ)/4."""

    Params = EDMParams
    params: EDMParams

    def __init__(self, params: EDMParams, network: Network) -> None:
        super().__init__(params, network)
        self.hidden = params.sigma_data
        self.sigma_min = params.sigma_min
        self.sigma_max = math.inf if params.sigma_max is None else params.sigma_max

    def coefficients(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """EDM, table 1, last column."""
        data = self.params.sigma_data
        total = sigma**2 + data**2
        return data**2 / total, sigma * data / total.sqrt(), 1 / total.sqrt(), sigma.log() / 4


class VPParams(Params):
    """Constants of the variance-preserving process.

    Attributes:
        beta_d: extent of the noise schedule.
        beta_min: its initial slope.
        M: time steps of the original DDPM, which scale the noise label.
        epsilon_t: smallest time of training.
    """

    beta_d: Positive = 19.9
    beta_min: Positive = 0.1
    M: Steps = 1000
    epsilon_t: Annotated[float, Field(gt=0, lt=1)] = 1e-5


@PRECONDITIONERS.register("vp")
class VP(Preconditioner):
    """c_skip = 1, c_out = -σ, c_in = 1/√(σ²+1), c_noise = (M-1) t(σ).

    t is the inverse of σ(t)² = exp(β_d t²/2 + β_min t) - 1 (EDM, table 1, first column).
    """

    Params = VPParams
    params: VPParams

    def __init__(self, params: VPParams, network: Network) -> None:
        super().__init__(params, network)
        self.sigma_min, self.sigma_max = self._sigma(params.epsilon_t), self._sigma(1.0)

    def coefficients(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """EDM, table 1, first column."""
        p = self.params
        root = (p.beta_min**2 + 2 * p.beta_d * (1 + sigma**2).log()).sqrt()
        time = (root - p.beta_min) / p.beta_d
        return torch.ones_like(sigma), -sigma, 1 / (sigma**2 + 1).sqrt(), (p.M - 1) * time

    def _sigma(self, time: float) -> float:
        p = self.params
        return math.sqrt(math.expm1(0.5 * p.beta_d * time**2 + p.beta_min * time))


class VEParams(Params):
    """Constants of the variance-exploding process.

    Attributes:
        sigma_min: lowest noise level.
        sigma_max: highest noise level.
    """

    sigma_min: NonNegative = 0.02
    sigma_max: Positive = 100.0


@PRECONDITIONERS.register("ve")
class VE(Preconditioner):
    """c_skip = 1, c_out = σ, c_in = 1, c_noise = ln(σ/2)."""

    Params = VEParams
    params: VEParams

    def __init__(self, params: VEParams, network: Network) -> None:
        super().__init__(params, network)
        self.sigma_min, self.sigma_max = params.sigma_min, params.sigma_max

    def coefficients(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """EDM, table 1, second column."""
        one = torch.ones_like(sigma)
        return one, sigma, one, (sigma / 2).log()


class IDDPMParams(Params):
    """Constants of improved DDPM.

    Attributes:
        C_1: bound on the time steps at low noise levels.
        C_2: offset of the cosine schedule at high noise levels.
        M: number of noise levels.
    """

    C_1: Annotated[float, Field(gt=0, lt=1)] = 0.001
    C_2: NonNegative = 0.008
    M: Steps = 1000


@PRECONDITIONERS.register("iddpm")
class IDDPM(Preconditioner):
    """c_skip = 1, c_out = -σ, c_in = 1/√(σ²+1), c_noise = M - 1 - argmin_j |u_j - σ|.

    u_M = 0, u_{j-1} = √((u_j² + 1) / max(ᾱ_{j-1}/ᾱ_j, C_1) - 1), ᾱ_j = sin²(π j / (2 M (C_2 + 1)))
    (EDM, table 1, third column). The network predicts a variance as well: it has twice the image's
    channels, of which the first half is used.
    """

    Params = IDDPMParams
    params: IDDPMParams
    levels: Tensor

    def __init__(self, params: IDDPMParams, network: Network) -> None:
        super().__init__(params, network)
        levels = _iddpm_levels(params)
        self.sigma_min, self.sigma_max = levels[params.M - 1], levels[0]
        self.register_buffer("levels", torch.tensor(levels))

    @property
    def out_channels(self) -> int:
        """Channels of the denoised image, half of the network's."""
        return self.network.params.out_channels // 2

    def coefficients(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """EDM, table 1, third column."""
        noise = self.params.M - 1 - self._nearest(sigma).to(sigma.dtype)
        return torch.ones_like(sigma), -sigma, 1 / (sigma**2 + 1).sqrt(), noise

    def round_sigma(self, sigma: Tensor) -> Tensor:
        """Nearest of the M + 1 noise levels u_j."""
        return self.levels.to(sigma.device)[self._nearest(sigma)].to(sigma.dtype)

    def _nearest(self, sigma: Tensor) -> Tensor:
        return (sigma.float()[..., None] - self.levels.to(sigma.device)).abs().argmin(-1)


def _iddpm_levels(params: IDDPMParams) -> list[float]:
    """u_0 ... u_M."""

    def alpha_bar(step: int) -> float:
        return math.sin(0.5 * math.pi * step / params.M / (params.C_2 + 1)) ** 2

    levels = [0.0]
    for step in range(params.M, 0, -1):
        ratio = max(alpha_bar(step - 1) / alpha_bar(step), params.C_1)
        levels.append(math.sqrt((levels[-1] ** 2 + 1) / ratio - 1))
    return levels[::-1]


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
