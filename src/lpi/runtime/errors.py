"""Errors that a user can mend, and how a stage tells them: in one line instead of a traceback."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """Something is wrong with the input, a parameter or the environment; the message says what, and what to do."""


@contextmanager
def plain_errors() -> Iterator[None]:
    """End the program with `error: MESSAGE` where the block raises what a user can mend.

    That is a `UserError`, a loss that is not finite, or a file that cannot be read or written.
    """
    try:
        yield
    except (UserError, FloatingPointError, OSError) as error:
        sys.exit(f"error: {error}")
