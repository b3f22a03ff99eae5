"""The methods of ``benchmarks.methods``: stages of training as changes of a recipe."""

from __future__ import annotations

from dataclasses import dataclass

FEW = 50
OBSERVATION, HALF, FEW_CLEAN = "observation", "half of the measurements' teacher", "EDM, 50 clean images"
UNTRAINED = "a network for AmbientGAN"
UNTRAINED_SHOWN = "a network for MisGAN"
GAN = ("distill.loss={name: ambient-gan}", "distill.init=random", "distill.fake_init=random")
STANDARD = "teacher.objective={name: standard}"
HEUN = "evaluate.sampler={name: heun, steps: 18}"
IMAGES = ["data.images.operator={name: identity}", "data.images.noise=0", STANDARD, HEUN]
MMPS = ["teacher.restore={name: mmps, steps: 20}", STANDARD, HEUN]
CONSISTENT = "teacher.objective={name: tweedie, consistency: {steps: 4, samples: 4, images: 16}}"
TOTAL_VARIATION = "teacher.restore={name: total-variation, iterations: 50}"
ONE_STEP = "teacher.restore={name: ambient-one-step, spread: 0.05}"
L1 = "teacher.restore={name: l1-wavelet}"
WEIGHTED = "EM from l1-wavelet, weight w"
FAST = ("distill.generator.lr=3e-4", "distill.fake.lr=2e-3")  # demo/brain-l1's
PHOTOGRAPHS = (
    "data.images.limit=6000",
    "data.images.split={train: 0.75, test: 0.25}",
    "evaluate.split=test",
    (
        "teacher.network={name: song-unet, model_channels: 32, channel_mult: [1, 2, 2], num_blocks: 1, "
        "attn_resolutions: [], dropout: 0.0, patch: 2}"
    ),
    "teacher.images=16000",  # half-lives and ramps are of this length, and scaled to others
    "teacher.batch=16",
    "teacher.augment=0",
    "teacher.ema_halflife=5000",
    "teacher.optimizer={lr: 2e-3, ramp_images: 5000, decay: linear, max_grad_norm: 1.0, grad_norm_of: mean}",
    "distill.images=16000",
    "distill.batch=16",
    "distill.ema_halflife=5000",
    "distill.generator={lr: 1e-4, betas: [0.0, 0.999], decay: linear}",
    "distill.fake={lr: 2e-4, betas: [0.0, 0.999], decay: linear}",
)
SMOKE = {
    "digits": ["data.images.limit=100", "teacher.network={name: mlp, hidden: 16, num_blocks: 1}"],
    "photographs": [
        "data.images.limit=100",
        "teacher.network={name: song-unet, model_channels: 8, channel_mult: [1], num_blocks: 1}",
    ],
    "heads": [
        "data.simulate={volumes: 4, slices: 6, matrix: [32, 32], coils: 2, slice_range: [0.35, 0.8]}",
        "data.prep.calib_readout=12",
        "data.prep.split={train: 0.5, test: 0.5}",
        "teacher.network={name: song-unet, model_channels: 8, channel_mult: [1], num_blocks: 1}",
    ],
}


@dataclass(frozen=True)
class Stage:
    """A training of a method.

    Attributes:
        settings: changes of the recipe.
        part: of N that it sees; 0 without a start is one step, of a network whose weights nobody uses.
        start: method whose model it starts from or is distilled from; empty for random weights.
        distilled: a student of that method's model, not a teacher.
        own_data: its data are prepared anew from the recipe's source, because ``settings`` change them.
        sampled: False for models that are only the start of others.
    """

    settings: tuple[str, ...] = ()
    part: float = 1.0
    start: str = ""
    distilled: bool = False
    own_data: bool = False
    sampled: bool = True


def of_pictures(*, noisy: bool) -> dict[str, Stage]:
    """The methods for small pictures, the cheapest first."""
    restored = (STANDARD, HEUN)
    few = (*IMAGES, f"data.images.limit={FEW * 4 // 3}")
    common = {
        "Ambient Tweedie" if noisy else "Ambient Diffusion": Stage(),
        "naive: noise as signal" if noisy else "naive: δ = 0": Stage(
            restored if noisy else ("data.images.operator.further_missing=0",), own_data=not noisy
        ),
        "EDM, clean images": Stage(tuple(IMAGES), own_data=True),
        FEW_CLEAN: Stage(few, 0.5, own_data=True),
        HALF: Stage(part=0.5, sampled=False),
        "its student by SiD": Stage(part=0.5, start=HALF, distilled=True),
        UNTRAINED: Stage(() if noisy else (STANDARD,), 0, sampled=False),
        "AmbientGAN": Stage(GAN, start=UNTRAINED, distilled=True),
        "EM from 50 clean images, 1": Stage(tuple(MMPS), 0.25, FEW_CLEAN),
        "EM from 50 clean images, 2": Stage(tuple(MMPS), 0.25, "EM from 50 clean images, 1"),
        "EM from measurements, 1": Stage(tuple(MMPS) if noisy else (ONE_STEP, *restored), 0.25, HALF),
        "EM from measurements, 2": Stage(tuple(MMPS), 0.25, "EM from measurements, 1"),
    }
    restoring = {"EDM, total variation": Stage((TOTAL_VARIATION, *restored))}
    if noisy:
        full = Stage(("evaluate.sampler={name: tweedie, steps: 18, truncate: false}",), 0, "Ambient Tweedie")
        consistent = Stage((CONSISTENT, HEUN), 0.5, HALF)
        sure = Stage(("teacher.objective={name: sure-score}", HEUN))
        more = {
            "Ambient Tweedie, in full": full,
            "Tweedie, then consistency": consistent,
            "SURE-Score": sure,
        }
        return {**common, **more, **restoring}
    autoencoder = "teacher.objective={name: ambient, noise: {p_mean: -5.8, p_std: 0.01}}"
    return {
        **common,
        "MSM": Stage(("evaluate.sampler={name: measurement, steps: 18}",), 0, "naive: δ = 0", own_data=True),
        UNTRAINED_SHOWN: Stage((), 0, sampled=False),
        "MisGAN, known masks": Stage(GAN, start=UNTRAINED_SHOWN, distilled=True),
        "masked autoencoder": Stage((autoencoder,), 0.5, sampled=False),
        "EDM, masked autoencoder": Stage((ONE_STEP, *restored), 0.5, "masked autoencoder"),
        **restoring,
    }


def of_heads(weight: float) -> dict[str, Stage]:
    """The methods for multi-coil MRI.

    Args:
        weight: w of a restored image's squared errors in what was not measured of it.
    """
    weighted = f"teacher.objective={{name: reconstructed, unmeasured_weight: {weight:g}}}"
    return {
        "Ambient Diffusion": Stage(),
        "EDM, R = 1": Stage(("data.prep.acceleration=1", STANDARD), own_data=True),
        "naive: zero-filled images as signal": Stage((STANDARD,)),
        HALF: Stage(part=0.5, sampled=False),
        "its student by SiD": Stage(part=0.5, start=HALF, distilled=True),
        "EM from measurements, 1": Stage((ONE_STEP, STANDARD), 0.25, HALF),
        "EM from measurements, 2": Stage(tuple(MMPS), 0.25, "EM from measurements, 1"),
        "EDM, l1-wavelet (L1-EDM)": Stage((L1, STANDARD)),
        "EDM, total variation": Stage((TOTAL_VARIATION, STANDARD)),
        f"{WEIGHTED}, 0": Stage((L1, weighted, HEUN), 0.5),
        f"{WEIGHTED}, 1": Stage((MMPS[0], weighted, HEUN), 0.25, f"{WEIGHTED}, 0"),
        "the student of this by SiD": Stage(FAST, 0.25, f"{WEIGHTED}, 1", distilled=True),
    }


DATA = {
    "digits-inpaint": "toy/digits-inpaint",
    "digits-denoise": "toy/digits-denoise",
    "heads": "demo/brain",
    "photographs-inpaint": "cifar10/inpaint-p60",
    "photographs-denoise": "cifar10/denoise-s20",
}
