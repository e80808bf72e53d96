"""Checks that configurations share."""


def require_at_least(least: float, **values: float | None) -> None:
    """Raise ValueError for the first of the named values that is below ``least``; None is no value, and passes."""
    for name, value in values.items():
        if value is not None and value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
