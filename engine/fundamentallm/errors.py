"""Errors that the user can put right. Every other exception is a bug and keeps its traceback."""


class UserError(Exception):
    """What is wrong, where, and what to do: one line for each problem. Programs print it and exit with status 2."""


class NothingToDo(UserError):
    """The run has reached its end."""


def describe_error(error: BaseException) -> str:
    """Say in one line what went wrong: the system's reason, the first line of the message, or the type's name."""
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return text.strip().partition("\n")[0] or type(error).__name__
