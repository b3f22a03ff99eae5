"""U-Nets that match EDM's number for number, their preconditioning, and an MLP for toy problems."""

from mrigen.networks.base import NETWORKS, Network
from mrigen.networks.precond import PRECONDITIONERS, Preconditioner

__all__ = ["NETWORKS", "PRECONDITIONERS", "Network", "Preconditioner"]
