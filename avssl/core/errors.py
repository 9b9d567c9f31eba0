"""The errors of this toolkit. Users see them as one line."""


class UserError(Exception):
    """A wrong option, path or file. The message names it and the fix, in one line; the exit status is 2."""


class ClipError(Exception):
    """A clip cannot be decoded from a file. The message says why, in a few words; a run continues without it."""


class FailedError(Exception):
    """Launched processes have failed. The message is one line; the exit status is 1."""
