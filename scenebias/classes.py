"""Whether two lists of action classes are the same, and what to say if not."""

from collections.abc import Sequence
from itertools import zip_longest

from shards.errors import UserError


def require_same_classes(found: Sequence[str], expected: Sequence[str], what: str, remedy: str) -> None:
    """Raise UserError where ``found`` is not ``expected``, in the same order; ``what`` says whose classes they are."""
    if tuple(found) == tuple(expected):
        return
    lacks = [name for name in expected if name not in found]
    adds = [name for name in found if name not in expected]
    if lacks or adds:
        parts = [f"{verb} {', '.join(names[:5])}" for verb, names in (("lacks", lacks), ("adds", adds)) if names]
        difference = " and ".join(parts)
    else:
        number = next(n for n, (a, b) in enumerate(zip_longest(found, expected)) if a != b)
        difference = f"has another order from class {number} on"
    raise UserError(f"{what}: it {difference}; {remedy}")
