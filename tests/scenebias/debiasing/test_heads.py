"""Several action heads in a row: each learns from its own clips, as if the others were not there."""

import pytest
import torch

from scenebias.debiasing.debiasing_model import DebiasingModel
from scenebias.debiasing.objective import ObjectiveConfig
from scenebias.models.action_model import ActionModel, ModelConfig
from tests.scenebias.debiasing.objective_batch import Batch, make_batch

HEADS = torch.tensor([0, 0, 1, 1, 1])
"""Of which of two heads each of the five classes is."""
CONFIGURATIONS = {
    "baseline": ObjectiveConfig(name="baseline"),
    "mask": ObjectiveConfig(name="mask"),
    "mask-adversarial": ObjectiveConfig(name="mask", mask_loss="adversarial", mask_step="joint"),
    "albar": ObjectiveConfig(name="albar"),
    "consistency": ObjectiveConfig(name="baseline", consistency=0.7),
}


def losses_and_gradients(model: DebiasingModel, batch: Batch) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    """In evaluation mode, where clips do not meet in BatchNorm."""
    model.eval().zero_grad()
    sums: dict[str, float] = {}
    for phase in model.config.phases:
        losses = model(
            phase,
            **vars(batch),
            original_BTHWC=batch.still_BTHWC,
            comparable_B=batch.effective_B,
            clip_count=6,
            effective_count=4,
        )
        losses.total.backward()
        sums |= {name: float(value) for name, value in losses.sums.items()}
    return sums, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_losses_and_gradients_are_the_sums_of_those_of_models_with_one_head(name: str) -> None:
    torch.manual_seed(0)
    whole = DebiasingModel(ActionModel(ModelConfig("small3d"), 5), CONFIGURATIONS[name], head_A=HEADS).double()
    batch = make_batch()
    sums, gradients = losses_and_gradients(whole, batch)
    expected_sums = dict.fromkeys(sums, 0.0)
    expected = {name: torch.zeros_like(gradient) for name, gradient in gradients.items()}
    for head in range(2):
        classes = torch.nonzero(head == HEADS)[:, 0]
        one = DebiasingModel(whole.action_model.with_classes(classes), CONFIGURATIONS[name]).double()
        if whole.masked_head is not None:
            assert one.masked_head is not None
            kept = {"3.weight", "3.bias"}
            state = {k: v[classes] if k in kept else v for k, v in whole.masked_head.state_dict().items()}
            one.masked_head.load_state_dict(state)
        is_its_B = head == HEADS[batch.label_B]
        own = Batch(*(tensor[is_its_B] for tensor in vars(batch).values()))
        own.label_B = own.label_B - classes[0]
        own_sums, own_gradients = losses_and_gradients(one, own)
        for key, value in own_sums.items():
            expected_sums[key] += value
        for key, gradient in own_gradients.items():
            if gradient.shape == expected[key].shape:
                expected[key] += gradient
            else:
                expected[key][classes] += gradient
    assert sums == pytest.approx(expected_sums, rel=1e-9)
    assert {HEADS[label].item() for label in batch.label_B.tolist()} == {0, 1}
    for key, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[key], rtol=1e-8, atol=1e-11, msg=key)
