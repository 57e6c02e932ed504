"""Errors that a person can mend. Everything else is a bug and keeps its traceback."""


class UserError(Exception):
    """What is wrong, where, and what to do; one line for each problem. Programs print it and exit with status 2."""


class NothingLeft(UserError):
    """There is nothing to do: the run is at its end."""
