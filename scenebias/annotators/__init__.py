"""Readers of annotations that others have made: where the people are, and what the scene is."""

from scenebias.annotators.box_masks import BOX_SCORE, BoxMasks
from scenebias.annotators.human_masks import JhmdbMasks, NumpyMasks, PngMasks, open_mask_source
from scenebias.annotators.mask_folder import MaskFolder
from scenebias.annotators.scene_categories import read_scene_categories
from scenebias.annotators.scene_dictionaries import SceneDictionaries
from scenebias.annotators.scene_file import SceneFile
from scenebias.annotators.scene_hard_labels import HardSceneLabels
from scenebias.annotators.scene_labels import open_scene_source

__all__ = [
    "BOX_SCORE",
    "BoxMasks",
    "HardSceneLabels",
    "JhmdbMasks",
    "MaskFolder",
    "NumpyMasks",
    "PngMasks",
    "SceneDictionaries",
    "SceneFile",
    "open_mask_source",
    "open_scene_source",
    "read_scene_categories",
]
