"""Checks that configurations share."""


def require_at_least(least: float, **values: float | None) -> None:
    """Raise ValueError for the first of the named values that is below ``least``, or not a number; None passes."""
    for name, value in values.items():
        if value is not None and not value >= least:
            raise ValueError(f"{name} must be at least {least}, got {value}")


MAX_FPS = 1000.0
"""The highest frame rate that is believed, of a video or of an option: beyond it, it is a time base, such as 90,000."""


def require_frame_rate(**values: float | None) -> None:
    """Raise ValueError for the first of the named values that is no frame rate a video can have; None passes."""
    for name, value in values.items():
        if value is not None and not 0 < value <= MAX_FPS:
            raise ValueError(f"{name} must be above 0 and at most {MAX_FPS:.0f}, got {value}")
