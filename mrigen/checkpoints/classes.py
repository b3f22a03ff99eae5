"""The released classes that can be imported, and what their constructors' arguments are called here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Class:
    """A released class.

    Attributes:
        name: its name in mrigen's registry.
        arguments: its constructor's arguments in their order; what is not in ``taken`` is no concern
            of the class itself.
        taken: arguments that become parameters here.
        network: default network class of a preconditioning.
    """

    name: str
    arguments: tuple[str, ...]
    taken: frozenset[str]
    network: str = ""


_INTERFACE = ("img_resolution", "img_channels", "label_dim", "use_fp16")
_UNET = (
    "img_resolution",
    "in_channels",
    "out_channels",
    "label_dim",
    "augment_dim",
    "model_channels",
    "channel_mult",
    "channel_mult_emb",
    "num_blocks",
    "attn_resolutions",
    "dropout",
    "label_dropout",
)
_SONG = (
    *_UNET,
    "embedding_type",
    "channel_mult_noise",
    "encoder_type",
    "decoder_type",
    "resample_filter",
    "gated",
)


def _precond(name: str, network: str, *arguments: str) -> Class:
    return Class(name, (*_INTERFACE, *arguments, "model_type"), frozenset(arguments), network)


PRECONDITIONINGS = {
    "EDMPrecond": _precond("edm", "DhariwalUNet", "sigma_min", "sigma_max", "sigma_data"),
    "VPPrecond": _precond("vp", "SongUNet", "beta_d", "beta_min", "M", "epsilon_t"),
    "VEPrecond": _precond("ve", "SongUNet", "sigma_min", "sigma_max"),
    "iDDPMPrecond": _precond("iddpm", "DhariwalUNet", "C_1", "C_2", "M"),
}
NETWORKS = {
    "SongUNet": Class("song-unet", _SONG, frozenset(_SONG)),
    "DhariwalUNet": Class("dhariwal-unet", (*_UNET, "gated"), frozenset((*_UNET, "gated"))),
}
