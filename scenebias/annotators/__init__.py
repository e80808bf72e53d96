"""Readers of annotations that others have made: where the people are, and what the scene is."""

from scenebias.annotators.human_masks import JhmdbMasks, MaskFolder, NumpyMasks, open_mask_source
from scenebias.annotators.scene_labels import SceneFile

__all__ = ["JhmdbMasks", "MaskFolder", "NumpyMasks", "SceneFile", "open_mask_source"]
