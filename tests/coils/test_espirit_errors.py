"""What ESPIRiT refuses, each in one line that says how to go on."""

import pytest
import torch
from torch import Tensor

from mrigen.coils.calibration import acs_region
from mrigen.coils.espirit import espirit
from mrigen.errors import UsageError


def refused(match: str, kspace: Tensor, *args: object, **kwargs: object) -> None:
    with pytest.raises(UsageError, match=match) as caught:
        espirit(kspace, *args, **kwargs)
    assert "\n" not in str(caught.value)


def test_region_smaller_than_the_kernel(head_scan: Tensor) -> None:
    refused("45 x 4 points cannot host a 6 x 6 kernel: lower kernel_width to 4", head_scan, (45, 4))
    espirit(head_scan, (45, 4), 4)


def test_region_that_was_not_measured(head_scan: Tensor) -> None:
    undersampled = head_scan.clone()
    undersampled[..., :12] = 0
    refused("144 of the 576 points .* slice 1", torch.stack([head_scan, undersampled]), 24)
    refused("576 of the 576 points", torch.zeros_like(head_scan))
    espirit(undersampled, (24, 12))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, complex(0, -torch.inf)])
def test_data_that_are_not_finite(head_scan: Tensor, value: complex) -> None:
    broken = head_scan.clone()
    broken[2, 0, 0] = value
    refused("NaN or infinite", broken)


def test_shapes(head_scan: Tensor) -> None:
    refused("at least one coil", head_scan[:0])
    refused("at least one coil", head_scan[0])
    refused("complex", head_scan.abs())


def test_parameters_out_of_range(head_scan: Tensor) -> None:
    refused("maps 6", head_scan, maps=6)
    refused("maps 0", head_scan, maps=0)
    refused("kernel_width 0", head_scan, kernel_width=0)
    refused("thresh 1", head_scan, thresh=1.0)
    refused("crop -0.1", head_scan, crop=-0.1)
    refused("calib_width 0", head_scan, 0)


def test_mask_without_a_centre() -> None:
    with pytest.raises(UsageError, match="no line at DC"):
        acs_region(torch.arange(10) < 5)
