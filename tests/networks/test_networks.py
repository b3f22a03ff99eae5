"""What all networks share: training behaviour, building without weights, sizes."""

import pytest
import torch

from mrigen.errors import UsageError
from mrigen.networks import NETWORKS
from mrigen.networks.mlp import MLP
from mrigen.networks.song_unet import SongUNet, SongUNetParams


def size_of(name):
    return (1, 2) if name == "mlp" else (8, 8)


@pytest.mark.parametrize("name", NETWORKS.names())
def test_parameters_rebuild_the_network(name):
    net = NETWORKS[name].example().eval()
    spec = {"name": name, **net.params.model_dump(mode="json")}
    with torch.device("meta"):
        twin = NETWORKS.build(spec).eval()
    twin.load_state_dict(net.state_dict(), assign=True)
    x = torch.randn(2, 4, *size_of(name))
    with torch.no_grad():
        assert torch.equal(net(x, torch.tensor([0.1, -1.0])), twin(x, torch.tensor([0.1, -1.0])))


@pytest.mark.parametrize("name", NETWORKS.names())
def test_samples_of_a_batch_do_not_mix(name):
    net = NETWORKS[name].example().eval()
    x, noise = torch.randn(3, 4, *size_of(name)), torch.tensor([0.1, -1.0, 0.4])
    with torch.no_grad():
        torch.testing.assert_close(net(x, noise)[1:2], net(x[1:2], noise[1:2]), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", NETWORKS.names())
def test_noise_label_and_class_matter(name):
    torch.manual_seed(0)
    net = NETWORKS[name].example()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    net.eval()
    x = torch.randn(1, 4, *size_of(name))
    with torch.no_grad():
        assert not torch.allclose(net(x, torch.tensor([0.1])), net(x, torch.tensor([1.1])))
        if net.params.label_dim:
            assert not torch.allclose(
                net(x, torch.zeros(1), torch.eye(3)[:1]), net(x, torch.zeros(1), torch.eye(3)[1:2])
            )


def test_label_dropout_hides_labels_while_training_only():
    spec = {
        "name": "mlp",
        "resolution": 2,
        "in_channels": 1,
        "out_channels": 1,
        "label_dim": 3,
        "label_dropout": 0.25,
    }
    net = NETWORKS.build(spec)
    torch.manual_seed(0)
    labels = torch.eye(3)[torch.zeros(4000, dtype=torch.long)]
    shown = net.train().seen_labels(labels, 4000, labels.device)
    assert shown[:, 0].mean().item() == pytest.approx(0.75, abs=0.03)
    assert torch.equal(net.eval().seen_labels(labels, 4000, labels.device), labels)


def test_dropout_acts_while_training_only():
    params = SongUNetParams(
        resolution=8,
        in_channels=1,
        out_channels=1,
        model_channels=8,
        channel_mult=(1,),
        num_blocks=1,
        dropout=0.5,
    )
    net = SongUNet(params)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    x, noise = torch.randn(1, 1, 8, 8), torch.zeros(1)
    with torch.no_grad():
        assert not torch.equal(net.train()(x, noise), net(x, noise))
        assert torch.equal(net.eval()(x, noise), net(x, noise))


def test_unet_takes_other_sizes_than_its_own():
    net = SongUNet.example().eval()
    with torch.no_grad():
        assert net(torch.randn(1, 4, 12, 20), torch.zeros(1)).shape == (1, 2, 12, 20)


def test_mlp_names_the_size_that_it_was_made_for():
    with pytest.raises(UsageError, match=r"made for 1x2 images, these are 4x4"):
        MLP.example()(torch.randn(1, 4, 4, 4), torch.zeros(1))


def test_patch_regroups_pixels():
    """With patch 2 the network works at half the size and gives back all pixels."""
    spec = {
        "name": "song-unet",
        "resolution": 8,
        "in_channels": 1,
        "out_channels": 1,
        "model_channels": 8,
        "channel_mult": (1, 1),
        "num_blocks": 1,
        "attn_resolutions": (2,),
        "patch": 2,
    }
    net = NETWORKS.build(spec).eval()
    assert net.encoder["level0_conv"].weight.shape[1] == 4
    assert net.encoder["level1_block0"].heads == 1
    assert net.encoder["level0_block0"].heads == 0
    with torch.no_grad():
        assert net(torch.randn(1, 1, 8, 8), torch.zeros(1)).shape == (1, 1, 8, 8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channel_mult": (1,) * 13}, "channel_mult"),
        ({"num_blocks": 1000}, "num_blocks"),
        ({"model_channels": 10**9}, "model_channels"),
        ({"resolution": 30, "channel_mult": (1, 1, 1)}, "resolution 30 is not a multiple of 4"),
        ({"resample_filter": (1, 2, 1)}, "even number of taps"),
        ({"dropout": 1.5}, "dropout"),
        ({"colour": "blue"}, "colour: unknown key"),
    ],
)
def test_impossible_architectures_are_refused(change, message):
    spec = {"name": "song-unet", "resolution": 32, "in_channels": 1, "out_channels": 1} | change
    with pytest.raises(UsageError, match=message):
        NETWORKS.build(spec)
