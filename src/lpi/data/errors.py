"""What is wrong with data, as the user is told."""

from lpi.runtime.errors import UserError

INSTALL_FORMATS = "pip install --editable '.[formats]'"  # what installs the extra for further forms of files


class DataError(UserError, ValueError):
    """Something is wrong with a data file; the message names the file and the entry."""


class ImageError(DataError):
    """One image is missing or broken."""
