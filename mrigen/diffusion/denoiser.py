"""What this package takes for a denoiser; networks become one through their channel conventions."""

from mrigen.conventions import Conventions, Denoiser, NetworkDenoiser, to_channels, to_complex

__all__ = ["Conventions", "Denoiser", "NetworkDenoiser", "to_channels", "to_complex"]
