"""Keyed randomness: every draw is a pure function of (seed, purpose, position).

No generator state has to be saved for an exact resume, and a draw does not depend on how many
processes share the work: the key of a micro-batch names its step and its index in the global batch.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def key(seed: int, *purpose: int | str) -> int:
    """63-bit integer derived from a seed and a purpose, stable across machines and Python versions."""
    text = "/".join([str(seed), *map(str, purpose)])
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def seeded_rng(seed: int, *purpose: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """Fresh ``torch.Generator`` for one purpose, for example ``seeded_rng(0, "teacher", step, micro)``."""
    return torch.Generator(device=device).manual_seed(key(seed, *purpose))


@contextmanager
def dropout_seed(seed: int, *purpose: int | str) -> Iterator[None]:
    """Key the global generator, which ``torch.nn.Dropout`` draws from, and restore it afterwards."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(key(seed, *purpose))
        yield


def seeded_noise(
    seeds: list[int],
    shape: tuple[int, ...],
    *purpose: int | str,
    complex_valued: bool,
    device: torch.device | str = "cpu",
) -> torch.Tensor:
    """Standard normal noise whose sample i depends on ``seeds[i]`` alone, whatever the batch size.

    Complex noise has variance 1 in each of its real and imaginary parts. Drawn on the CPU, so that
    a seed means the same image on every device.

    Args:
        seeds: one integer per sample.
        shape: shape of one sample, (C, H, W).
        purpose: what it is for; the latent by default.
        complex_valued: draw complex64 instead of float32.
        device: where the result is put.

    Returns:
        Tensor (len(seeds), *shape).
    """
    parts = 2 if complex_valued else 1
    keys = purpose or ("latent",)
    draws = [torch.randn(parts, *shape, generator=seeded_rng(s, *keys)) for s in seeds]
    noise = torch.stack(draws)
    noise = torch.complex(noise[:, 0], noise[:, 1]) if complex_valued else noise[:, 0]
    return noise.to(device)
