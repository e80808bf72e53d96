"""The networks that tests of every network go through."""

from scenebias.models.backbones import BACKBONES

NETWORKS = [name for name in BACKBONES if name not in ("swin3d_s", "swin3d_b")]
"""All but those that are others in a larger size."""
