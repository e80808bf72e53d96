"""Where in a clip a model sees an action: class-activation maps.

Shape suffixes: B clips, C channels, T frames, H rows, W columns, D features, A actions; t, h, w: of the feature map.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from scenebias.evaluation.accuracy import evaluating
from scenebias.models.action_model import ActionModel


def class_activation(model: ActionModel, clip_BTHWC: Tensor, action_B: Tensor) -> Tensor:
    """How much each place of each clip speaks for an action, float32 map_BTHW: 0 where least, 1 where most.

    Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016, equation 2, in space and time:
    M(t, h, w) = Σ_d w_ad f_d(t, h, w), with the feature map f before the mean and the action's row w_a of the linear
    head. As in the authors' code, each clip's map is then moved and scaled to 0 to 1 (all 0 where it is constant) and
    enlarged to the size of the clip. ``clip_BTHWC`` is uint8, ``action_B`` int64, both on the model's device.
    """
    evidence_Bthw = action_evidence(model, clip_BTHWC, action_B)
    lowest_B111 = evidence_Bthw.amin(dim=(1, 2, 3), keepdim=True)
    range_B111 = evidence_Bthw.amax(dim=(1, 2, 3), keepdim=True) - lowest_B111
    scaled_Bthw = torch.where(range_B111 > 0, (evidence_Bthw - lowest_B111) / range_B111, 0)
    enlarged = functional.interpolate(scaled_Bthw[:, None], clip_BTHWC.shape[1:4], mode="trilinear")
    return enlarged[:, 0]


def action_evidence(model: ActionModel, clip_BTHWC: Tensor, action_B: Tensor) -> Tensor:
    """The map of `class_activation` as the network computes it, float32 (B, t, h, w), in logits.

    Its mean over t, h and w is the action's logit, less the head's bias.
    """
    with evaluating(model), torch.inference_mode():
        feature_BDthw = _last_feature_map(model, clip_BTHWC)
        weight_AD = next(layer for layer in model.head if isinstance(layer, nn.Linear)).weight
        return torch.einsum("bdthw,bd->bthw", feature_BDthw, weight_AD[action_B])


def has_activation_map(model: ActionModel) -> bool:
    """Whether the features of ``model`` are the mean of a map, as those of an MViT are not."""
    return len(_means(model)) == 1


def _means(model: ActionModel) -> list[nn.Module]:
    return [module for module in model.backbone.modules() if isinstance(module, nn.AdaptiveAvgPool3d)]


def _last_feature_map(model: ActionModel, clip_BTHWC: Tensor) -> Tensor:
    """What the backbone averages over space and time, (B, D, t, h, w)."""
    (mean,) = _means(model)
    seen: list[Tensor] = []
    hook = mean.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        model.features(clip_BTHWC)
    finally:
        hook.remove()
    return seen[0]
