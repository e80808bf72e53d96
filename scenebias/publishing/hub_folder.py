"""Weights as a folder that the Hugging Face Hub shows and others load: config.json, model.safetensors, README.md."""

import json
from pathlib import Path
from typing import Any

from scenebias.models.weights import (
    HUB_WEIGHTS_NAME,
    WeightsMetadata,
    clip_config_of,
    copy_for_others,
    read_metadata,
    weights_at,
)
from scenebias.publishing.model_card import MeasuredBias, card
from shards.errors import UserError
from shards.system.atomic import atomic_write, write_json
from shards.system.checksums import sha256_of
from shards.system.locks import locked_folder

CONFIG_NAME, CARD_NAME = "config.json", "README.md"


def write_hub_folder(weights: Path, folder: Path, title: str, license_name: str | None, bias: Path | None) -> None:
    """Write ``weights`` and what a stranger must know of them into ``folder``, which is made.

    ``bias`` is the file of ``scenebias bias --json`` in which they were measured.

    Raises:
        UserError: a file cannot be read, or ``bias`` is of other weights.
    """
    metadata = read_metadata(weights)
    measured = None if bias is None else _measured(bias, weights)
    page = card(metadata, title, license_name, measured)
    with locked_folder(folder, f"--hub {folder}", "writing into"):
        copy_for_others(weights, folder / HUB_WEIGHTS_NAME)
        write_json(folder / CONFIG_NAME, _config(metadata))
        with atomic_write(folder / CARD_NAME) as file:
            file.write(page.encode())


def _config(metadata: WeightsMetadata) -> dict[str, Any]:
    """What programs look for, by the names that Transformers gives it; scenebias reads the weight file alone."""
    clip = clip_config_of(metadata)
    return {
        "library_name": "scenebias",
        "architectures": [metadata.backbone],
        "num_frames": clip.frames,
        "frame_stride": clip.stride,
        "image_size": clip.size,
        "id2label": {str(index): name for index, name in enumerate(metadata.classes)},
        "label2id": {name: index for index, name in enumerate(metadata.classes)},
    }


def _measured(path: Path, weights: Path) -> MeasuredBias:
    """What that file says of those weights."""
    digest = sha256_of(weights_at(weights))
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        for model in found.get("models", {}).values():
            if model.get("weights_sha256") == digest:
                return MeasuredBias(
                    tested_on=found["val"], values=model["values"], values_clean_bn=model["values_clean_bn"]
                )
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise UserError(f"--bias {path} cannot be read ({error}): give the file of scenebias bias --json") from error
    raise UserError(
        f"--bias {path} measures other weights than {weights}: give the file that scenebias bias --weights {weights}"
        " --json has written"
    )
