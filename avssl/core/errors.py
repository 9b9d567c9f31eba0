"""The errors of this toolkit. Users see them as one line."""


class UserError(Exception):
    """An invalid option, path or file. The message names it and the fix in one line; the exit status is 2."""


class ClipError(Exception):
    """A clip cannot be decoded. The message gives the reason in a few words; a run continues without the clip."""


class FailedError(Exception):
    """A launched process failed. The message is one line; the exit status is 1."""
