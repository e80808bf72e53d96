"""``python -m scenebias.bias``: the scene bias of a data set, from its scene vectors, and of models trained on it."""

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from rich.console import Console

from dali_pipelines import ClipConfig
from scenebias.bias.clean_statistics import TwofoldBias, with_clean_statistics
from scenebias.bias.data_bias import SceneBias, measure_dataset
from scenebias.bias.gallery import Gallery, make_gallery
from scenebias.bias.measuring import BiasTest
from scenebias.bias.model_bias import MEASURES
from scenebias.clips.still_pictures import STRIPES
from scenebias.commands import Command, null_for_nan, write_output
from scenebias.data.datasets import RemoteConfig, open_pair, require_same_classes, shared_clips_note
from scenebias.distributed.launch import is_main_process
from scenebias.distributed.process_place import distributed_session
from scenebias.models.action_model import MEAN_C, STD_C, VideoClassifier
from scenebias.models.backbones import AnyBackbone
from scenebias.models.own_model import load_own_model
from scenebias.models.published.pretrained import PretrainedName, check_network, weight_files
from scenebias.models.seen_clips import identity_of
from scenebias.models.weights import clip_config_of, ensure_same_focus, ensure_unseen, load_weights, weights_at
from scenebias.reports.html import Section, page, paragraph, table
from scenebias.reports.terminal import number_table, tell
from shards.checks import require_at_least
from shards.dataset import ShardDataset
from shards.errors import UserError
from shards.sources.label_files import read_classes
from shards.system.checksums import sha256_of

BOTH_KINDS = "Two numbers: as saved / with BatchNorm statistics of clean training clips; one where they are alike"


@dataclass(frozen=True, kw_only=True)
class BiasConfig:
    """Which data sets to compare, and which models."""

    train: str
    """Packed data set that the scene classifier is fitted on, and models were trained on: a folder, or its URL."""
    val: str
    """Packed data set that both are tested on."""
    weights: tuple[Path, ...] = ()
    """Weights of training runs: measure how much these models lean on the scene, beside each other."""
    backbone: AnyBackbone | None = None
    """The network of --pretrained. With weights of a network of your own code: package.module:function, which makes it;
    no file alone runs code."""
    pretrained: PretrainedName | None = None
    """Also measure the weights that torchvision publishes of --backbone, trained on Kinetics-400: downloaded, or its
    files among --weights, which do not end in .safetensors."""
    model: tuple[str, ...] = ()
    """Networks of your own, each as package.module:function, which makes a torch.nn.Module from normalised float clips
    (B, C, T, H, W) to logits: measure these too. They see clips cut as --frames, --stride and --size say."""
    classes: Path | None = None
    """With --model: text file with the names of their actions, one a line, in the order of the logits."""
    mean: tuple[float, float, float] = MEAN_C
    """With --model: what is taken from red, green and blue, as 0 to 1, before they are divided by --std."""
    std: tuple[float, float, float] = STD_C
    """With --model: what red, green and blue, as 0 to 1, are divided by."""
    clip: ClipConfig = field(default_factory=ClipConfig)
    scuba: str = STRIPES
    """What stands behind the people of SCUBA's clips: the word stripes, or a folder of still pictures."""
    hat_pairs: Path | None = None
    """A list of HAT's action swaps (a pickle, not run), for its SHAcc and SBErr. None: the pairs of our own swap."""
    html: Path | None = None
    """Write a page to this file: the table, and clips on which the first two models disagree."""
    png: Path | None = None
    """Write these clips alone to this file, as a picture."""
    json: Path | None = None
    """Also write the numbers to this file."""
    batch_size: int = 32
    """Windows per batch, over all processes together."""
    loader_threads: int = 2
    """Decoding threads of each process."""
    seed: int = 0
    """Draws the backgrounds that clips are put on, and noise."""
    force: bool = False
    """Go on even where the weights have seen the clips of --val, or know another part of the frames (--focus of
    packing)."""
    remote: RemoteConfig = field(default_factory=RemoteConfig)

    def __post_init__(self) -> None:
        check_network(self.backbone, self.pretrained)
        require_at_least(1, batch_size=self.batch_size, loader_threads=self.loader_threads)
        for name in ("html", "png"):
            if getattr(self, name) is not None and len(self.weights) + len(self.model) + bool(self.pretrained) < 2:
                raise ValueError(f"{name} shows where two models disagree: weights must be at least two files")
        if (self.classes is None) == bool(self.model):
            raise ValueError("classes must be given where model is, and not without it")
        if not all(value > 0 for value in self.std):
            raise ValueError(f"std must be above 0, got {self.std}")


@dataclass(frozen=True)
class Subject:
    """A model to measure."""

    model: VideoClassifier
    clip: ClipConfig
    """How its training cut clips."""
    weights_sha256: str | None = None
    """Of the file that its weights are of; None: a network of the user's own."""


def load_models(config: BiasConfig, train: ShardDataset, val: ShardDataset) -> tuple[ClipConfig, dict[str, Subject]]:
    """The models of ``config`` by short names, and how they all see clips cut.

    Raises UserError for weights of other classes, trained on the clips of ``val`` or on another part of the frames, or
    that see other clips than the first.
    """
    models = _of_weights(config, train, val) | _own_models(config, train)
    cuts = {
        name: ClipConfig(frames=subject.clip.frames, stride=subject.clip.stride, size=subject.clip.size)
        for name, subject in models.items()
    }
    first = next(iter(cuts))
    for name, cut in cuts.items():
        if cut != cuts[first]:
            raise UserError(f"{name} sees clips cut otherwise than {first}: measure them one at a time")
    return cuts[first], models


def _own_models(config: BiasConfig, train: ShardDataset) -> dict[str, Subject]:
    if config.classes is None:
        return {}
    classes = read_classes(config.classes)
    require_same_classes(
        classes,
        train.manifest.classes,
        f"--classes {config.classes} has other classes than {train.location}",
        "pack the data with the model's list of classes",
    )
    tell("what --model was trained on is not known: nothing tells whether it has seen the clips of --val")
    return {
        place: Subject(load_own_model(place, len(classes), config.clip, config.mean, config.std), config.clip)
        for place in config.model
    }


def _of_weights(config: BiasConfig, train: ShardDataset, val: ShardDataset) -> dict[str, Subject]:
    weights = weight_files(config.weights, config.pretrained, config.backbone, "--weights")
    folders = [(path if path.is_dir() else path.parent).absolute().name for path in weights]
    names = folders if len(set(folders)) == len(folders) else list(map(str, weights))
    models = {}
    for name, path in zip(names, weights, strict=True):
        model, metadata = load_weights(path, config.backbone)
        require_same_classes(
            train.manifest.classes,
            metadata.classes,
            f"{train.location} has other classes than {path}",
            "give the data that the weights were trained on",
        )
        tell(ensure_unseen(path, metadata, val, force=config.force))
        ensure_same_focus(path, metadata.focus, val, force=config.force)
        models[name] = Subject(model, clip_config_of(metadata), sha256_of(weights_at(path)))
    return models


def measure_models(test: BiasTest, subjects: Mapping[str, Subject]) -> dict[str, TwofoldBias]:
    """`BiasTest.measure` of every model, by its name, as it is and under the statistics of clean training clips."""
    biases = {}
    for name, subject in subjects.items():
        model = subject.model.to(test.place.device).to(memory_format=torch.channels_last_3d)
        clean = with_clean_statistics(model, subject.clip, test.train, test.place, threads=test.threads)
        biases[name] = TwofoldBias(test.measure(model), None if clean is None else test.measure(clean))
    return biases


def _dataset_rows(result: SceneBias) -> list[tuple[str, ...]]:
    return [
        ("M(D, scene): action from the scene vector", f"{100 * result.accuracy:.1f} %"),
        ("chance", f"{100 * result.chance:.1f} %"),
        ("B_scene = ln(M / chance)", f"{result.bias:.2f}"),
    ]


def _model_rows(biases: Mapping[str, TwofoldBias]) -> list[tuple[str, ...]]:
    return [
        (measure.title, measure.arrow, *(bias.cell(name, measure) for bias in biases.values()))
        for name, measure in MEASURES.items()
    ]


def _notes(biases: Mapping[str, TwofoldBias]) -> list[str]:
    """What must be known to read the table: what depends on BatchNorm's statistics, and what is not there, and why."""
    remarks = [bias.remark(name, MEASURES) for name, bias in biases.items()]
    reasons = sorted({reason for bias in biases.values() for reason in bias.saved.reasons.values()})
    return [remark for remark in remarks if remark] + [f"Not measured: {reason}." for reason in reasons]


def _plain(bias: TwofoldBias) -> dict[str, Any]:
    """As JSON has it: what could not be measured is null."""
    clean_values = None if bias.clean_bn is None else null_for_nan(bias.clean_bn.values)
    return {
        "values": null_for_nan(bias.saved.values),
        "values_clean_bn": clean_values,
        "reasons": bias.saved.reasons,
    }


def _page(dataset: str, result: SceneBias, biases: Mapping[str, TwofoldBias], gallery: Gallery) -> str:
    notes = ["Arrows show where a model goes that leans less on the scene.", f"{BOTH_KINDS}.", *_notes(biases)]
    models = table(("measure", "", *biases), _model_rows(biases)) + "".join(map(paragraph, notes))
    sections = [
        Section("The data", table(("measure", "value"), _dataset_rows(result))),
        Section("The models", models),
        gallery.section(),
    ]
    return page(f"Scene bias of {dataset}", sections)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()


def main(config: BiasConfig) -> None:
    """Scene bias of a data set: how well its scenes alone tell the action (RESOUND; Choi et al. 2019).

    With --weights or --model also of models: their accuracy where humans are hidden or stand before another scene's
    background.
    """
    train, val = open_pair(config.train, config.val, config.remote)
    tell(shared_clips_note(train, val))
    result = measure_dataset(train, val)
    numbers: dict[str, Any] = {"accuracy": result.accuracy, "chance": result.chance, "bias": result.bias}
    table_of_data = number_table(f"Scene bias of {train.manifest.dataset}", ("measure", "value"), _dataset_rows(result))
    if not (config.weights or config.model or config.pretrained):
        if is_main_process():
            Console().print(table_of_data)
            if config.json is not None:
                write_output(config.json, numbers)
        return
    clip, models = load_models(config, train, val)
    with distributed_session() as place:
        test = BiasTest.prepare(
            clip,
            train,
            val,
            place,
            batch_size=config.batch_size,
            threads=config.loader_threads,
            seed=config.seed,
            needs_swaps=config.html is not None or config.png is not None,
            scuba=config.scuba,
            hat_pairs=config.hat_pairs,
        )
        biases = measure_models(test, models)
        if not place.is_main:
            return
        Console().print(table_of_data)
        header = ("measure", "", *biases)
        Console().print(
            number_table("of models trained on it", header, _model_rows(biases), texts=2, caption=BOTH_KINDS)
        )
        if test.hat_listed is not None:
            print(f"HAT's swap: {len(test.hat_swaps.sample_M)} of the {test.hat_listed} pairs of {config.hat_pairs}")
        for note in _notes(biases):
            print(note)
        if config.json is not None:
            of_models = {
                name: {"weights_sha256": models[name].weights_sha256} | _plain(bias) for name, bias in biases.items()
            }
            write_output(config.json, numbers | {"val": str(identity_of(val)), "models": of_models})
        if config.html is not None or config.png is not None:
            gallery = make_gallery(test, {name: bias.saved for name, bias in biases.items()})
            _write_gallery(config, train.manifest.dataset, result, biases, gallery)


def _write_gallery(
    config: BiasConfig, dataset: str, result: SceneBias, biases: Mapping[str, TwofoldBias], gallery: Gallery
) -> None:
    if config.html is not None:
        write_output(config.html, _page(dataset, result, biases, gallery))
        print(f"page: {config.html}")
    if config.png is not None:
        write_output(config.png, _png(gallery.figure()))
        print(f"picture: {config.png}")


COMMAND = Command(
    main=main,
    options=BiasConfig,
    parallel=True,
    writes=("json", "html", "png"),
    example="python -m scenebias.bias --train data/jhmdb/train --val data/jhmdb/test "
    "--weights runs/jhmdb-baseline/weights.safetensors runs/jhmdb-debias/weights.safetensors "
    "--html data/jhmdb/bias.html",
)
