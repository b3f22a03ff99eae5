"""What the channels of a network mean: part of every stored model, read without loading a network."""

from typing import Annotated, Literal

from pydantic import Field

from mrigen.registry import Params


class PseudoInverseParams(Params):
    """Regularised pseudo-inverse of what a network is shown.

    Attributes:
        tau: regularisation relative to the largest eigenvalue of Ñ.
        steps: Chebyshev steps.
    """

    tau: Annotated[float, Field(gt=0, lt=1)] = 0.05
    steps: Annotated[int, Field(ge=1, le=1000)] = 8


class ChannelLayout(Params):
    """What the channels of a network mean, stored with every checkpoint.

    Attributes:
        image: ``complex`` images become two channels (real, imaginary), ``real`` ones stay as they are.
        image_channels: channels of the image as the network sees it, 2 for complex MRI.
        mask_channels: channels that show the (further) mask, after the image; 0 for none.
        ones_channel: a last channel of ones, as in the released Ambient-MRI models.
        pseudo_inverse: the image channels are z = (Ñ + τ)⁻¹ x̃ of what is observed, x̃ = Ñ(x + σ ε), and the
            preconditioner treats what Ã shows and what it hides separately (see ``NetworkDenoiser``); None
            for x̃ itself under EDM's form everywhere, as in the released models.
    """

    image: Literal["real", "complex"] = "complex"
    image_channels: Annotated[int, Field(ge=1)] = 2
    mask_channels: Annotated[int, Field(ge=0)] = 1
    ones_channel: bool = True
    pseudo_inverse: PseudoInverseParams | None = None

    @property
    def network_channels(self) -> int:
        """Input channels of a network with these conventions."""
        return self.image_channels + self.mask_channels + int(self.ones_channel)
