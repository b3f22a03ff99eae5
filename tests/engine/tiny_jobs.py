"""Jobs of a second: a store in memory, a small network, teacher and distillation."""

import torch

from mrigen.channels import ChannelLayout
from mrigen.data.tensor_store import TensorStore
from mrigen.denoiser import NetworkDenoiser
from mrigen.diffusion.objectives import OBJECTIVES
from mrigen.engine.distillation import DistillJob
from mrigen.engine.launch import open_device
from mrigen.engine.params import DistillParams, TeacherParams
from mrigen.engine.states import newest_state, read_state
from mrigen.engine.teacher import TeacherJob
from mrigen.losses import LOSSES
from mrigen.networks import NETWORKS, PRECONDITIONERS
from mrigen.operators import MultiCoilMRI
from mrigen.operators.masks import MASKS
from mrigen.operators.mri import MRICorruption
from mrigen.tensors import randn_like


def tiny_store():
    """Eight slices of random k-space in memory."""
    generator = torch.Generator().manual_seed(2)
    maps = torch.randn(8, 2, 8, 8, dtype=torch.complex64, generator=generator)
    maps = maps / maps.abs().square().sum(1, keepdim=True).sqrt()
    law = {"name": "exact-random", "acceleration": 2, "acs_lines": 2}
    masks = MASKS.build(law).sample(torch.ones(8, 8, dtype=torch.bool), 8, generator)
    operator = MultiCoilMRI(maps, masks)
    y = operator.forward(0.5 * randn_like(operator.zero_image(), generator))
    return TensorStore(y, maps, masks, mask_distribution=law)


def tiny_denoiser(seed=0, augment_dim=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = NETWORKS.build(
            {
                "name": "song-unet",
                "resolution": 8,
                "in_channels": 4,
                "out_channels": 2,
                "model_channels": 8,
                "channel_mult": [1],
                "num_blocks": 1,
                "attn_resolutions": [],
                "dropout": 0.2,
                "augment_dim": augment_dim,
            }
        )
        model = PRECONDITIONERS.build({"name": "edm"}, network=network)
    return NetworkDenoiser(model, ChannelLayout())


def fabric(strategy="ddp", precision="32-true", device="cpu"):
    """One process, or one of several under torchrun."""
    return open_device(device, precision, strategy)


def teacher_job(*, strategy="ddp", precision="32-true", device="cpu", compiled=False, **params):
    store = tiny_store()
    objective = OBJECTIVES.build(
        {"name": "ambient"}, corruption=MRICorruption(store, store.mask_distribution)
    )
    settings = TeacherParams(
        **{"images": 48, "batch": 4, "snapshot_images": 16, "ema_halflife": 20, **params}
    )
    use = fabric(strategy, precision, device)
    return TeacherJob(settings, tiny_denoiser(), objective, store, use, seed=7, compiled=compiled)


def distill_job(
    score=None,
    *,
    strategy="ddp",
    precision="32-true",
    device="cpu",
    augment_dim=0,
    compiled=False,
    **params,
):
    store = tiny_store()
    corruption = MRICorruption(store, store.mask_distribution)
    objective = OBJECTIVES.build({"name": "ambient"}, corruption=corruption)
    fast = {"lr": 1e-3, "betas": [0.0, 0.999]}
    settings = DistillParams(
        **{
            "images": 24,
            "batch": 4,
            "snapshot_images": 8,
            "ema_halflife": 20,
            "generator": fast,
            "fake": fast,
            **params,
        }
    )
    loss = LOSSES.build(settings.loss, objective=objective)
    return DistillJob(
        settings,
        tiny_denoiser(augment_dim=augment_dim),
        loss,
        corruption,
        (1, 8, 8),
        fabric(strategy, precision, device),
        seed=7,
        score=score,
        fresh=tiny_denoiser,
        store=store,
        compiled=compiled,
    )


def newest(folder):
    """The newest whole state of a run, or None."""
    path = newest_state(folder)
    return None if path is None else read_state(path)


def weights(job):
    return torch.cat([p.flatten() for p in job.result.parameters()])


class StopAfter:
    """Wrap a job's step so that the process 'dies' after some steps."""

    def __init__(self, job, steps):
        self.job, self.left, self.real = job, steps, job.step
        job.step = self

    def __call__(self, number):
        if self.left == 0:
            raise MemoryError("killed")
        self.left -= 1
        return self.real(number)
