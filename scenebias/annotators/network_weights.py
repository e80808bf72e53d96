"""Published weights of image networks: fetched, or read from a file, and checked. Nothing but tensors is unpickled."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from shards.errors import UserError


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
        content = self._fetch() if path is None else self._read(path)
        origin = self.url if path is None else f"{self.option} {path}"
        if isinstance(content, dict):
            content = content.get("state_dict", content)
        if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
            raise UserError(f"{origin}: holds no state dict; {self._remedy}")
        misfits = _load({str(name).removeprefix("module."): tensor for name, tensor in content.items()}, model)
        if misfits:
            raise UserError(
                f"{origin}: {len(misfits)} tensors do not fit {self.network} (first: {misfits[0]}); {self._remedy}"
            )
        if not all(tensor.isfinite().all() for tensor in model.state_dict().values()):
            raise UserError(f"{origin}: its weights are not all finite numbers; {self._remedy}")
        return _sha256(model)

    @property
    def _remedy(self) -> str:
        return f"give the published weights of {self.network}, {self.url}"

    def _fetch(self) -> Any:
        try:
            return torch.hub.load_state_dict_from_url(self.url, map_location="cpu", check_hash=True, weights_only=True)
        except Exception as error:  # of the net or the disk, or a dozen types for a damaged copy in the cache
            raise UserError(
                f"the weights of {self.network} cannot be fetched from {self.url} to {torch.hub.get_dir()} "
                f"({_first_line(error)}); fetch that file by hand and give it as {self.option} FILE"
            ) from error

    def _read(self, path: Path) -> Any:
        if not path.is_file():
            raise UserError(f"{self.option} {path}: no such file; {self._remedy}")
        try:
            if path.suffix == ".safetensors":
                return load_file(path)
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch meets a damaged file with errors of a dozen types
            if foreign := re.search(r"GLOBAL (\S+)", str(error)):
                raise UserError(
                    f"{self.option} {path}: holds an object of {foreign[1]}, and only tensors are unpickled; where you "
                    f"trust it, convert it with torch.save(torch.load('{path.name}', weights_only=False).state_dict(), "
                    f"'converted.pth'), or {self._remedy}"
                ) from error
            raise UserError(
                f"{self.option} {path}: no file of weights, or a damaged one ({_first_line(error)}); {self._remedy}"
            ) from error


def _load(tensors: dict[str, Tensor], model: nn.Module) -> list[str]:
    """Load ``tensors``; return what does not fit."""
    try:
        # It also knows the names that older versions of the layers gave their weights.
        misfits = model.load_state_dict(tensors, strict=False)
    except RuntimeError as error:  # shapes: a heading, then one line each
        return [line.strip() for line in str(error).splitlines()[1:]]
    missing = [f"{name} is missing" for name in misfits.missing_keys]
    return missing + [f"{name} is unknown" for name in misfits.unexpected_keys]


def _sha256(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
