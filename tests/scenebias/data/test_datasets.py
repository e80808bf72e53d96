"""What is said of data sets that do not fit."""

import pytest

from scenebias.data.datasets import require_same_classes
from shards.errors import UserError


def test_the_same_classes_pass() -> None:
    require_same_classes(["a", "b"], ("a", "b"), "x", "y")


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (["a"], "the test set: it lacks b; pack it again"),
        (["a", "b", "c"], "it adds c;"),
        (["a", "c"], "it lacks b and adds c;"),
        (["b", "a"], "it has another order from class 0 on;"),
    ],
)
def test_differing_classes_are_named_with_the_remedy(found: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        require_same_classes(found, ["a", "b"], "the test set", "pack it again")
