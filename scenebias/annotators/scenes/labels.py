"""Ready-made scene labels: which reader understands them."""

from collections.abc import Sequence
from pathlib import Path

from scenebias.annotators.clip_names import refuse_ambiguous_names
from scenebias.annotators.networks.options import SCENE_NETWORKS
from scenebias.annotators.scenes.categories import read_scene_categories
from scenebias.annotators.scenes.dictionaries import SceneDictionaries
from scenebias.annotators.scenes.hard_labels import HardSceneLabels
from scenebias.annotators.scenes.probabilities import SceneFile
from shards.errors import UserError
from shards.packing.annotations import SceneSource
from shards.sources.listing import ClipEntry


def open_scene_source(path: Path, entries: Sequence[ClipEntry], categories_path: Path | None = None) -> SceneSource:
    """Return the reader of ``path``: a folder or ``.npy`` file is SDN's, ``.json`` hard labels, any other ``.npz``.

    ``categories_path`` is Places365's ``categories_places365.txt``. The order of the categories is compared with it
    where the labels tell theirs, and hard labels may then be names.

    Raises:
        UserError: the labels or the categories cannot be read, contradict each other, or fit none of ``entries``.
    """
    if not path.suffix and not path.exists():
        raise UserError(
            f"--scenes {path}: no such file or folder, and no network; give the scene labels, a network"
            f" ({', '.join(SCENE_NETWORKS)}), or 'none' to pack without"
        )
    categories = read_scene_categories(categories_path) if categories_path else None
    source: SceneSource
    if path.is_dir() or path.suffix == ".npy":
        source = SceneDictionaries(path, entries)
    elif path.suffix == ".json":
        source = HardSceneLabels(path, entries, categories_path)
    else:
        source = SceneFile(path, categories)
    if not any(entry in source for entry in entries):
        wanted = f", such as {entries[0].name}" if entries else ""
        raise UserError(
            f"--scenes {path}: no scene label for any of the {len(entries)} clips{wanted}; "
            "label the scenes of these very videos, or give 'none'"
        )
    refuse_ambiguous_names(f"--scenes {path}", entries, lambda entry: entry in source)
    return source
