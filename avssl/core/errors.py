"""The errors that are shown to users as one line, with exit status 2."""


class UserError(Exception):
    """A wrong option, path or file. The message names it and the fix, in one line."""


class ClipError(Exception):
    """A file that cannot give the clip asked of it. The message says why, in a few words; it never stops a run."""


class FailedError(Exception):
    """Processes that were launched ended otherwise than they should: shown as one line, with exit status 1."""
