"""Readers of annotations that others have made: where the people are, and what the scene is."""

from scenebias.annotators.masks.box_masks import BOX_SCORE, BoxMasks
from scenebias.annotators.masks.human_masks import JhmdbMasks, NumpyMasks, PngMasks, open_mask_source
from scenebias.annotators.masks.mask_folder import MaskFolder
from scenebias.annotators.scenes.categories import read_scene_categories, scene_categories
from scenebias.annotators.scenes.dictionaries import SceneDictionaries
from scenebias.annotators.scenes.hard_labels import HardSceneLabels
from scenebias.annotators.scenes.labels import open_scene_source
from scenebias.annotators.scenes.probabilities import SceneFile

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
    "scene_categories",
]
