"""What a stranger must know of weights, as the Hugging Face Hub shows it: a page in Markdown with YAML before it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dali_pipelines.windows import ClipConfig
from scenebias.bias.model_bias import MEASURES
from scenebias.models.weights import WeightsMetadata, clip_config_of
from shards.format.focus import WHOLE_FRAMES

TASK = "video-classification"
"""As the Hub names it."""
LOSSES = {
    "baseline": "to recognise the action alone",
    "scene": "to recognise the action, and against a scene classifier behind a gradient reversal",
    "mask": "to recognise the action, and to be unsure of it where the people are masked out",
    "debias": "to recognise the action, against a scene classifier behind a gradient reversal, and to be unsure of it"
    " where the people are masked out",
    "albar": "to recognise the action, and not to recognise it from one frame that stands still",
}
"""What the network was trained for, by its objective."""


@dataclass(frozen=True, kw_only=True)
class MeasuredBias:
    """What `scenebias bias` has found of the weights."""

    tested_on: str
    values: Mapping[str, float | None]
    """By the names of `MEASURES`; None: unknown."""
    values_clean_bn: Mapping[str, float | None] | None = None
    """The same under BatchNorm's statistics of clean clips; None: there is nothing that they change."""


def card(metadata: WeightsMetadata, title: str, license_name: str | None, bias: MeasuredBias | None) -> str:
    """The page for a folder that holds weights of this description."""
    parts = [
        _front_matter(metadata, title, license_name),
        f"# {title}",
        _what_it_is(metadata),
        _use(clip_config_of(metadata)),
        _trained_on(metadata),
        *([] if not metadata.metrics else [_results(metadata)]),
        *([] if bias is None else [_bias(bias)]),
        "## Classes\n\n" + ", ".join(f"`{name}`" for name in metadata.classes),
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(metadata: WeightsMetadata, title: str, license_name: str | None) -> str:
    """JSON values are YAML too, so that no name can break it."""
    fields: dict[str, Any] = {
        "library_name": "scenebias",
        "pipeline_tag": TASK,
        "tags": [TASK, "action-recognition", "scene-bias", metadata.backbone],
    }
    if license_name is not None:
        fields["license"] = license_name
    if metadata.metrics and metadata.trained_on:
        trained = metadata.trained_on[-1]
        metrics = [
            {"type": "accuracy", "name": name.replace("top", "top-"), "value": metadata.metrics[name]}
            for name in ("top1", "top5")
            if name in metadata.metrics
        ]
        result = {
            "task": {"type": TASK},
            "dataset": {"name": f"{trained.dataset} (validation clips)", "type": trained.dataset},
            "metrics": metrics,
        }
        fields["model-index"] = [{"name": title, "results": [result]}]
    lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in fields.items()]
    return "\n".join(["---", *lines, "---"])


def _what_it_is(metadata: WeightsMetadata) -> str:
    objective = _of(metadata.configuration, "objective", "name")
    composed = _of(metadata.configuration, "compose", "compose")
    aim = f", trained {LOSSES[objective]}" if objective in LOSSES else ""
    made = f" Training clips were composed by {', '.join(composed)}." if composed else ""
    shown = "" if metadata.focus == WHOLE_FRAMES else f" It knows {metadata.focus} alone: cut videos likewise."
    return f"`{metadata.backbone}` for {len(metadata.classes)} actions{aim}.{made}{shown}"


def _use(clip: ClipConfig) -> str:
    return f"""## Use

```python
import scenebias

model = scenebias.load("PATH OF THIS FOLDER")
probabilities = model.predict(frames)  # of model.classes; frames: uint8 RGB (N, H, W, 3), any number and size
```

It sees {clip.frames} frames of {clip.size} x {clip.size} pixels, every {_nth(clip.stride)} of the video's; clips are
cut, resized and normalised by `predict`."""


def _trained_on(metadata: WeightsMetadata) -> str:
    rows = [(str(seen), seen.digest[:12] if seen.digest else "") for seen in metadata.trained_on]
    known = (
        "The weights hold a fingerprint of every clip that they have seen; a test on any of these is refused."
        if metadata.seen_clips is not None
        else "Which clips they have seen is known by these names alone."
    )
    return "## Trained on\n\n" + _table(("data", "digest"), rows) + f"\n\n{known}"


def _results(metadata: WeightsMetadata) -> str:
    rows = [(name.replace("_", " "), f"{value:.4g}") for name, value in sorted(metadata.metrics.items())]
    return "## Validation, after the last epoch\n\n" + _table(("measure", "value"), rows)


def _bias(bias: MeasuredBias) -> str:
    header = ["measure", "", "as saved"]
    columns = [bias.values]
    if bias.values_clean_bn is not None:
        header.append("with BatchNorm statistics of clean clips")
        columns.append(bias.values_clean_bn)
    rows = []
    for name, measure in MEASURES.items():
        values = [column.get(name) for column in columns]
        if any(value is not None for value in values):
            cells = (measure.cell(np.nan if value is None else value) for value in values)
            rows.append((measure.title, measure.arrow, *cells))
    told = f"Measured on {bias.tested_on}; arrows show where a model goes that leans less on the scene."
    return f"## Scene bias\n\n{told}\n\n" + _table(header, rows)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _of(configuration: Mapping[str, Any], group: str, name: str) -> Any:
    found = configuration.get(group)
    return found.get(name) if isinstance(found, Mapping) else None


def _nth(stride: int) -> str:
    return "one" if stride == 1 else f"{stride}{({1: 'st', 2: 'nd', 3: 'rd'}).get(stride, 'th')}"
