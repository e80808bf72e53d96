"""When two texts are the same: one notion for labels, splits, classes and names, whichever file or folder has them.

White space around a text (no-break spaces included) and what cannot be seen there do not count, nor does the way in
which its letters are composed: keyboards, spreadsheets and file systems differ in that. What then still differs only in
case, in white space or in variants of the same letters is more likely a slip than a difference, and is refused.
"""

import re
import unicodedata
from collections.abc import Mapping

# White space, the soft hyphen, zero-width characters, marks of direction, the word joiner, the byte order mark.
_ENDS = re.compile(r"^[\s\u00ad\u200b-\u200f\u2060\ufeff]+|[\s\u00ad\u200b-\u200f\u2060\ufeff]+$")


def clean(text: str) -> str:
    """The text as it is kept and compared: without what surrounds it unseen, in Unicode's normal form C."""
    return text.strip() if text.isascii() else unicodedata.normalize("NFC", _ENDS.sub("", text))


def has_control(text: str) -> bool:
    """Whether a text holds a line break, or another character that controls how it is shown or stored."""
    return any(unicodedata.category(character) == "Cc" for character in text)


def is_class_name(text: str) -> bool:
    """Whether a clip of this class may be called ``text/clip``, in a line of a table and in a folder of masks."""
    return bool(text) and "/" not in text and text not in (".", "..") and not has_control(text)


def look(text: str) -> str:
    """What is left of a text without case, white space, unseen characters, and variants of letters (form KC)."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return "".join(character for character in folded if not character.isspace() and not _is_unseen(character))


def look_alikes(places: Mapping[str, str], what: str) -> list[str]:
    """A sentence for each text that differs from one before it only in its `look`.

    Args:
        places: The texts, `clean`, and where each stands.
        what: What the texts are, for the sentences.
    """
    first: dict[str, str] = {}
    problems = []
    for text, where in places.items():
        other = first.setdefault(look(text), text)
        if other != text:
            problems.append(
                f"{where}: {what} {text!a} differs only in case, spaces or variants of letters from "
                f"{other!a} in {places[other]}; write both alike"
            )
    return problems


def _is_unseen(character: str) -> bool:
    return unicodedata.category(character) == "Cf"
