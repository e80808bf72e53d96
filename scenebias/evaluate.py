"""``python -m scenebias.evaluate`` (or ``torchrun … -m``): accuracy of trained weights on packed data sets."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from dali_pipelines import ClipConfig, ProtocolConfig
from scenebias.clips.views import HiddenFill, hide_humans
from scenebias.commands import Command, write_output
from scenebias.data.datasets import RemoteConfig, require_same_classes
from scenebias.distributed.process_place import ProcessPlace, distributed_session
from scenebias.evaluation.accuracy import Evaluation, evaluation_loader_for
from scenebias.evaluation.joined import evaluate_joined
from scenebias.evaluation.masked_windows import find_masked_windows
from scenebias.evaluation.precision import PrecisionConfig
from scenebias.evaluation.prediction_file import save_predictions
from scenebias.models.action_model import ActionModel
from scenebias.models.backbones import AnyBackbone
from scenebias.models.published.pretrained import PretrainedName, check_network, needed_weight_file
from scenebias.models.weights import clip_config_of, ensure_same_focus, ensure_unseen, load_weights
from scenebias.reports.terminal import number_table, tell
from shards.checks import require_at_least
from shards.errors import UserError
from shards.joined_dataset import JoinedDataset


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """What to evaluate on what."""

    weights: Path | None = None
    """Weights of a training run."""
    backbone: AnyBackbone | None = None
    """The network of --pretrained. With weights of a network of your own code: package.module:function, which makes it;
    no file alone runs code."""
    pretrained: PretrainedName | None = None
    """Evaluate the weights that torchvision publishes of --backbone, trained on Kinetics-400: downloaded, or its file
    that --weights names."""
    data: tuple[str, ...]
    """One or more packed data sets with the classes of the weights, all or some of them: folders, or their URLs."""
    hide_humans: HiddenFill | None = None
    """Hide the humans first, of the clips with an effective mask: how much is read from the scene alone?"""
    batch_size: int = 32
    """Windows per batch, over all processes together."""
    loader_threads: int = 2
    """Decoding threads of each process."""
    json: Path | None = None
    """Also write the numbers to this file."""
    predictions: Path | None = None
    """Also write the prediction for every clip to this file, an .npz of plain arrays; of one data set alone."""
    force: bool = False
    """Go on even where the weights have seen the clips, or know another part of the frames (--focus of packing)."""
    precision: PrecisionConfig = field(default_factory=PrecisionConfig)
    protocol: ProtocolConfig = field(default_factory=ProtocolConfig)
    remote: RemoteConfig = field(default_factory=RemoteConfig)

    def __post_init__(self) -> None:
        check_network(self.backbone, self.pretrained)
        require_at_least(1, batch_size=self.batch_size, loader_threads=self.loader_threads)
        if not self.data:
            raise ValueError("data must name at least one packed data set")
        if self.predictions is not None and len(self.data) > 1:
            raise ValueError(f"predictions are written of one data set, and data names {len(self.data)}")


def main(config: EvaluateConfig) -> None:
    """Accuracy of trained weights: mean softmax over the windows of a clip, every clip counted once."""
    weights = needed_weight_file(config.weights, config.pretrained, config.backbone)
    model, metadata = load_weights(weights, config.backbone)
    datasets = [config.remote.open(location) for location in config.data]
    for dataset in datasets:
        if not set(dataset.classes) <= set(metadata.classes):
            require_same_classes(
                dataset.classes,
                metadata.classes,
                f"{dataset.location} has other classes than {weights}",
                "give data of the same classes, or make a new head with python -m scenebias.transfer",
            )
        if len(dataset.classes) < len(metadata.classes):
            tell(
                f"{dataset.location} has {len(dataset.classes)} of the {len(metadata.classes)} classes of"
                f" {weights}, which may predict any of them"
            )
        if config.hide_humans is not None and not dataset.has_masks:
            raise UserError(
                f"{dataset.location} has no human masks, and they are needed to hide the humans: pack it again with"
                " tools/make_shards.py --masks"
            )
        tell(ensure_unseen(weights, metadata, dataset, force=config.force))
        ensure_same_focus(weights, metadata.focus, dataset, force=config.force)
    results: dict[str, dict[str, float]] = {}
    with distributed_session() as place:
        model.to(place.device).to(memory_format=torch.channels_last_3d)
        for dataset in datasets:
            data = JoinedDataset((dataset,), metadata.classes)
            results[data.location] = evaluate(config, model, clip_config_of(metadata), data, place).summary()
        if place.is_main:
            Console().print(results_table(str(weights), results))
            if config.json is not None:
                write_output(config.json, results | {"eval_precision": config.precision.eval_precision})


def evaluate(
    config: EvaluateConfig, model: ActionModel, clip: ClipConfig, data: JoinedDataset, place: ProcessPlace
) -> Evaluation:
    """What ``model`` predicts for the clips of ``data``, a single set, or for those whose humans can be hidden.

    Writes the predictions where they are asked for. UserError where no clip has an effective mask.
    """
    (dataset,) = data.datasets
    loader_for = partial(
        evaluation_loader_for,
        dataset,
        clip,
        place,
        batch_size=config.batch_size,
        threads=config.loader_threads,
        protocol=config.protocol,
    )
    loader, change = loader_for(), None
    if config.hide_humans is not None:
        number_W = find_masked_windows(loader, place).number_W
        if not len(number_W):
            raise UserError(
                f"{dataset.location} has no clip with an effective human mask, so no humans to hide: choose other data"
            )
        loader, change = loader_for(order=number_W), partial(hide_humans, fill=config.hide_humans)
        if place.is_main and len(loader.samples) < len(dataset):
            print(
                f"{dataset.location}: {len(loader.samples)} of {len(dataset)} clips have an effective human mask; the"
                " others are left out"
            )
    evaluation = evaluate_joined(model, [loader], data, place, change=change, precision=config.precision.eval_precision)
    if config.predictions is not None and place.is_main:
        save_predictions(config.predictions, evaluation, data, loader.samples.tolist())
    return evaluation


def results_table(title: str, results: Mapping[str, Mapping[str, float]]) -> Table:
    """One line a data set."""
    shares = ("top1", "top5", "mean_class_accuracy")
    rows = [
        (name, f"{found['clips']:.0f}", *(f"{100 * found[share]:.1f}" for share in shares), f"{found['entropy']:.2f}")
        for name, found in results.items()
    ]
    return number_table(title, ("data", "clips", "top-1 %", "top-5 %", "mean class %", "entropy"), rows)


COMMAND = Command(
    main=main,
    options=EvaluateConfig,
    parallel=True,
    writes=("json", "predictions"),
    example="python -m scenebias.evaluate --weights runs/jhmdb-debias/weights.safetensors "
    "--data data/jhmdb/test --hide-humans frame_mean",
)

if __name__ == "__main__":
    COMMAND.run()
