"""Where in a clip a model sees an action: class-activation maps.

Shape suffixes: B clips, C channels, T frames, H rows, W columns, D features, A actions; t, h, w: of the feature map.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from dali_pipelines import ClipBatch
from scenebias.evaluation import evaluating, hide_humans
from scenebias.figures import activation_strip
from scenebias.masked_clip import Fill
from scenebias.model import ActionModel
from scenebias.report import grid, picture


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


def _last_feature_map(model: ActionModel, clip_BTHWC: Tensor) -> Tensor:
    """What the backbone averages over space and time, (B, D, t, h, w); every one of ours ends with that mean."""
    (mean,) = (module for module in model.backbone.modules() if isinstance(module, nn.AdaptiveAvgPool3d))
    seen: list[Tensor] = []
    hook = mean.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        model.features(clip_BTHWC)
    finally:
        hook.remove()
    return seen[0]


def activation_examples(
    models: Mapping[str, ActionModel], batch: ClipBatch, classes: Sequence[str], fill: Fill = "frame_mean"
) -> str:
    """HTML: every clip of a batch with masks beside itself with its humans hidden, then both under each model's map.

    The maps are of the clip's own action, on the hidden clip too; the captions say how probable a model finds it.
    """
    views = {"the clip": batch.clip_BTHWC, "its humans hidden": hide_humans(fill)(batch)}
    pictures = []
    for index, label in enumerate(batch.label_B.tolist()):
        pictures += [
            picture(activation_strip(clip_BTHWC[index].cpu().numpy()), f"{classes[label]}: {view}")
            for view, clip_BTHWC in views.items()
        ]
        pictures += [
            _explained_clip(name, model, clip_BTHWC[index], label, classes[label])
            for name, model in models.items()
            for clip_BTHWC in views.values()
        ]
    return grid(pictures, least_width_rem=22)


def _explained_clip(name: str, model: ActionModel, clip_THWC: Tensor, label: int, class_name: str) -> str:
    clip_1THWC, action_1 = clip_THWC[None], torch.tensor([label], device=clip_THWC.device)
    with evaluating(model), torch.inference_mode():
        probability = float(model(clip_1THWC).softmax(dim=1)[0, label])
    map_THW = class_activation(model, clip_1THWC, action_1)[0].cpu().numpy()
    strip_HW3 = activation_strip(clip_THWC.cpu().numpy(), map_THW)
    return picture(strip_HW3, f"{name}: {class_name} {100 * probability:.0f} %")
