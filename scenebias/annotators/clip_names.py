"""Under which names the annotations of a clip are looked up."""

import re
from collections.abc import Iterator

_KINETICS_CLIP = re.compile(r"(?P<video>.{11})_\d{6}_\d{6}")


def lookup_names(name: str) -> Iterator[str]:
    """Yield ``name``, a clip's ``<class>/<clip>``, then the other name that annotations of Kinetics go by.

    Kinetics takes one clip a video, so annotations are often called like the video, by its eleven-character YouTube id,
    where the clip is called ``<id>_<start second>_<end second>``, each of six digits.
    """
    yield name
    class_name, _, clip = name.rpartition("/")
    if match := _KINETICS_CLIP.fullmatch(clip):
        yield f"{class_name}/{match['video']}"
