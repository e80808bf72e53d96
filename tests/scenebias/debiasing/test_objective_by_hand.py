"""The objective, what it reports and all its gradients against formulas written out in numpy, for a linear backbone.

Everything is float64. Shape suffixes as in `scenebias.debiasing.objective`, and P values of a clip, K hidden units.
Each function that is named after a loss returns the loss of every clip and its derivative with respect to the logits.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from scenebias.debiasing.debiasing_model import DebiasingModel
from scenebias.debiasing.objective import ObjectiveConfig
from scenebias.models.action_model import ActionModel, ModelConfig
from shards.format.sample import SCENE_COUNT
from tests.scenebias.debiasing.objective_batch import Batch

Array = NDArray[np.float64]
CLIPS, ACTIONS, FEATURES = 5, 4, 3
CLIP_SHAPE = (2, 3, 4, 3)
BACKBONE, ACTION = "action_model.backbone.1", "action_model.head.1"


class LinearBackbone(nn.Sequential):
    """Features that are linear in the pixels."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(int(np.prod(CLIP_SHAPE)), FEATURES))
        self.feature_count = FEATURES


def make_batch(generator: torch.Generator, effective: list[bool]) -> Batch:
    scene_BS = (3 * torch.randn(CLIPS, SCENE_COUNT, dtype=torch.float64, generator=generator)).softmax(dim=1)
    clips = [torch.randint(256, (CLIPS, *CLIP_SHAPE), dtype=torch.uint8, generator=generator) for _ in range(3)]
    label_B = torch.randint(ACTIONS, (CLIPS,), generator=generator)
    return Batch(clips[0], label_B, scene_BS, clips[1], torch.tensor(effective), still_BTHWC=clips[2])


def make_model(config: ObjectiveConfig, generator: torch.Generator) -> DebiasingModel:
    """With weights and running statistics that lie about 1, in evaluation mode."""
    action_model = ActionModel(ModelConfig("small3d"), ACTIONS)
    action_model.backbone = LinearBackbone()
    action_model.head = nn.Sequential(nn.Dropout(0.0), nn.Linear(FEATURES, ACTIONS))
    model = DebiasingModel(action_model, config).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, dtype=torch.float64, generator=generator))
        for name, buffer in model.named_buffers():
            if "running" in name:
                buffer.copy_(torch.rand(buffer.shape, dtype=torch.float64, generator=generator) + 0.5)
    return model


def log_softmax(logits_BK: Array) -> Array:
    shifted_BK = logits_BK - logits_BK.max(axis=1, keepdims=True)
    return shifted_BK - np.log(np.exp(shifted_BK).sum(axis=1, keepdims=True))


def cross_entropy(logits_BK: Array, target_BK: Array) -> tuple[Array, Array]:
    """-sum t log q for targets that sum to 1; derivative q - t."""
    log_q_BK = log_softmax(logits_BK)
    return -(target_BK * log_q_BK).sum(axis=1), np.exp(log_q_BK) - target_BK


def entropy(logits_BK: Array) -> tuple[Array, Array]:
    """H = -sum q log q; derivative -q (log q + H)."""
    log_q_BK = log_softmax(logits_BK)
    q_BK = np.exp(log_q_BK)
    entropy_B = -(q_BK * log_q_BK).sum(axis=1)
    return entropy_B, -q_BK * (log_q_BK + entropy_B[:, None])


def linear_gradients(name: str, input_BD: Array, gradient_BK: Array) -> dict[str, Array]:
    """Of the weight and bias of the linear layer ``name``."""
    return {f"{name}.weight": gradient_BK.T @ input_BD, f"{name}.bias": gradient_BK.sum(axis=0)}


class ByHand:
    """Total, gradients and sums of one step, all phases together."""

    def __init__(self, model: DebiasingModel, batch: Batch, ramp: float) -> None:
        self.config, self.ramp = model.config, ramp
        self.weights = {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}
        self.gradients: dict[str, Array] = {}
        self.sums: dict[str, float] = {}
        self.total = 0.0
        # The objective begins at the normalised clip.
        self.clean_BP, self.masked_BP, self.still_BP = (
            model.action_model.normalise(clip_BTHWC).flatten(start_dim=1).numpy()
            for clip_BTHWC in (batch.clip_BTHWC, batch.masked_BTHWC, batch.still_BTHWC)
        )
        self.batch = batch
        self._action()
        if self.config.uses_scenes:
            self._scene()
        if self.config.uses_masks:
            self.sums |= {"masked_entropy": 0.0, "masked_correct": 0}
            if batch.effective_B.any():
                self._confusion()
        if self.config.uses_stills:
            self._stills()

    def _linear(self, name: str, input_BD: Array) -> Array:
        return input_BD @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def _add(self, gradients: dict[str, Array]) -> None:
        for name, gradient in gradients.items():
            self.gradients[name] = self.gradients.get(name, 0) + gradient

    def _action(self) -> None:
        features_BD = self._linear(BACKBONE, self.clean_BP)
        smoothing = self.config.label_smoothing
        target_BA = (1 - smoothing) * np.eye(ACTIONS)[self.batch.label_B] + smoothing / ACTIONS
        logits_BA = self._linear(ACTION, features_BD)
        loss_B, gradient_BA = cross_entropy(logits_BA, target_BA)
        self.total += loss_B.mean()
        self.sums["action_loss"] = loss_B.sum()
        self.sums["action_correct"] = (logits_BA.argmax(axis=1) == self.batch.label_B.numpy()).sum()
        self._add(linear_gradients(ACTION, features_BD, gradient_BA / CLIPS))
        self._add(linear_gradients(BACKBONE, self.clean_BP, gradient_BA / CLIPS @ self.weights[f"{ACTION}.weight"]))

    def _scene(self) -> None:
        """The scene head falls with its own gradient; the backbone climbs with weight alpha_scene."""
        features_BD = self._linear(BACKBONE, self.clean_BP)
        scene_BS, logits_BS = self.batch.scene_BS.numpy(), self._linear("scene_head.0", features_BD)
        loss_B, gradient_BS = cross_entropy(logits_BS, scene_BS)
        gradient_BS *= scene_BS.any(axis=1)[:, None]  # a clip without a label is no target
        self.total += loss_B.mean()
        self.sums["scene_clips"] = int(scene_BS.any(axis=1).sum())
        self.sums["scene_loss"] = loss_B.sum()
        self.sums["scene_correct"] = (
            scene_BS.any(axis=1) & (logits_BS.argmax(axis=1) == scene_BS.argmax(axis=1))
        ).sum()
        self._add(linear_gradients("scene_head.0", features_BD, gradient_BS / CLIPS))
        reversed_BD = -self.config.alpha_scene * self.ramp * gradient_BS / CLIPS @ self.weights["scene_head.0.weight"]
        self._add(linear_gradients(BACKBONE, self.clean_BP, reversed_BD))

    def _confusion(self) -> None:
        features_BD = self._linear(BACKBONE, self.masked_BP)
        effective_B1 = self.batch.effective_B.numpy()[:, None].astype(np.float64)
        share_B1 = effective_B1 / effective_B1.sum()
        alpha = self.config.alpha_mask * self.ramp
        target_BA = np.eye(ACTIONS)[self.batch.label_B]
        if self.config.mask_loss == "paper":  # backbone and action head climb together
            logits_BA = self._linear(ACTION, features_BD)
            entropy_B, gradient_BA = entropy(logits_BA)
            descent_BA = -alpha * share_B1 * gradient_BA
            self.total -= alpha * entropy_B @ share_B1[:, 0]
            self._report(logits_BA)
            self._add(linear_gradients(ACTION, features_BD, descent_BA))
            self._add(linear_gradients(BACKBONE, self.masked_BP, descent_BA @ self.weights[f"{ACTION}.weight"]))
            return
        # A head of its own: Linear, BatchNorm with its running statistics, ReLU, Linear. Released, the head climbs and
        # the backbone falls; adversarial, the head falls with the cross entropy and the backbone climbs.
        names = ("weight", "bias", "running_mean", "running_var")
        gamma_K, beta_K, mean_K, variance_K = (self.weights[f"masked_head.1.{name}"] for name in names)
        whitened_BK = (features_BD @ self.weights["masked_head.0.weight"].T - mean_K) / np.sqrt(variance_K + 1e-5)
        hidden_BK = np.maximum(gamma_K * whitened_BK + beta_K, 0)
        logits_BA = self._linear("masked_head.3", hidden_BK)
        if self.config.mask_loss == "released":
            loss_B, gradient_BA = (-part for part in entropy(logits_BA))
        else:
            loss_B, gradient_BA = cross_entropy(logits_BA, target_BA)
        descent_BA = share_B1 * gradient_BA
        self.total += loss_B @ share_B1[:, 0]
        self._report(logits_BA)
        self._add(linear_gradients("masked_head.3", hidden_BK, descent_BA))
        hidden_descent_BK = descent_BA @ self.weights["masked_head.3.weight"] * (hidden_BK > 0)
        self._add(
            {
                "masked_head.1.weight": (hidden_descent_BK * whitened_BK).sum(axis=0),
                "masked_head.1.bias": hidden_descent_BK.sum(axis=0),
            }
        )
        into_BK = hidden_descent_BK * gamma_K / np.sqrt(variance_K + 1e-5)
        self._add({"masked_head.0.weight": into_BK.T @ features_BD})
        reversed_BD = -alpha * into_BK @ self.weights["masked_head.0.weight"]
        self._add(linear_gradients(BACKBONE, self.masked_BP, reversed_BD))

    def _stills(self) -> None:
        """Backbone and action head climb with cross entropy and entropy, and make the logits less steep."""
        config = self.config
        features_BD = self._linear(BACKBONE, self.still_BP)
        logits_BA = self._linear(ACTION, features_BD)
        loss_B, loss_gradient_BA = cross_entropy(logits_BA, np.eye(ACTIONS)[self.batch.label_B])
        entropy_B, entropy_gradient_BA = entropy(logits_BA)
        descent_BA = config.albar_adversarial * loss_gradient_BA + config.albar_entropy * entropy_gradient_BA
        descent_BA = -self.ramp / CLIPS * descent_BA
        self._add(linear_gradients(ACTION, features_BD, descent_BA))
        self._add(linear_gradients(BACKBONE, self.still_BP, descent_BA @ self.weights[f"{ACTION}.weight"]))
        # The logits of a linear network are as steep at every clip: the sum of them by the normalised pixels.
        backbone_DP, head_AD = (self.weights[f"{name}.weight"] for name in (BACKBONE, ACTION))
        slope_P = head_AD.sum(axis=0) @ backbone_DP
        columns = CLIP_SHAPE[2]
        slope_KW = slope_P.reshape(-1, columns)  # K channels, frames and rows
        norm_W = np.sqrt((slope_KW**2).sum(axis=0) + 1e-12)
        penalty_P = self.ramp * config.albar_penalty * (slope_KW / norm_W / columns).ravel()
        self._add(
            {
                f"{BACKBONE}.weight": np.outer(head_AD.sum(axis=0), penalty_P),
                f"{ACTION}.weight": np.tile(backbone_DP @ penalty_P, (ACTIONS, 1)),
            }
        )
        penalty = norm_W.mean() if config.albar_penalty else 0.0
        losses_B = config.albar_penalty * penalty - config.albar_adversarial * loss_B - config.albar_entropy * entropy_B
        self.total += self.ramp * losses_B.mean()
        self.sums |= {
            "still_action_loss": loss_B.sum(),
            "still_entropy": entropy_B.sum(),
            "still_penalty": CLIPS * penalty,
        }

    def _report(self, logits_BA: Array) -> None:
        """The sums over the clips with an effective mask."""
        effective_B = self.batch.effective_B.numpy()
        right_B = logits_BA.argmax(axis=1) == self.batch.label_B.numpy()
        self.sums |= {
            "masked_entropy": entropy(logits_BA)[0] @ effective_B,
            "masked_correct": (right_B & effective_B).sum(),
        }


configurations = st.builds(
    ObjectiveConfig,
    name=st.sampled_from(["baseline", "scene", "mask", "debias", "albar"]),
    alpha_scene=st.floats(0, 2),
    alpha_mask=st.floats(0, 2),
    albar_adversarial=st.floats(0, 3),
    albar_entropy=st.floats(0, 5),
    albar_penalty=st.sampled_from([0, 0.5, 10]),
    mask_loss=st.sampled_from(["paper", "released", "adversarial"]),
    mask_step=st.sampled_from(["one_batch", "alternate", "joint"]),
    label_smoothing=st.floats(0, 0.5),
    scene_hidden_layers=st.just(0),
)


@settings(deadline=None, max_examples=80)
@given(
    config=configurations,
    ramp=st.floats(0, 1),
    effective=st.lists(st.booleans(), min_size=CLIPS, max_size=CLIPS),
    labelled=st.lists(st.booleans(), min_size=CLIPS, max_size=CLIPS),
    seed=st.integers(0, 2**31),
)
def test_losses_and_gradients_are_those_worked_out_by_hand(
    config: ObjectiveConfig, ramp: float, effective: list[bool], labelled: list[bool], seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    model, batch = make_model(config, generator), make_batch(generator, effective)
    batch.scene_BS[~torch.tensor(labelled)] = 0  # no scene label
    total, sums = 0.0, {}
    for phase in config.phases:
        losses = model(
            phase,
            **vars(batch),
            clip_count=CLIPS,
            effective_count=batch.effective_B.sum(),
            ramp=ramp,
        )
        losses.total.backward()  # gradients add up over the phases
        total += losses.total.item()
        sums |= {name: value.item() for name, value in losses.sums.items()}
    expected = ByHand(model, batch, ramp)
    assert total == pytest.approx(expected.total, rel=1e-9)
    assert sums == pytest.approx(expected.sums, rel=1e-9)
    found = {name: parameter.grad.numpy() for name, parameter in model.named_parameters()}
    if expected.gradients.keys() != found.keys():  # no clip has an effective mask: the confusion's gradient is zero
        assert not any(effective)
        assert not any(found.pop(name).any() for name in found.keys() - expected.gradients.keys())
    for name, gradient in expected.gradients.items():
        np.testing.assert_allclose(found[name], gradient, rtol=1e-8, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("objective", ["baseline", "mask", "albar"])
def test_without_a_reversal_gradients_are_the_slopes_of_the_total(objective: str) -> None:
    generator = torch.Generator().manual_seed(0)
    config = ObjectiveConfig(name=objective, mask_step="joint", label_smoothing=0.1)
    model, batch = make_model(config, generator), make_batch(generator, [True, False, True, True, False])
    names, parameters = zip(*model.named_parameters(), strict=True)

    def total(*parameters: Tensor) -> Tensor:
        arguments = {**vars(batch), "clip_count": CLIPS, "effective_count": 3}
        return functional_call(model, dict(zip(names, parameters, strict=True)), config.phases[0], arguments).total

    assert torch.autograd.gradcheck(total, parameters)
