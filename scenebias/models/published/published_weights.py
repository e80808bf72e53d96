"""Published weights of networks: fetched, or read from a file, and checked. Nothing but tensors is unpickled."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from scenebias.models.published.foreign_weights import first_line, load_all, read_file, state_dict_in
from shards.errors import UserError
from shards.system.home import usable_folder

_DEFAULT_HUB = Path("~/.cache/torch/hub")


@dataclass(frozen=True, kw_only=True)
class PublishedWeights:
    """Where the weights of a network come from."""

    network: str
    """Name of the network."""
    url: str
    """The file that its authors publish. Where its name ends in ``-<hash>``, a download is checked against it."""
    option: str
    """The option by which users give a file of their own."""

    def load_into(self, model: nn.Module, path: Path | None) -> str:
        """Load ``path`` into ``model``; None: a download, kept in the cache of ``torch.hub``.

        A file holds the state dict, bare or as ``state_dict`` of a checkpoint, in PyTorch's format or as
        ``.safetensors``; names may begin with the ``module.`` of ``DataParallel``.

        Returns:
            SHA-256 of the loaded weights, whatever the format of the file.

        Raises:
            UserError: the file is missing, damaged, of another network or holds more than tensors and plain values, or
                the download failed.
        """
        remedy = f"give the published weights of {self.network}, {self.url}"
        origin = self.url if path is None else f"{self.option} {path}"
        content = self._fetch() if path is None else read_file(path, origin=origin, remedy=remedy)
        tensors = state_dict_in(content, origin=origin, remedy=remedy)
        load_all(tensors, model, name=self.network, origin=origin, remedy=remedy)
        return _sha256(model)

    def _fetch(self) -> Any:
        hub = hub_folder()
        try:
            return torch.hub.load_state_dict_from_url(
                self.url, model_dir=str(hub / "checkpoints"), map_location="cpu", check_hash=True, weights_only=True
            )
        except Exception as error:  # of the net or the disk, or a dozen types for a damaged copy in the cache
            raise UserError(
                f"the weights of {self.network} cannot be fetched from {self.url} to {hub} "
                f"({first_line(error)}); fetch that file by hand and give it as {self.option} FILE"
            ) from error


def hub_folder() -> Path:
    """The cache of ``torch.hub``, or one that can be written where it lies below a home folder that cannot."""
    hub = Path(torch.hub.get_dir())
    try:
        is_default = hub == _DEFAULT_HUB.expanduser()
    except RuntimeError:  # nobody knows where home is
        is_default = hub == _DEFAULT_HUB
    return usable_folder(_DEFAULT_HUB) if is_default else hub


def _sha256(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
