"""``python -m scenebias.evaluate`` (or ``torchrun … -m``): accuracy of trained weights on packed data sets."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dali_pipelines import ProtocolConfig
from scenebias.clips.masked_clip import Fill
from scenebias.clips.views import hide_humans
from scenebias.commands import Command, write_output
from scenebias.data.datasets import RemoteConfig, require_same_classes
from scenebias.distributed.process_place import distributed_session
from scenebias.evaluation.accuracy import evaluate_model, evaluation_loader_for
from scenebias.evaluation.predictions import save_predictions
from scenebias.models.weights import clip_config_of, ensure_unseen, identity_of, load_weights
from shards.checks import require_at_least
from shards.errors import UserError


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """What to evaluate on what."""

    weights: Path
    """Weights of a training run."""
    data: tuple[str, ...]
    """One or more packed data sets with the classes of the weights: folders, or their URLs."""
    hide_humans: Fill | None = None
    """Mask the humans out of every clip first: how much does the model read from the scene alone?"""
    batch_size: int = 32
    """Windows per batch, over all processes together."""
    loader_threads: int = 2
    """Decoding threads of each process."""
    json: Path | None = None
    """Also write the numbers to this file."""
    predictions: Path | None = None
    """Also write the prediction for every clip to this file, an .npz of plain arrays; of one data set alone."""
    force: bool = False
    """Go on even where the weights have seen the clips."""
    protocol: ProtocolConfig = field(default_factory=ProtocolConfig)
    remote: RemoteConfig = field(default_factory=RemoteConfig)

    def __post_init__(self) -> None:
        require_at_least(1, batch_size=self.batch_size, loader_threads=self.loader_threads)
        if not self.data:
            raise ValueError("data must name at least one packed data set")
        if self.predictions is not None and len(self.data) > 1:
            raise ValueError(f"predictions are written of one data set, and data names {len(self.data)}")


def main(config: EvaluateConfig) -> None:
    """Accuracy of trained weights: mean softmax over the windows of a clip, every clip counted once."""
    model, metadata = load_weights(config.weights)
    datasets = [config.remote.open(location) for location in config.data]
    for dataset in datasets:
        require_same_classes(
            dataset.manifest.classes,
            metadata.classes,
            f"{dataset.location} has other classes than {config.weights}",
            "give data of the same classes, or make a new head with python -m scenebias.transfer",
        )
        if config.hide_humans is not None and dataset.mask_count < len(dataset):
            raise UserError(
                f"{dataset.location} has human masks for {dataset.mask_count} of its {len(dataset)} clips, and all are"
                " needed to hide them: pack it again with tools/make_shards.py --masks"
            )
        ensure_unseen(metadata.trained_on, identity_of(dataset), force=config.force)
    change = None if config.hide_humans is None else hide_humans(config.hide_humans)
    table = Table("data", "clips", "top-1 %", "top-5 %", "mean class %", "entropy", title=escape(str(config.weights)))
    results = {}
    with distributed_session() as place:
        model.to(place.device).to(memory_format=torch.channels_last_3d)
        for dataset in datasets:
            loader = evaluation_loader_for(
                dataset,
                clip_config_of(metadata),
                place,
                batch_size=config.batch_size,
                threads=config.loader_threads,
                protocol=config.protocol,
            )
            evaluation = evaluate_model(model, loader, model.action_count, place, change=change)
            if config.predictions is not None and place.is_main:
                save_predictions(config.predictions, evaluation, dataset)
            numbers = evaluation.summary()
            results[str(dataset.location)] = numbers
            percentages = [f"{100 * numbers[name]:.1f}" for name in ("top1", "top5", "mean_class_accuracy")]
            name = escape(str(dataset.location))
            table.add_row(name, f"{numbers['clips']:.0f}", *percentages, f"{numbers['entropy']:.2f}")
        if place.is_main:
            Console().print(table)
            if config.json is not None:
                write_output(config.json, results)


COMMAND = Command(
    main=main,
    options=EvaluateConfig,
    parallel=True,
    example="python -m scenebias.evaluate --weights runs/jhmdb-debias/weights.safetensors "
    "--data data/jhmdb/test --hide-humans frame_mean",
)

if __name__ == "__main__":
    COMMAND.run()
