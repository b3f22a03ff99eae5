"""Gradients with blocks that are computed again."""

import copy

import torch

from mrigen.networks import NETWORKS
from mrigen.networks.blocks import activation_checkpointing


def networks():
    """A U-Net, and its twin that computes its blocks again."""
    spec = {"name": "song-unet", "resolution": 16, "in_channels": 2, "out_channels": 2, "model_channels": 32}
    torch.manual_seed(0)
    plain = NETWORKS.build({**spec, "channel_mult": [1, 2], "num_blocks": 2, "attn_resolutions": []}).eval()
    plain.requires_grad_(False)
    for weight in plain.parameters():
        torch.nn.init.normal_(weight, std=0.05)
    return plain, activation_checkpointing(copy.deepcopy(plain))


def kept(network, x):
    """Output, and bytes that its gradient needs."""
    weights = {p.untyped_storage().data_ptr() for p in network.parameters()}
    storages = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            storages[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        found = network(x, torch.ones(len(x)))
    return found, sum(size for size, _ in storages.values())


def test_the_same_gradient_in_less_memory():
    """Also twice from one graph, as products with a Jacobian need it, and in a copy of the network."""
    x = torch.randn(2, 2, 16, 16, generator=torch.Generator().manual_seed(1)).requires_grad_()
    plain, lean = networks()
    expected, whole = kept(plain, x)
    directions = [torch.randn(expected.shape, generator=torch.Generator().manual_seed(i)) for i in (2, 3)]
    slopes = [torch.autograd.grad(expected, x, v, retain_graph=True)[0] for v in directions]
    for network in (lean, copy.deepcopy(lean)):
        found, part = kept(network, x)
        torch.testing.assert_close(found, expected)
        assert part < 0.4 * whole
        for v, slope in zip(directions, slopes, strict=True):
            (again,) = torch.autograd.grad(found, x, v, retain_graph=True)
            torch.testing.assert_close(again, slope)


def test_without_gradients_nothing_changes():
    plain, lean = networks()
    x = torch.ones(1, 2, 16, 16)
    with torch.no_grad():
        assert torch.equal(plain(x, torch.ones(1)), lean(x, torch.ones(1)))
