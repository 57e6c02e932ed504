"""Errors that the user can put right. Every other exception is a bug and keeps its traceback."""

from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """What is wrong, where, and what to do: one line for each problem. Programs print it and exit with status 2."""


class NothingToDo(UserError):
    """The run has reached its end."""


def describe_error(error: BaseException) -> str:
    """Say in one line what went wrong: the system's reason, the first line of the message, or the type's name."""
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return text.strip().partition("\n")[0] or type(error).__name__


def describe_fault(error: BaseException) -> str:
    """Describe a bug in one line, which begins with the type's name."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]


@contextmanager
def system_errors(what: str) -> Iterator[None]:
    """Turn an OSError within into a UserError: `what`, and the system's reason."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{what}: {describe_error(error)}") from None
