"""The networks that tests of every network go through."""

import torch
from torchvision.models.video import MViT
from torchvision.models.video.mvit import MSBlockConfig

from scenebias.models.backbones import BACKBONES, Backbone, BackboneName, parts_of

NETWORKS = [name for name in BACKBONES if not name.startswith("mvit") and name not in ("swin3d_s", "swin3d_b")]
"""All but those that are others in a larger size, and those that take large clips alone, for which see `tiny_mvit`."""


def small_clip_shape(name: BackboneName) -> tuple[int, int, int]:
    """Frames, height and width of a clip that is hardly larger than the network needs."""
    return (8, 32, 32) if name == "s3d" else (4, 16, 16)


def tiny_mvit(*, relative: bool = True) -> Backbone:
    """A Multiscale Vision Transformer of two blocks for clips of 4 frames of 16 pixels; ``relative``: as the second."""
    torch.manual_seed(0)
    blocks = [
        MSBlockConfig(
            num_heads=heads,
            input_channels=8,
            output_channels=16 if heads == 2 else 8,
            kernel_q=[3, 3, 3],
            kernel_kv=[3, 3, 3],
            stride_q=[1, heads, heads],
            stride_kv=[1, 2, 2],
        )
        for heads in (1, 2)
    ]
    network = MViT(
        spatial_size=(16, 16),
        temporal_size=4,
        block_setting=blocks,
        residual_pool=relative,
        residual_with_cls_embed=False,
        rel_pos_embed=relative,
        proj_after_attn=relative,
        stochastic_depth_prob=0.2,
    )
    return parts_of(network).backbone
