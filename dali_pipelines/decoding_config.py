"""Where a loader decodes, and how NVIDIA's decoder is set; needs neither DALI nor PyTorch."""

from dataclasses import dataclass
from typing import Literal, get_args

from shards.checks import require_at_least

LoaderDevice = Literal["auto", "cpu", "gpu"]


@dataclass(frozen=True, kw_only=True)
class DecodingConfig:
    """Where a loader decodes, and how a GPU's decoder is set."""

    loader_device: LoaderDevice = "auto"
    """Where clips are decoded and cropped; they always end where the network is. auto: there, unless DALI cannot use
    that GPU, or the GPU not the clips, which then is told. cpu: on the CPU, whatever the driver or the engines do."""
    hw_decoder_load: float = 0.65
    """Share of a batch's film strips that a GPU's JPEG engines decode, 0 to 1; its cores and the CPU decode the others.
    GPUs without such engines pass over it."""
    hybrid_huffman_threshold: int = 1_000_000
    """Film strips of more pixels than this, all frames together, have their entropy coding undone on the GPU, where no
    engine decodes them; those of fewer on the CPU."""
    preallocate: bool = True
    """Tell the JPEG engines the size of the largest film strip beforehand, so that their memory never grows."""

    def __post_init__(self) -> None:
        if self.loader_device not in get_args(LoaderDevice):
            raise ValueError(
                f"loader_device must be one of {', '.join(get_args(LoaderDevice))}, got {self.loader_device!r}"
            )
        if not 0 <= self.hw_decoder_load <= 1:
            raise ValueError(f"hw_decoder_load must be 0 to 1, got {self.hw_decoder_load}")
        require_at_least(0, hybrid_huffman_threshold=self.hybrid_huffman_threshold)
