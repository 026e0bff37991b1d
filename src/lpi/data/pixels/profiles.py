"""Colours of the space that an embedded ICC profile describes, as sRGB."""

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

SPACES = {"1": "GRAY", "L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}  # mode -> colour space that a profile must have
FLAGS = ImageCms.Flags.BLACKPOINTCOMPENSATION | ImageCms.Flags.NOCACHE  # NOCACHE: threads share the transform
INTENT = ImageCms.Intent.RELATIVE_COLORIMETRIC
SAME = 2  # of 255: profiles that move no colour by more are sRGB, whose pixels stay as they are


class ProfileError(ValueError):
    """The profile is broken or is not for images of this mode."""


def to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """The image in RGB, its colours converted from the profile's space to sRGB.

    Relative colorimetric with black point compensation, as image editors do; colours outside of sRGB are clipped.

    Args:
        image: of the modes 1, L, RGB or CMYK.
        profile: an ICC profile.

    Raises:
        ProfileError: see there.
    """
    mode = "L" if image.mode == "1" else image.mode
    if mode == "L" and profile_space(profile) == "RGB":  # a grey is a colour too
        mode = "RGB"
    transform = transform_of(profile, mode)
    if transform is None:
        return image.convert("RGB")
    try:
        return transform.apply(image if image.mode == mode else image.convert(mode))
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        raise ProfileError(str(error)) from error


def profile_space(profile: bytes) -> str:
    """GRAY, RGB, CMYK or another signature from the header."""
    return profile[16:20].decode("latin-1").strip()


@lru_cache(maxsize=16)
def transform_of(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From images of the mode to sRGB; None where that changes nothing.

    Raises:
        ProfileError: see there.
    """
    if SPACES.get(mode) != profile_space(profile):
        raise ProfileError(f"a profile for {profile_space(profile)!r} in an image of mode {mode}")
    try:
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            renderingIntent=INTENT,
            flags=FLAGS,
        )
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        raise ProfileError(str(error)) from error
    return None if _changes_nothing(transform, mode) else transform


def _changes_nothing(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Whether all greys and a grid of colours stay where they are."""
    if mode == "CMYK":
        return False
    greys = np.arange(256, dtype=np.uint8)
    probe = Image.fromarray(greys[None])
    if mode == "RGB":
        grid = np.stack(np.meshgrid(*[np.linspace(0, 255, 9)] * 3), axis=-1).reshape(-1, 3).astype(np.uint8)
        probe = Image.fromarray(np.concatenate([np.repeat(greys[:, None], 3, axis=1), grid])[None])
    before, after = (np.asarray(made, np.int16) for made in (probe.convert("RGB"), transform.apply(probe)))
    return bool(np.abs(after - before).max() <= SAME)
