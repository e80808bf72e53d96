"""An action model as an ONNX file, for programs without PyTorch; checked with onnxruntime before it is there.

Shape suffixes: B clips, T frames, H rows, W columns, C colours; A actions.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from scenebias.models.action_model import ActionModel
from scenebias.models.weights import clip_config_of, load_weights, weights_at
from shards.errors import UserError
from shards.system.atomic import atomic_write
from shards.system.checksums import sha256_of

if TYPE_CHECKING:
    import onnx

INPUT, OUTPUT = "clip", "logits"
"""uint8 RGB (B, T, H, W, 3) of any B, cut as `ClipTransform` cuts; float32 (B, A)."""
LARGEST_DIFFERENCE = 1e-4
"""Between the logits of PyTorch and of onnxruntime, in units of the largest of them, or of 1 where that is smaller."""
CHECKED_BATCHES = (1, 3)
NEEDED = 'ONNX files need more packages: pip install -e ".[onnx]"'


def write_onnx(weights: Path, out: Path) -> float:
    """Write the model of ``weights``, its normalisation of pixels included; returns the largest difference found.

    The file's metadata hold the classes, how clips are cut, and the SHA-256 of the weight file.

    Raises:
        UserError: the weights cannot be read, packages are missing, or onnxruntime comes to other logits.
    """
    model, metadata = load_weights(weights)
    clip = clip_config_of(metadata)
    model.eval()
    size = (clip.frames, clip.size, clip.size, 3)
    content = _converted(model, size)
    difference = _difference(model, content.SerializeToString(), size)
    if not difference <= LARGEST_DIFFERENCE:
        raise UserError(
            f"{weights}: as an ONNX file it comes to other logits under onnxruntime, by {difference:.2g}: nothing was"
            " written; try other versions of torch and onnxruntime"
        )
    described = {
        "classes": json.dumps(metadata.classes, ensure_ascii=False),
        "clip": json.dumps({"frames": clip.frames, "stride": clip.stride, "size": clip.size}),
        "backbone": metadata.backbone,
        "focus": str(metadata.focus),
        "weights_sha256": sha256_of(weights_at(weights)),
    }
    for key, value in described.items():
        content.metadata_props.add(key=key, value=value)
    with atomic_write(out) as file:
        file.write(content.SerializeToString())
    return difference


def _converted(model: ActionModel, size: tuple[int, ...]) -> "onnx.ModelProto":
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(NEEDED) from error
    clip_BTHWC = torch.zeros(2, *size, dtype=torch.uint8)
    program = torch.onnx.export(
        model,
        (clip_BTHWC,),
        dynamo=True,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_shapes=({0: torch.export.Dim("clips")},),
        verbose=False,
    )
    assert program is not None
    return program.model_proto


def _difference(model: ActionModel, content: bytes, size: tuple[int, ...]) -> float:
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(NEEDED) from error
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    worst = 0.0
    for count in CHECKED_BATCHES:
        clip_BTHWC = random.integers(0, 256, (count, *size), dtype=np.uint8)
        (found_BA,) = session.run([OUTPUT], {INPUT: clip_BTHWC})
        with torch.inference_mode():
            expected_BA = model(torch.from_numpy(clip_BTHWC)).numpy()
        worst = max(worst, float(np.abs(found_BA - expected_BA).max()) / max(1.0, float(np.abs(expected_BA).max())))
    return worst
