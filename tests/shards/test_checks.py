"""Lower bounds of options."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.checks import require_at_least


@given(st.integers(-5, 5), st.integers(-5, 5), st.integers(-5, 5))
def test_the_first_value_that_is_too_small_is_named(least: int, first: int, second: int) -> None:
    wrong = [name for name, value in (("first", first), ("second", second)) if value < least]
    if not wrong:
        require_at_least(least, first=first, second=second)
        return
    with pytest.raises(ValueError, match=rf"^{wrong[0]} must be at least {least}, got -?\d+$"):
        require_at_least(least, first=first, second=second)


def test_no_value_is_large_enough() -> None:
    require_at_least(1, limit=None)
