"""What comes from `diffusers`, whose import takes seconds: at the first use, and not before."""

from typing import Any

from lpi.runtime.errors import UserError


def of_diffusers(name: str) -> Any:
    """The class of this name.

    Raises:
        UserError: `diffusers` is not installed; says what installs it.
    """
    try:
        import diffusers
    except ImportError as error:
        raise UserError(
            f"masks are drawn with diffusers ({error}); `pip install --editable '.[diffusion]'` installs it"
        ) from None
    return getattr(diffusers, name)
