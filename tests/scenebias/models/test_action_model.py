"""The action model takes stored pixels, in uint8, and normalises them itself."""

import numpy as np
import pytest
import torch

from scenebias.models.action_model import MEAN_C, STD_C, ActionModel, ModelConfig


def random_clip(*shape: int) -> torch.Tensor:
    return torch.randint(256, (*shape, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_normalise_agrees_with_numpy_and_needs_no_transpose() -> None:
    clip_BTHWC = random_clip(2, 4, 6, 8)
    normalised_BCTHW = ActionModel(ModelConfig("small3d"), 2).normalise(clip_BTHWC)
    reference_BTHWC = (clip_BTHWC.numpy().astype(np.float64) / 255 - MEAN_C) / STD_C
    np.testing.assert_allclose(normalised_BCTHW, reference_BTHWC.transpose(0, 4, 1, 2, 3), atol=1e-6)
    assert normalised_BCTHW.dtype == torch.float32
    assert normalised_BCTHW.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("backbone", ["small3d", "r3d_18"])
def test_forward_is_the_head_on_the_features(backbone: str) -> None:
    torch.manual_seed(0)
    model = ActionModel(ModelConfig(backbone), 7).eval()
    clip_BTHWC = random_clip(2, 4, 32, 32)
    with torch.no_grad():
        features_BD = model.features(clip_BTHWC)
        logits_BA = model(clip_BTHWC)
    assert features_BD.shape == (2, model.feature_count)
    assert logits_BA.shape == (2, 7)
    assert torch.equal(logits_BA, model.head(features_BD))


def test_works_under_bfloat16_autocast() -> None:
    torch.manual_seed(0)
    model = ActionModel(ModelConfig("small3d"), 3).eval()
    clip_BTHWC = random_clip(2, 8, 32, 32)
    with torch.no_grad():
        exact_BA = model(clip_BTHWC)
        with torch.autocast("cpu", torch.bfloat16):
            coarse_BA = model(clip_BTHWC)
    assert coarse_BA.dtype == torch.bfloat16
    torch.testing.assert_close(coarse_BA.float(), exact_BA, atol=0.05, rtol=0.05)


def test_normalisation_is_as_asked_for_and_goes_with_the_weights() -> None:
    clip_BTHWC = random_clip(2, 4, 6, 8)
    mean_C, std_C = (0.5, 0.25, 0.75), (1 / 255, 2.0, 0.5)
    model = ActionModel(ModelConfig("small3d"), 2, mean_C=mean_C, std_C=std_C)
    reference_BTHWC = (clip_BTHWC.numpy().astype(np.float64) / 255 - mean_C) / std_C
    np.testing.assert_allclose(
        model.normalise(clip_BTHWC), reference_BTHWC.transpose(0, 4, 1, 2, 3), rtol=1e-6, atol=1e-5
    )
    other = ActionModel(ModelConfig("small3d"), 2)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.normalise(clip_BTHWC), model.normalise(clip_BTHWC))


@pytest.mark.parametrize(("field", "value"), [("backbone", "resnet"), ("dropout", 1.0), ("dropout", -0.1)])
def test_bad_configuration_names_the_field_and_what_is_allowed(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"^{field} must be (one of .*small3d|from 0)"):
        ModelConfig(**{field: value})
