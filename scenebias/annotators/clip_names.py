"""Under which names the annotations of a clip are looked up."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice, product
from unicodedata import normalize

from shards.errors import UserError
from shards.sources.listing import ClipEntry

_KINETICS_CLIP = re.compile(r"(?P<video>.{11})_\d{6}_\d{6}")


def lookup_names(name: str) -> Iterator[str]:
    """Yield ``name``, a clip's ``<class>/<clip>``, then the other names that its annotations may go by.

    Kinetics takes one clip a video, so annotations are often called like the video, by its eleven-character YouTube id,
    where the clip is called ``<id>_<start second>_<end second>``, each of six digits. Each name may also be written in
    Unicode's normal form D, as macOS writes the names of files: ``name`` is in form C.
    """
    class_name, _, clip = name.rpartition("/")
    match = _KINETICS_CLIP.fullmatch(clip)
    for spelling in (name, f"{class_name}/{match['video']}") if match else (name,):
        yield spelling
        if not spelling.isascii():
            forms = [dict.fromkeys((part, normalize("NFD", part))) for part in spelling.rpartition("/")]
            yield from islice(map("".join, product(*forms)), 1, None)


def refuse_ambiguous_names(option: str, entries: Iterable[ClipEntry], holds: Callable[[ClipEntry], bool]) -> None:
    """Raise a UserError where annotations that are called like a video (``holds``) could be those of several clips."""
    sharing: defaultdict[str, list[ClipEntry]] = defaultdict(list)
    for entry in entries:
        for name in islice(lookup_names(entry.name), 1, None):
            sharing[name].append(entry)
    for name, clips in sharing.items():
        if len(clips) > 1 and holds(replace(clips[0], name=name)):
            raise UserError(
                f"{option}: {name} may be of {clips[0].name} or of {clips[1].name}; call it by the name of one of them"
            )
