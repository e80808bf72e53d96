"""``--pretrained kinetics400``: torchvision's published weights in place of a weight file of ours.

They become such a file, in the cache of ``torch.hub``, as ``python -m scenebias.import_weights`` makes it: so whatever
takes weights takes them, with their 400 classes, and knows what they were trained on.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, cast, get_args

from dali_pipelines.windows import ClipConfig
from scenebias.models.backbones import AnyBackbone
from scenebias.models.network_inputs import input_of
from scenebias.models.own_network import is_own
from scenebias.models.published.published_weights import hub_folder
from scenebias.models.published.torchvision_weights import (
    TorchvisionNetwork,
    load_published,
    published_metadata,
    published_url,
    video_rate,
)
from scenebias.models.weights import FORMAT_VERSION, save_weights
from shards.errors import UserError
from shards.system.checksums import sha256_of

PretrainedName = Literal["kinetics400"]


def check_network(backbone: AnyBackbone | None, pretrained: PretrainedName | None) -> None:
    """ValueError where a network is named that neither ``pretrained`` nor weights of a user's own code ask for."""
    if backbone is not None and pretrained is None and not is_own(backbone):
        raise ValueError(
            f"backbone must be package.module:function without pretrained, as weights know of other networks, got"
            f" {backbone!r}"
        )


def weight_files(
    given: Sequence[Path], pretrained: PretrainedName | None, backbone: AnyBackbone | None, option: str
) -> tuple[Path, ...]:
    """The weight files of ours that ``option`` has ``given``; with ``pretrained`` those of torchvision's become such.

    They are known by not ending in ``.safetensors``, and are of the network ``backbone``. Where there are none among
    them, the published one is downloaded, and comes last.

    Raises:
        UserError: torchvision publishes no weights of that network, or they cannot be downloaded, read or kept.
    """
    if pretrained is None:
        return tuple(given)
    network = _published_network(pretrained, backbone)
    files = [path if path.suffix == ".safetensors" else _as_ours(network, path, option) for path in given]
    if all(path.suffix == ".safetensors" for path in given):
        files.append(_as_ours(network, None, option))
    return tuple(files)


def weight_file(
    given: Path | None, pretrained: PretrainedName | None, backbone: AnyBackbone | None, option: str
) -> Path | None:
    """The same of at most one file; UserError where there is a file of ours beside ``pretrained``."""
    files = weight_files(() if given is None else (given,), pretrained, backbone, option)
    if len(files) > 1:
        raise UserError(
            f"{option} {given} is no file of torchvision's: leave out --pretrained, or give the file that torchvision"
            " publishes"
        )
    return next(iter(files), None)


def needed_weight_file(given: Path | None, pretrained: PretrainedName | None, backbone: AnyBackbone | None) -> Path:
    """The same of ``--weights``, where one is needed; UserError where there is none."""
    weights = weight_file(given, pretrained, backbone, "--weights")
    if weights is None:
        raise UserError("--weights must be given, or --pretrained kinetics400, and its network as --backbone")
    return weights


def clip_to_train_on(backbone: AnyBackbone, pretrained: str | None) -> ClipConfig:
    """How the network's clips are cut by default: as it takes them, and as fast as those that it was pretrained on."""
    clip = input_of(backbone).clip
    return clip if pretrained is None else video_rate(clip)


def _published_network(pretrained: PretrainedName, backbone: AnyBackbone | None) -> TorchvisionNetwork:
    networks = get_args(TorchvisionNetwork)
    if backbone not in networks:
        missing = "no network is named" if backbone is None else f"there are none of {backbone}"
        raise UserError(
            f"--pretrained {pretrained} are weights of torchvision's, and {missing}: pass --backbone with one of"
            f" {', '.join(networks)}"
        )
    return cast("TorchvisionNetwork", backbone)


def _as_ours(network: TorchvisionNetwork, path: Path | None, option: str) -> Path:
    """The weight file of ours that holds what is in ``path``, or in the file that torchvision publishes."""
    if path is not None and not path.is_file():
        raise UserError(f"{option} {path}: no such file; give the file that torchvision publishes of {network}")
    source = Path(published_url(network)).stem if path is None else sha256_of(path)[:16]
    folder = hub_folder() / "scenebias" / f"v{FORMAT_VERSION}-{source}" / f"kinetics400-{network}"
    ours = folder / "weights.safetensors"
    if not ours.is_file():
        published = load_published(network, path, option)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            save_weights(ours, published.model, published_metadata(published, {}))
        except OSError as error:
            raise UserError(f"{ours} cannot be written ({error.strerror}): set TORCH_HOME to another place") from error
    return ours
