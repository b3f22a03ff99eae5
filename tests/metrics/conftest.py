"""Extractors: one without weights, and InceptionV3 with random ones in torch-fidelity's file layout."""

import pytest
import torch
from torch_fidelity import feature_extractor_inceptionv3 as inception

from mrigen.metrics.features import R64, extractor


@pytest.fixture(scope="session")
def r64():
    return extractor(R64)


@pytest.fixture(scope="session")
def inception_file(tmp_path_factory):
    """A file of weights that loads; the numbers are random."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inception, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(inception.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        generator = torch.Generator().manual_seed(0)
        model = inception.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            module.weight.normal_(0, (2 / module.weight[0].numel()) ** 0.5, generator=generator)
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(model.state_dict(), path)
    return path
