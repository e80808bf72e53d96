"""When two texts are the same: one notion for labels, splits, classes and names, whichever file or folder has them.

White space around a text (no-break spaces included) and what cannot be seen there do not count, nor does the way in
which its letters are composed: keyboards, spreadsheets and file systems differ in that. What then still differs only in
case, in white space, in variants of the same letters or in the alphabet of letters that look the same is more likely a
slip than a difference, and is refused.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache

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


def looks(text: str) -> frozenset[str]:
    """The `look` of a text, and those with the Latin letters that look like its letters of other alphabets."""
    own = look(text)
    return frozenset({own, look(_in_latin(text)), _in_latin(own)})


def look_alikes(places: Mapping[str, str], what: str) -> list[str]:
    """A sentence for each text that shares one of its `looks` with a text before it.

    Args:
        places: The texts, `clean`, and where each stands.
        what: What the texts are, for the sentences.
    """
    first: dict[str, str] = {}
    problems = []
    for text, where in places.items():
        others = {first.setdefault(key, text) for key in looks(text)} - {text}
        if others:
            other = min(others)
            problems.append(
                f"{where}: {what} {text!a} differs only in case, spaces or variants of letters from "
                f"{other!a} in {places[other]}; write both alike"
            )
    return problems


def some(names: Sequence[str], limit: int = 10) -> str:
    """The first few of ``names``, and how many there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _in_latin(text: str) -> str:
    return text if text.isascii() else "".join(map(_latin_letter, text))


@cache
def _latin_letter(character: str) -> str:
    """The ASCII letter that looks like a letter of another alphabet, as Unicode's security data (UTS 39) have it."""
    from confusable_homoglyphs.confusables import confusables_data  # a megabyte, which most data sets do not need

    if character.isascii() or unicodedata.name(character, "").startswith("LATIN"):
        return character
    alike = [found["c"] for found in confusables_data.get(character, ())]
    return next((letter for letter in alike if letter.isascii() and letter.isalpha()), character)


def _is_unseen(character: str) -> bool:
    return unicodedata.category(character) == "Cf"
