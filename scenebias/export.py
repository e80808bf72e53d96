"""``python -m scenebias.export``: weights for other programs and other people."""

from dataclasses import dataclass
from pathlib import Path

from scenebias.commands import Command
from scenebias.publishing.hub_folder import write_hub_folder
from scenebias.publishing.onnx_file import write_onnx
from shards.errors import UserError


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """What to write, of which weights."""

    weights: Path
    """The .safetensors file of a training run, or a folder that --hub has made."""
    onnx: Path | None = None
    """Write the network to this .onnx file: from clips as they are stored, uint8 RGB (B, T, H, W, 3), to logits. What
    onnxruntime makes of it is compared with PyTorch first."""
    hub: Path | None = None
    """A folder to fill as the Hugging Face Hub has it, with a model card; every --weights takes such a folder. The
    paths of this machine are left out. To publish it: huggingface-cli upload USER/NAME FOLDER."""
    title: str | None = None
    """What the model card calls the model. None: the name of the folder."""
    license: str | None = None
    """The license of the weights that the model card states, such as cc-by-4.0."""
    bias: Path | None = None
    """The file of scenebias bias --json in which these weights were measured, for the model card."""

    def __post_init__(self) -> None:
        if self.onnx is None and self.hub is None:
            raise ValueError("onnx or hub must be given: there is nothing to write")
        if self.onnx is not None and self.onnx.suffix != ".onnx":
            raise ValueError(f"onnx must end in .onnx, got {self.onnx}")
        for name in ("title", "license", "bias"):
            if self.hub is None and getattr(self, name) is not None:
                raise ValueError(f"{name} is for a model card: hub must be given")


def main(config: ExportConfig) -> None:
    """Write weights as an ONNX file, or as a folder for the Hugging Face Hub with a model card."""
    out = config.onnx
    try:
        if config.onnx is not None:
            difference = write_onnx(config.weights, config.onnx)
            print(f"{config.onnx}: logits under onnxruntime are those of PyTorch within {difference:.1g}")
        if out := config.hub:
            title = config.title or out.absolute().name
            write_hub_folder(config.weights, out, title, config.license, config.bias)
            print(f"{out}: weights, config.json and a model card; publish it by huggingface-cli upload USER/NAME {out}")
    except OSError as error:
        raise UserError(f"{out} cannot be written ({error.strerror}): choose another place") from error


COMMAND = Command(
    main=main,
    options=ExportConfig,
    writes=("onnx",),
    example="python -m scenebias.export --weights runs/kinetics/weights.safetensors --onnx kinetics.onnx "
    "--hub published/kinetics --bias bias.json --license cc-by-4.0",
)

if __name__ == "__main__":
    COMMAND.run()
