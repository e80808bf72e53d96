"""Small batches of random clips, masks, scenes and labels."""

import torch

from dali_pipelines import ClipBatch

ACTIONS, SCENES = 5, 4


def random_batch(
    seed: int,
    clips: int = 6,
    *,
    shape: tuple[int, int, int] = (3, 12, 10),
    masks: bool = True,
    scenes: bool = True,
    plain_masks: bool = False,
) -> ClipBatch:
    """``shape``: frames, rows, columns. Without ``plain_masks`` some are empty, some full, and some clips have none."""
    random = torch.Generator().manual_seed(seed)
    clip_BTHWC = torch.randint(0, 256, (clips, *shape, 3), dtype=torch.uint8, generator=random)
    share_B = torch.tensor([0.0, 0.3, 0.3, 1.0])[torch.randint(0, 4, (clips,), generator=random)]
    has_mask_B = torch.rand(clips, generator=random) < 0.8
    if plain_masks:
        share_B, has_mask_B = torch.full((clips,), 0.3), torch.ones(clips, dtype=torch.bool)
    mask_BTHW = torch.rand(clips, *shape, generator=random) < (share_B * has_mask_B)[:, None, None, None]
    scene_BS = torch.rand(clips, SCENES, generator=random).softmax(dim=1)
    return ClipBatch(
        clip_BTHWC=clip_BTHWC,
        mask_BTHW=mask_BTHW if masks else None,
        has_mask_B=has_mask_B & masks,
        scene_BS=scene_BS if scenes else None,
        label_B=torch.randint(0, ACTIONS, (clips,), generator=random),
        sample_B=torch.randperm(1000, generator=random)[:clips],
        window_B=torch.zeros(clips, dtype=torch.int64),
    )
