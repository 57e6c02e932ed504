"""Errors that the user can put right. Every other exception is a bug and keeps its traceback."""


class UserError(Exception):
    """What is wrong, where, and what to do: one line for each problem. Programs print it and exit with status 2."""


class NothingToDo(UserError):
    """The run has reached its end."""
