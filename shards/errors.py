"""Exceptions for what a user can mend."""


class UserError(Exception):
    """A mistake in a file or an option: one clear sentence that names it and the remedy.

    Commands print the sentence and exit with status 2, without a traceback.
    """


class DamagedClipError(UserError):
    """One clip cannot be read or decoded; the others may be sound."""
