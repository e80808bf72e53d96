"""Which other loaders there are, and which of them can be measured here."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from scenebias.benchmark.loading.setting import Pass, Setting
from shards.errors import UserError

ALL, NONE = "all", "none"


@dataclass(frozen=True)
class Peer:
    """Another loader."""

    name: str
    note: str
    module: str
    """Below this package; imported only when it is asked for, as its libraries may be absent."""
    opener: str
    needs_videos: bool

    def load(self) -> Callable[[Setting], Pass]:
        """What stores all that the loader reads, and starts it.

        Raises:
            ImportError: a library is absent.
            OSError, RuntimeError: a library does not work on this machine.
        """
        opener: Callable[[Setting], Pass] = getattr(
            import_module(f"scenebias.benchmark.loading.peers.{self.module}"), self.opener
        )
        return opener


PEERS = (
    Peer("frames_on_disk", "JPEG files, both streams, Pillow, DataLoader", "frames_on_disk", "open_pass", True),
    Peer("torchcodec", "original videos, torchcodec, DataLoader", "torchcodec_videos", "open_pass", True),
    Peer("webdataset", "original videos in tars, torchcodec", "video_tars", "open_original", True),
    Peer("webdataset_small", "H.264 of the stored height in tars, torchcodec", "video_tars", "open_small", True),
    Peer("webdataset_strips", "these shards' strips in tars, whole, simplejpeg", "jpeg_tars", "open_strips", False),
    Peer(
        "webdataset_frames", "JPEG frames of the stored height in tars, simplejpeg", "jpeg_tars", "open_frames", False
    ),
    Peer("spdl", "original videos, SPDL", "spdl_videos", "open_pass", True),
)


def choose_peers(names: str) -> tuple[Peer, ...]:
    """The peers that ``names`` asks for: all, none, or some by name, separated by commas.

    Raises:
        ValueError: a name that is none of them.
    """
    if names in (ALL, NONE):
        return PEERS if names == ALL else ()
    known = {peer.name: peer for peer in PEERS}
    wanted = names.split(",")
    if unknown := [name for name in wanted if name not in known]:
        raise ValueError(
            f"peers must be {ALL}, {NONE} or some of {', '.join(known)}, separated by commas; got {', '.join(unknown)}"
        )
    return tuple(known[name] for name in wanted)


def open_peers(
    peers: tuple[Peer, ...], setting: Setting, *, all_wanted: bool
) -> tuple[dict[str, Pass], dict[str, str]]:
    """Start the loaders: the passes of those that can be measured, and why the others cannot.

    Raises:
        UserError: one cannot be measured that was asked for by name, which is so unless ``all_wanted``.
    """
    passes: dict[str, Pass] = {}
    left_out: dict[str, str] = {}
    for peer in peers:
        if peer.needs_videos and setting.videos is None:
            left_out[peer.name] = "needs the original videos: give --videos"
            continue
        try:
            opener = peer.load()
        except ImportError as error:
            left_out[peer.name] = f"{error}: install the extra 'bench' (pip install -e '.[bench]')"
        except (OSError, RuntimeError) as error:  # as torchcodec's, where no FFmpeg is installed that it knows
            first_line, *_ = str(error).split("\n")
            left_out[peer.name] = f"its library does not work here: {first_line}"
        else:
            passes[peer.name] = opener(setting.in_folder(peer.name))
    if left_out and not all_wanted:
        name, reason = next(iter(left_out.items()))
        raise UserError(f"--peers {name}: {reason}")
    return passes, left_out
