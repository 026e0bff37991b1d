import csv
import io
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product

from lpi.data.coco import ImageStore, Source
from lpi.data.pixels import Conversion, Conversions, ConversionWarning, ImageError, Turn, read_rgb, turn_of
from lpi.data.sources import own
from lpi.data.split import Rules, split_stream
from lpi.models.backbone import Backbone

import numpy as np
import pillow_heif
import pytest
from conftest import ROOT
from image_files import (
    ADOBE_GAMMA,
    ADOBE_RGB,
    DISPLAY_P3,
    SRGB,
    adobe_transform,
    cmyk_profile,
    grey_profile,
    png,
    psd,
    rgb_profile,
    rgb_to_xyz,
    saved,
    srgb_decode,
    srgb_of_lab,
    srgb_of_xyz,
    tiff,
    without_adobe,
)
from PIL import Image, ImageCms

RNG = np.random.default_rng(0)
DEEP = np.linspace(0, 65535, 24).astype(np.uint16).reshape(4, 6)  # all of the range of 16 bits
COLOURS = RNG.integers(0, 256, (4, 6, 3), np.uint8)
ALPHA = np.array([[0, 1, 60, 128, 254, 255]] * 4, np.uint8)
FLAT = np.kron(RNG.integers(0, 256, (2, 3, 3), np.uint8), np.ones((16, 16, 1), np.uint8))  # blocks that JPEG keeps
INKS = np.kron(RNG.integers(0, 256, (2, 3, 4), np.uint8), np.ones((16, 16, 1), np.uint8))
PALETTE = [(13 * i % 256, 7 * i % 256, 255 - i) for i in range(256)]
INDICES = np.arange(24, dtype=np.uint8).reshape(4, 6)


@dataclass(frozen=True)
class Case:
    """A file, its (H, W, 3) pixels and by how much a value may be off."""

    content: bytes
    pixels: np.ndarray
    tolerance: int = 0


def grey(values: np.ndarray) -> np.ndarray:
    """(H, W) of 0..255 -> (H, W, 3)."""
    return np.repeat(np.rint(values)[..., None], 3, axis=-1)


def on_white(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255
    return np.rint(colours * share + 255 * (1 - share))


def packed(values: np.ndarray) -> np.ndarray:
    """(H, W) or (H, W, C) of 16 bits -> the (H, bytes) rows of a PNG file."""
    return np.frombuffer(values.astype(">u2").tobytes(), np.uint8).reshape(len(values), -1)


def image(values: np.ndarray, mode: str | None = None) -> Image.Image:
    made = Image.fromarray(values)
    return made if mode is None else made.convert(mode)


def integer_cases() -> dict[str, Case]:
    deep = grey(DEEP / 257)
    signed = (DEEP.astype(np.int64) - 32768).astype(np.int16)
    wide = DEEP.astype(np.int64) * 65537  # 0 to 2**32 - 1
    twelve = np.array([[0xABC, 0x123, 0xFFF, 0x000]])
    return {
        "16-bit grey PNG": Case(saved(image(DEEP), "PNG"), deep),
        "16-bit grey JPEG 2000": Case(saved(image(DEEP), "JPEG2000"), deep),
        "16-bit grey PGM": Case(saved(image(DEEP), "PPM"), deep),
        "PGM of 1001 levels": Case(b"P2 3 1 1000\n0 500 1000\n", grey(np.array([[0, 127.5, 255]])), 1),
        "16-bit grey TIFF": Case(tiff(DEEP, 1), deep),
        "16-bit grey TIFF, big-endian": Case(tiff(DEEP.astype(">u2"), 1), deep),
        "16-bit grey TIFF, compressed": Case(saved(image(DEEP), "TIFF", compression="tiff_lzw"), deep),
        "16-bit grey TIFF, white is zero": Case(tiff(DEEP, 0), 255 - deep),
        "12-bit grey TIFF": Case(
            tiff(np.array([[0xAB, 0xC1, 0x23, 0xFF, 0xF0, 0x00]], np.uint8), 1, bits=12, ImageWidth=[4]),
            grey(twelve / 4095 * 255),
        ),
        "signed 16-bit TIFF": Case(tiff(signed, 1), deep),
        "signed 16-bit TIFF, big-endian": Case(tiff(signed.astype(">i2"), 1), deep),
        "signed 16-bit TIFF without negatives": Case(
            tiff((DEEP // 2).astype(np.int16), 1), grey((DEEP // 2) / 32767 * 255)
        ),
        "unsigned 32-bit TIFF": Case(tiff(wide.astype(np.uint32), 1), deep),
        "signed 32-bit TIFF": Case(tiff((wide - 2**31).astype(np.int32), 1), deep),
        "signed 32-bit TIFF, big-endian": Case(tiff((wide - 2**31).astype(">i4"), 1), deep),
        "signed 32-bit TIFF without negatives": Case(
            saved(image((wide // 2).astype(np.int32)), "TIFF"), grey((wide // 2) / (2**31 - 1) * 255)
        ),
        "16-bit RGB PNG": Case(png(packed(COLOURS * np.uint16(257)), 16, 2), COLOURS),
        "16-bit RGB TIFF": Case(tiff(COLOURS * np.uint16(257), 2), COLOURS),
        "16-bit RGBA PNG": Case(
            png(packed(np.dstack([COLOURS, ALPHA]) * np.uint16(257)), 16, 6), on_white(COLOURS, ALPHA)
        ),
        "16-bit grey PNG with alpha": Case(
            png(packed(np.dstack([DEEP, ALPHA * np.uint16(257)])), 16, 4), on_white(grey(DEEP // 256), ALPHA), 1
        ),
        "16-bit grey PNG with a transparent grey": Case(
            png(packed(DEEP), 16, 0, tRNS=DEEP[1, 2].tobytes()[::-1]),
            np.where(grey(DEEP) == DEEP[1, 2], 255, deep),
        ),
    }


def float_cases() -> dict[str, Case]:
    unit = np.linspace(0, 1, 24, dtype=np.float32).reshape(4, 6)
    holes = unit.copy()
    holes[0, 0], holes[1, 1], holes[2, 2] = np.nan, np.inf, -np.inf
    return {
        "floats of 0 to 1": Case(tiff(unit, 1), grey(unit * 255)),
        "floats of 0 to 1, big-endian": Case(tiff(unit.astype(">f4"), 1), grey(unit * 255)),
        "floats of 0 to 1, white is zero": Case(tiff(unit, 0), grey(255 - unit * 255), 1),
        "floats of 0 to 255": Case(tiff(unit * 255, 1), grey(unit * 255)),
        "floats of 0 to 1 as PFM": Case(saved(image(unit), "PPM"), grey(unit * 255)),
        "floats of 0 to 65535": Case(tiff(unit * 65535, 1), grey(unit * 255)),
        "floats of 200 to 1000": Case(tiff(200 + unit * 800, 1), grey((200 + unit * 800) / 1000 * 255)),
        "floats of -1 to 1": Case(tiff(2 * unit - 1, 1), grey(unit * 255)),
        "floats with NaN and infinity": Case(tiff(holes, 1), grey(np.where(np.isfinite(holes), unit, 0) * 255)),
    }


def alpha_cases() -> dict[str, Case]:
    shown, table = on_white(COLOURS, ALPHA), np.array(PALETTE)
    rgba, la = image(np.dstack([COLOURS, ALPHA])), np.dstack([COLOURS[..., 0], ALPHA])
    premultiplied = np.dstack([np.rint(COLOURS * (ALPHA[..., None] / 255)), ALPHA]).astype(np.uint8)
    indexed = Image.fromarray(INDICES, "P")
    indexed.putpalette([value for colour in PALETTE for value in colour])
    alphas = np.array([10 * i for i in range(24)])
    maps = [257 * colour[channel] for channel in range(3) for colour in PALETTE]
    one_clear = np.where(INDICES[..., None] == 5, 255, table[INDICES])
    two_bits, one_bit = np.array([[0, 85, 170, 255]]), np.array([[0, 1, 0, 1, 1, 1, 0, 0]]) * 255
    return {
        "RGBA PNG": Case(saved(rgba, "PNG"), shown),
        "RGBA TIFF": Case(saved(rgba, "TIFF"), shown),
        "RGBA TIFF, premultiplied": Case(tiff(premultiplied, 2, ExtraSamples=[1]), shown, 2),
        "RGBA WebP": Case(saved(rgba, "WEBP", lossless=True, exact=True), shown),
        "RGBA JPEG 2000": Case(saved(rgba, "JPEG2000"), shown),
        "RGBA ICO": Case(saved(rgba, "ICO", sizes=[(6, 4)]), shown),
        "LA PNG": Case(saved(Image.fromarray(la, "LA"), "PNG"), on_white(grey(la[..., 0]), ALPHA)),
        "LA JPEG 2000": Case(saved(Image.fromarray(la, "LA"), "JPEG2000"), on_white(grey(la[..., 0]), ALPHA)),
        "La TIFF": Case(tiff(premultiplied[..., [0, 3]], 1, ExtraSamples=[1]), on_white(grey(la[..., 0]), ALPHA), 2),
        "PA TIFF": Case(
            tiff(np.dstack([INDICES, ALPHA]), 3, ColorMap=maps, ExtraSamples=[2]), on_white(table[INDICES], ALPHA)
        ),
        "palette with alphas": Case(
            saved(indexed, "PNG", transparency=bytes(alphas.tolist())), on_white(table[INDICES], alphas[INDICES])
        ),
        "palette with a transparent colour": Case(saved(indexed, "PNG", transparency=5), one_clear),
        "GIF with a transparent colour": Case(saved(indexed, "GIF", transparency=5), one_clear),
        "RGB with a transparent colour": Case(
            saved(image(COLOURS), "PNG", transparency=tuple(COLOURS[1, 2].tolist())),
            np.where((COLOURS[1, 2] == COLOURS).all(-1, keepdims=True), 255, COLOURS),
        ),
        "16-bit RGB with a transparent colour": Case(
            png(
                packed(COLOURS * np.uint16(256) + 7),
                16,
                2,
                tRNS=(COLOURS[1, 2] * np.uint16(256) + 7).byteswap().tobytes(),
            ),
            np.where((COLOURS[1, 2] == COLOURS).all(-1, keepdims=True), 255, COLOURS),
        ),
        "grey with a transparent grey": Case(
            saved(image(COLOURS[..., 0]), "PNG", transparency=int(COLOURS[1, 2, 0])),
            np.where(grey(COLOURS[..., 0]) == COLOURS[1, 2, 0], 255, grey(COLOURS[..., 0])),
        ),
        "2-bit grey with a transparent grey": Case(
            png(np.array([[0b00011011]], np.uint8), 2, 0, tRNS=b"\0\1"), grey(np.where(two_bits == 85, 255, two_bits))
        ),
        "1-bit with a transparent black": Case(
            png(np.array([[0b01011100]], np.uint8), 1, 0, tRNS=b"\0\0"), grey(np.full((1, 8), 255))
        ),
        "1-bit": Case(png(np.array([[0b01011100]], np.uint8), 1, 0), grey(one_bit)),
        "1-bit TIFF, white is zero": Case(
            tiff(np.array([[0b01011100]], np.uint8), 0, bits=1, ImageWidth=[8]), grey(255 - one_bit)
        ),
    }


def of_inks(inks: np.ndarray) -> np.ndarray:
    """(..., 4) of 0..255, 0 is no ink -> (..., 3): every ink takes its share of the light."""
    return np.rint((255.0 - inks[..., :3]) * (255 - inks[..., 3:]) / 255)


def ycck(inks: np.ndarray) -> np.ndarray:
    """What an Adobe YCCK file stores: the inks' complements as JFIF's YCbCr of the complements' complements."""
    r, g, b = (inks[..., i].astype(float) for i in range(3))
    y = 0.299 * r + 0.587 * g + 0.114 * b
    stored = [y, 128 + (b - y) / 1.772, 128 + (r - y) / 1.402, 255 - inks[..., 3]]
    return np.clip(np.rint(np.stack(stored, axis=-1)), 0, 255).astype(np.uint8)


def ink_cases() -> dict[str, Case]:
    cmyk = Image.fromarray(INKS, "CMYK")
    adobe = saved(cmyk, "JPEG", quality=100, subsampling=0)  # Pillow writes the complements, as Adobe does
    plain = saved(Image.fromarray(255 - INKS, "CMYK"), "JPEG", quality=100, subsampling=0)
    bare = saved(Image.fromarray(255 - ycck(INKS), "CMYK"), "JPEG", quality=100, subsampling=0)
    labs = np.zeros((2, 2, 2, 2, 3))
    for c, m, y, k in product(range(2), repeat=4):
        labs[c, m, y, k] = (100 - 15 * (c + m + y) - 50 * k, 20 * (m - c), 25 * (y - c) * (1 - k))
    corners = np.array([[[255 * bit for bit in bits] for bits in product(range(2), repeat=4)]], np.uint8)
    blocks = np.kron(corners, np.ones((16, 16, 1), np.uint8))
    scaled = np.rint(labs.reshape(1, 16, 3) * (255 / 100, 1, 1)) * (100 / 255, 1, 1)  # as 8 bits hold them
    black = scaled[..., 0].min()
    return {
        "CMYK TIFF": Case(saved(cmyk, "TIFF"), of_inks(INKS)),
        "16-bit CMYK TIFF": Case(tiff(INKS * np.uint16(257), 5), of_inks(INKS)),
        "CMYK JPEG, Adobe's complements": Case(adobe, of_inks(INKS), 3),
        "CMYK JPEG without Adobe's mark": Case(without_adobe(plain), of_inks(INKS), 3),
        "YCCK JPEG": Case(adobe_transform(bare, 2), of_inks(INKS), 4),
        "CMYK JPEG with a profile": Case(
            saved(Image.fromarray(blocks, "CMYK"), "JPEG", quality=100, subsampling=0, icc_profile=cmyk_profile(labs)),
            np.kron(srgb_of_lab(scaled, black), np.ones((16, 16, 1))),
            6,
        ),
        "CMYK TIFF with a profile": Case(
            saved(Image.fromarray(corners, "CMYK"), "TIFF", icc_profile=cmyk_profile(labs)),
            srgb_of_lab(scaled, black),
            3,
        ),
    }


def colour_cases() -> dict[str, Case]:
    lab = np.array([[[0, 0, 0], [255, 0, 0], [128, 0, 0], [128, 40, 216], [200, 236, 30], [80, 20, 40]]], np.uint8)
    values = lab.astype(np.int8).astype(float)
    values[..., 0] = lab[..., 0] * (100 / 255)
    ycbcr = np.array([[[128, 128, 128], [76, 85, 255], [150, 44, 21], [255, 128, 128]]], np.uint8)
    y, cb, cr = (ycbcr[..., i].astype(float) for i in range(3))
    of_ycbcr = np.stack(
        [y + 1.402 * (cr - 128), y - 0.344136 * (cb - 128) - 0.714136 * (cr - 128), y + 1.772 * (cb - 128)], axis=-1
    )
    wide = np.stack(np.meshgrid(*[np.linspace(0, 255, 6)] * 3), axis=-1).reshape(12, 18, 3).astype(np.uint8)
    p3 = srgb_of_xyz(srgb_decode(wide / 255) @ rgb_to_xyz(DISPLAY_P3).T)
    adobe = srgb_of_xyz((wide / 255) ** ADOBE_GAMMA @ rgb_to_xyz(ADOBE_RGB).T)
    profile = rgb_profile(DISPLAY_P3)
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    toned = srgb_of_xyz((grey(ramp) / 255) ** 1.8 @ rgb_to_xyz(SRGB).T)
    rgba = np.dstack([wide, np.resize(ALPHA[0], wide.shape[:2])])
    indexed = Image.fromarray(INDICES, "P")
    indexed.putpalette([value for colour in PALETTE for value in colour])
    of_palette = srgb_of_xyz(srgb_decode(np.array(PALETTE)[INDICES] / 255) @ rgb_to_xyz(DISPLAY_P3).T)
    return {
        "Lab TIFF": Case(tiff(lab, 8), srgb_of_lab(values), 2),
        "YCbCr TIFF": Case(tiff(ycbcr, 6), np.clip(of_ycbcr, 0, 255), 2),
        "Display P3 PNG": Case(saved(image(wide), "PNG", icc_profile=profile), p3, 2),
        "Display P3 WebP": Case(saved(image(wide), "WEBP", lossless=True, icc_profile=profile), p3, 2),
        "Adobe RGB PNG": Case(saved(image(wide), "PNG", icc_profile=rgb_profile(ADOBE_RGB, ADOBE_GAMMA)), adobe, 2),
        "Adobe RGB TIFF": Case(tiff(wide, 2, ICCProfile=rgb_profile(ADOBE_RGB, ADOBE_GAMMA)), adobe, 2),
        "Display P3 with alpha": Case(saved(image(rgba), "PNG", icc_profile=profile), on_white(p3, rgba[..., 3]), 2),
        "Display P3 palette": Case(saved(indexed, "PNG", icc_profile=profile), of_palette, 2),
        "grey with a profile": Case(saved(image(ramp), "PNG", icc_profile=grey_profile(1.8)), toned, 2),
        "grey with a profile of colours": Case(saved(image(ramp), "PNG", icc_profile=rgb_profile(SRGB, 1.8)), toned, 2),
        "16-bit grey with a profile": Case(
            saved(image(ramp * np.uint16(257)), "PNG", icc_profile=grey_profile(1.8)), toned, 2
        ),
        "1-bit with a profile": Case(
            saved(image(ramp).convert("1", dither=Image.Dither.NONE), "PNG", icc_profile=grey_profile(1.8)),
            grey(np.where(ramp > 127, 255, 0)),
        ),
        "a profile that is sRGB": Case(saved(image(wide), "PNG", icc_profile=rgb_profile(SRGB)), wide),
        "a profile that is sRGB but for rounding": Case(
            saved(image(ramp).convert("RGB"), "PNG", icc_profile=rgb_profile(SRGB, points=16)), grey(ramp)
        ),
        "littlecms' own sRGB": Case(
            saved(image(wide), "PNG", icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()),
            wide,
        ),
    }


def ten_bits() -> bytes:
    """HEIC; pillow-heif takes the upper bits of 16."""
    made = pillow_heif.from_bytes("RGB;16", FLAT.shape[1::-1], (FLAT * np.uint16(257)).tobytes())
    buffer = io.BytesIO()
    made.save(buffer, quality=-1, chroma=444, matrix_coefficients=0)
    return buffer.getvalue()


def container_cases() -> dict[str, Case]:
    flat, clear = image(FLAT), image(np.dstack([FLAT, np.resize(ALPHA[0], FLAT.shape[:2]) // 128 * 255]))
    frames = {"save_all": True, "append_images": [image(255 - FLAT), image(FLAT[::-1].copy())]}
    exact = {"quality": 100, "subsampling": "4:4:4"}
    heif = {"quality": -1, "chroma": 444, "matrix_coefficients": 0}
    pillow_heif.register_heif_opener()  # so that Pillow writes it
    p3 = srgb_of_xyz(srgb_decode(FLAT / 255) @ rgb_to_xyz(DISPLAY_P3).T)
    shown = on_white(FLAT, np.asarray(clear)[..., 3])
    cases = {
        "animated GIF": Case(saved(flat.quantize(), "GIF", **frames), FLAT),
        "animated PNG": Case(saved(flat, "PNG", **frames), FLAT),
        "animated WebP": Case(saved(flat, "WEBP", lossless=True, **frames), FLAT),
        "animated AVIF": Case(saved(flat, "AVIF", **exact, **frames), FLAT, 4),
        "TIFF of three pages": Case(saved(flat, "TIFF", **frames), FLAT),
        "MPO of three pictures": Case(saved(flat, "MPO", **exact, **frames), FLAT, 3),
        "HEIC of three pictures": Case(saved(flat, "HEIF", **heif, **frames), FLAT),
        "progressive JPEG": Case(saved(flat, "JPEG", progressive=True, **exact), FLAT, 3),
        "RGB PNG": Case(saved(flat, "PNG"), FLAT),
        "WebP": Case(saved(flat, "WEBP", lossless=True), FLAT),
        "AVIF": Case(saved(flat, "AVIF", **exact), FLAT, 4),
        "AVIF with alpha": Case(saved(clear, "AVIF", **exact), shown, 4),
        "HEIC": Case(saved(flat, "HEIF", **heif), FLAT),
        "HEIC with alpha": Case(saved(clear, "HEIF", **heif), shown),
        "HEIC in Display P3": Case(saved(flat, "HEIF", icc_profile=rgb_profile(DISPLAY_P3), **heif), p3, 2),
        "10-bit HEIC": Case(ten_bits(), FLAT, 2),
        "JPEG 2000": Case(saved(flat, "JPEG2000"), FLAT),
        "PSD of three layers": Case(psd(FLAT, 3), FLAT),
    }
    Image.OPEN.pop("HEIF"), Image.ID.remove("HEIF")
    return cases


CASES = {
    name: case
    for make in (integer_cases, float_cases, alpha_cases, ink_cases, colour_cases, container_cases)
    for name, case in make().items()
}


def read(content: bytes, name: str = "x", **options) -> np.ndarray:
    """(H, W, 3) integers."""
    return np.asarray(read_rgb(content, name, **options), np.int64)


def off(got: np.ndarray, wanted: np.ndarray) -> int:
    assert got.shape == wanted.shape
    return int(np.abs(got - wanted).max())


@pytest.mark.parametrize("name", CASES)
def test_every_kind_of_file_has_its_computed_pixels(name):
    assert off(read(CASES[name].content, conversions=Conversions()), CASES[name].pixels) <= CASES[name].tolerance


def kinds(content: bytes) -> set[Conversion]:
    counted = Conversions()
    read_rgb(content, "x", conversions=counted)
    return {kind for kind in Conversion if counted.count(kind)}


def test_what_is_lost_is_counted():
    lost: dict[str, set[Conversion]] = {name: set() for name in CASES}
    for name in lost:
        if name.startswith(("animated",)):
            lost[name].add(Conversion.ANIMATION)
        if "of three" in name and "PSD" not in name and "MPO" not in name:
            lost[name].add(Conversion.PAGES)
        if any(word in name for word in ("16-bit", "32-bit", "12-bit", "10-bit", "floats", "PGM")):
            lost[name].add(Conversion.DEPTH)
    for name in ("floats of 0 to 65535", "floats of 200 to 1000", "floats of -1 to 1", "floats with NaN and infinity"):
        lost[name].add(Conversion.RANGE)
    assert {name: kinds(case.content) for name, case in CASES.items()} == lost


def test_values_that_use_little_of_their_type_are_scaled_by_it_all_the_same_and_counted():
    dim = np.array([[0, 4000]])
    assert off(read(tiff(dim.astype(np.uint16), 1), conversions=Conversions()), grey(dim / 257)) == 0
    assert kinds(tiff(dim.astype(np.uint16), 1)) == {Conversion.DEPTH, Conversion.FAINT}
    assert kinds(tiff(dim.astype(np.int32) * 1000, 1)) == {Conversion.DEPTH, Conversion.FAINT}
    assert kinds(tiff(dim.astype(np.uint16) * 0, 1)) == {Conversion.DEPTH}  # black, and meant to be


@pytest.mark.parametrize("value", [np.nan, -5.0])
def test_floats_without_a_range_are_black(value):
    flat = tiff(np.full((2, 3), value, np.float32), 1)
    with np.errstate(all="raise"):
        assert read(flat, conversions=Conversions()).max() == 0
    assert Conversion.RANGE in kinds(flat)


@pytest.mark.parametrize("low", [0.0, -0.12])
@pytest.mark.parametrize("high", [0.5, 1.0, 1.0000001, 1.15, 1.5])
def test_floats_that_overshoot_one_are_clipped_shares_of_white(low, high):
    """As filters leave them that resize: white stays 1, not 255, which would make the image black."""
    values = np.linspace(low, high, 24, dtype=np.float32).reshape(4, 6)
    file = tiff(values, 1)
    assert off(read(file, conversions=Conversions()), grey(np.clip(values.astype(float), 0, 1) * 255)) <= 1
    assert (Conversion.RANGE in kinds(file)) == (low < 0 or high > 1)


@pytest.mark.parametrize(("low", "high"), [(0, 1.6), (0, 200), (-1, 1), (-0.5, 0.5), (-9, 300)])
def test_other_floats_are_grey_levels_or_scaled_by_their_own_range(low, high):
    values = np.linspace(low, high, 24).astype(np.float32).reshape(4, 6)
    expected = values if low == 0 else (values - low) / (high - low) * 255
    assert off(read(tiff(values, 1), conversions=Conversions()), grey(expected)) <= 1


def test_losses_are_said_in_one_line_and_a_file_counts_once(capsys):
    counted = Conversions()
    counted.report()
    assert capsys.readouterr().out == ""
    for name in ("a.gif", "b.gif", "c.gif", "d.gif", "b.gif"):
        read_rgb(CASES["animated GIF"].content, name, conversions=counted)
    read_rgb(CASES["TIFF of three pages"].content, "scan.tif", conversions=counted)
    counted.report()
    assert capsys.readouterr().out == (
        "converted with a loss: 4 images: only the first picture of an animation is used (a.gif, b.gif, c.gif, ...);"
        " 1 image: only the first of several pages is used (scan.tif)\n"
    )


def test_losses_that_nobody_counts_are_warnings():
    with pytest.warns(ConversionWarning, match="scan.tif: only the first of several pages is used"):
        read_rgb(CASES["TIFF of three pages"].content, "scan.tif")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_rgb(CASES["RGBA PNG"].content, "x")


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """The definition in the EXIF standard: where the stored row 0 and column 0 are seen."""
    swapped = pixels.swapaxes(0, 1)
    return {
        1: pixels,  # top, left
        2: pixels[:, ::-1],  # top, right
        3: pixels[::-1, ::-1],  # bottom, right
        4: pixels[::-1],  # bottom, left
        5: swapped,  # left, top
        6: swapped[:, ::-1],  # right, top
        7: swapped[::-1, ::-1],  # right, bottom
        8: swapped[::-1],  # left, bottom
    }[orientation]


def with_orientation(kind: str, orientation: int, **options) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(image(FLAT), kind, exif=exif, **options)


TURNED: dict[str, tuple[Callable[[int], bytes], int]] = {
    "JPEG": (lambda turn: with_orientation("JPEG", turn, quality=100, subsampling=0), 3),
    "PNG": (lambda turn: with_orientation("PNG", turn), 0),
    "WebP": (lambda turn: with_orientation("WEBP", turn, lossless=True), 0),
    "AVIF": (lambda turn: with_orientation("AVIF", turn, quality=100, subsampling="4:4:4"), 4),
    "TIFF": (lambda turn: tiff(FLAT, 2, Orientation=[turn]), 0),
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP", "AVIF", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_as_the_camera_says_or_stay_as_stored(kind, orientation):
    make, tolerance = TURNED[kind]
    content = make(orientation)
    assert off(read(content), upright(FLAT, orientation)) <= tolerance
    assert off(read(content, turned=False), FLAT) <= tolerance
    height, width = upright(FLAT, orientation).shape[:2]
    assert turn_of(content, "x") == Turn(orientation, FLAT.shape[1], FLAT.shape[0])
    assert turn_of(content, "x").size == (width, height)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_and_points_move_with_the_pixels(orientation):
    left, top, width, height = 5, 2, 7, 3
    painted = np.zeros((20, 30, 3), np.uint8)
    painted[top : top + height, left : left + width] = 255
    painted[top, left] = (255, 0, 0)
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = saved(image(painted), "PNG", exif=exif)
    turned, turn = read(content), turn_of(content, "x")
    rows, columns = np.nonzero(turned[..., 0])
    assert turn.box((left, top, width, height)) == (
        columns.min(),
        rows.min(),
        columns.max() - columns.min() + 1,
        rows.max() - rows.min() + 1,
    )
    row, column = np.argwhere((turned == (255, 0, 0)).all(axis=-1))[0]
    assert turn.point((left + 0.5, top + 0.5)) == (column + 0.5, row + 0.5)


def test_heic_files_are_upright_whatever_is_asked():
    """The turn is part of the coding and the reader makes it, so there are no other pixels."""
    pillow_heif.register_heif_opener()
    exif = Image.Exif()
    exif[0x0112] = 6
    content = saved(image(FLAT), "HEIF", exif=exif.tobytes(), quality=-1, chroma=444, matrix_coefficients=0)
    Image.OPEN.pop("HEIF"), Image.ID.remove("HEIF")
    assert off(read(content), upright(FLAT, 6)) == 0
    assert off(read(content, turned=False), upright(FLAT, 6)) == 0
    assert turn_of(content, "x") == Turn(1, FLAT.shape[0], FLAT.shape[1])


def test_an_orientation_that_exif_does_not_know_is_ignored():
    for orientation in (0, 9, 300):
        assert off(read(with_orientation("PNG", orientation)), FLAT) == 0
        assert turn_of(with_orientation("PNG", orientation), "x") == Turn(1, FLAT.shape[1], FLAT.shape[0])


def damaged_profiles() -> dict[str, bytes]:
    whole = rgb_profile(DISPLAY_P3)
    jpeg = saved(image(FLAT), "JPEG", quality=100, subsampling=0, icc_profile=whole)
    place = jpeg.index(b"ICC_PROFILE\0") + 13
    return {
        "garbage": saved(image(FLAT), "PNG", icc_profile=bytes(range(200))),
        "nothing": tiff(FLAT, 2, ICCProfile=b"\0"),
        "cut": saved(image(FLAT), "PNG", icc_profile=whole[:300]),
        "for inks": saved(image(FLAT), "PNG", icc_profile=cmyk_profile(np.zeros((2, 2, 2, 2, 3)))),
        "for greys": saved(image(FLAT), "PNG", icc_profile=grey_profile(1.8)),
        "not compressed": png(FLAT.reshape(len(FLAT), -1), 8, 2, iCCP=b"name\0\0not deflated"),
        "one piece of two": jpeg[:place] + b"\2" + jpeg[place + 1 :],
    }


@pytest.mark.parametrize("name", damaged_profiles())
def test_a_broken_profile_is_ignored_and_counted(name):
    content = damaged_profiles()[name]
    assert kinds(content) == {Conversion.PROFILE}
    assert off(read(content, conversions=Conversions()), FLAT) <= 3
    with pytest.warns(ConversionWarning, match="x: a colour profile that is broken") as caught:
        read(content)
    assert len(caught) == 1


def test_what_is_returned_carries_no_profile_and_no_orientation():
    for name in ("Display P3 PNG", "a profile that is sRGB", "palette with a transparent colour", "16-bit grey PNG"):
        assert read_rgb(CASES[name].content, "x", conversions=Conversions()).info == {}
    made = read_rgb(with_orientation("JPEG", 6), "x")
    assert (made.mode, made.info, made.getexif().get(0x0112)) == ("RGB", {}, None)


NOISE = image(RNG.integers(0, 256, (64, 64, 3), np.uint8))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("GIF", {}),
        ("BMP", {}),
        ("PPM", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("WEBP", {}),
        ("AVIF", {}),
        ("JPEG2000", {}),
        ("HEIF", {}),
    ],
)
def test_truncated_files_are_refused_by_name(kind, options):
    pillow_heif.register_heif_opener()
    whole = saved(NOISE.quantize() if kind == "GIF" else NOISE, kind, **options)
    Image.OPEN.pop("HEIF"), Image.ID.remove("HEIF")
    for share in (0.1, 0.4, 0.7, 0.9):
        with pytest.raises(ImageError, match="photos/1.xyz cannot be decoded: .* "):
            read_rgb(whole[: int(share * len(whole))], "photos/1.xyz")


def test_a_tiff_file_whose_tags_are_truncated_is_refused():
    """Without the tag that says so, floats would be read as integers."""
    with pytest.raises(ImageError, match="x cannot be decoded: the list of its tags is truncated"):
        read_rgb(CASES["floats of 0 to 1"].content[:-6], "x")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"a caption, not an image", "it is no image of a known format"),
        (b"a", "it is no image of a known format"),
        (b"\0\0\0\x18ftypmp42 a film", "it is no image of a known format"),
        (tiff(np.zeros((2, 2)), 1), "TIFF: unknown pixel mode"),  # floats of 64 bits
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "PNG: "),
    ],
)
def test_what_is_no_image_is_refused_with_the_reason(content, reason):
    with pytest.raises(ImageError, match=f"photos/1.xyz cannot be decoded: {reason}"):
        read_rgb(content, "photos/1.xyz")


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(ImageError, match="one.png is missing"):
        read_rgb(tmp_path / "one.png", "one.png")
    with pytest.raises(ImageError, match="one.png is missing"):
        turn_of(tmp_path / "one.png", "one.png")
    with pytest.raises(ImageError, match="folder cannot be decoded: .*Is a directory"):
        read_rgb(tmp_path, "folder")


def black(width: int, height: int) -> bytes:
    """A small PNG file of many pixels, of which no more than a row is in the file where there are too many."""
    rows = np.zeros((height if height < 100 else 1, (width + 7) // 8), np.uint8)
    return png(rows, 1, 0, size=(width, height))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_decompression_bombs_are_refused_before_they_are_decoded(monkeypatch):
    for side in (10_000, 20_000, 60_000):  # above Pillow's warning and above its error
        with pytest.raises(ImageError, match=r"bomb.png has more than 89,478,485 pixels; scale it down"):
            read_rgb(black(side, side), "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    assert read(black(20, 10)).shape == (10, 20, 3)
    with pytest.raises(ImageError, match="more than 200 pixels"):
        read(black(20, 11))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert read(black(20, 11)).shape == (11, 20, 3)


def test_without_pillow_heif_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(
        ImageError,
        match=r"a.heic is a HEIC file, which needs the extra `formats`; `pip install --editable '.\[formats\]'`",
    ):
        read_rgb(CASES["HEIC"].content, "a.heic")
    assert off(read(CASES["AVIF"].content), FLAT) <= 4  # Pillow's own


def test_pillow_heif_is_imported_for_heic_files_only():
    code = (
        "import sys, io; from PIL import Image; from lpi.data.pixels import read_rgb; buffer = io.BytesIO();"
        "Image.new('RGB', (4, 4)).save(buffer, 'PNG'); read_rgb(buffer.getvalue(), 'x');"
        "print([name for name in ('pillow_heif', 'pyarrow', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_bytes_paths_and_opened_files_give_the_same(tmp_path):
    for name in ("RGBA PNG", "HEIC", "animated GIF", "16-bit grey TIFF"):
        content, counted = CASES[name].content, Conversions()
        (tmp_path / "image").write_bytes(content)
        with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("image", content)
        with zipfile.ZipFile(tmp_path / "a.zip") as archive, archive.open("image") as member:
            sources = (tmp_path / "image", io.BytesIO(content), member)
            made = [read_rgb(source, "x", conversions=counted) for source in sources]
        for one in made:
            assert off(np.asarray(one, np.int64), CASES[name].pixels) <= CASES[name].tolerance


def test_threads_read_what_one_thread_reads():
    names = list(CASES) * 4
    counted = Conversions()
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda name: read(CASES[name].content, name, conversions=counted), names))
    alone = Conversions()
    for name, pixels in zip(names, made, strict=True):
        assert off(pixels, CASES[name].pixels) <= CASES[name].tolerance
        read(CASES[name].content, name, conversions=alone)
    assert counted.summary() == alone.summary() != ""


def test_damaged_files_of_any_kind_are_read_or_refused():
    """Bytes are overwritten at random places: never another error, never another mode."""
    rng, refused, counted = np.random.default_rng(1), 0, Conversions()
    for case in CASES.values():
        for _ in range(8):
            content, place = bytearray(case.content), rng.integers(len(case.content))
            content[place : place + 4] = rng.integers(0, 256, 4, np.uint8).tobytes()
            try:
                assert read_rgb(bytes(content), "x", conversions=counted).mode == "RGB"
            except ImageError as error:
                assert str(error).startswith("x cannot be decoded: ") or "more than" in str(error)
                refused += 1
    assert refused > 100


def awkward(number: int) -> tuple[bytes, np.ndarray]:
    """A turned PNG file with a colour hidden under transparent pixels, and its upright pixels."""
    rng = np.random.default_rng(number)
    stored = np.kron(rng.integers(0, 256, (4, 5, 4), np.uint8), np.ones((20, 20, 1), np.uint8))
    stored[:20, :, 3] = 0
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = on_white(stored[..., :3], stored[..., 3]).astype(np.uint8)
    return saved(image(stored), "PNG", exif=exif), upright(pixels, 6)


@pytest.mark.parametrize("margin", [0, 6])
def test_training_and_test_images_of_the_stream_come_from_the_same_reader(tmp_path, monkeypatch, margin, capsys):
    """Awkward files become the same stream as plain files of the pixels that they show."""
    backbone, streams = Backbone("embedded", ROOT / "data" / "backbone"), []
    for kind in ("awkward", "plain"):
        home = tmp_path / kind / "data" / "own"
        home.mkdir(parents=True)
        monkeypatch.chdir(tmp_path / kind)
        rows = [("image", "caption", "task", "split")]
        for number, split in enumerate(("train", "val", "test")):
            content, shown = awkward(number)
            (home / f"{number}.png").write_bytes(content if kind == "awkward" else saved(image(shown), "PNG"))
            rows.append((f"{number}.png", "a caption", "task", split))
        (home / "animated.gif").write_bytes(CASES["animated GIF"].content)
        rows.append(("animated.gif", "a caption", "task", "train"))
        with (home / "captions.csv").open("w", newline="") as file:
            csv.writer(file).writerows(rows)
        raw, out = tmp_path / kind / "raw", tmp_path / kind / "stream"
        own.fetch(raw, "captions.csv")
        split_stream(
            raw,
            out,
            ["t00"],
            Rules(margin=margin),
            backbone.resize,
            lambda captions: np.zeros((len(captions), 4), np.int32),
            lambda captions: np.zeros((len(captions), 1)),
        )
        streams.append([np.load(out / split / "t00" / "images.npy") for split in ("train", "val", "test")])
    assert [made.shape[1] for made in streams[0]] == [backbone.resize(margin)(NOISE).size[0]] + 2 * [
        backbone.resize()(NOISE).size[0]
    ]
    for one, other in zip(*streams, strict=True):
        assert np.array_equal(one, other)
    assert capsys.readouterr().out.count("1 image: only the first picture of an animation is used") == 2  # once a run


def test_images_of_published_data_sets_stay_as_stored_and_own_ones_are_turned(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = TURNED["PNG"][0](6)
    monkeypatch.delenv("LPI_DATA", raising=False)
    for folder in ("raw", "data/coco", "data/flickr30k", "data/own"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "1.png").write_bytes(content)
    turned = upright(FLAT, 6)
    for source, wanted in (
        (Source("single", "coco"), FLAT),
        (Source("cluster", "flickr30k"), FLAT),
        (Source("single", "own"), turned),
        (Source("area"), turned),
    ):
        with source.images(tmp_path / "raw") as store:
            assert off(np.asarray(store.open("1.png"), np.int64), wanted) == 0


def test_encrypted_members_are_refused_by_name(tmp_path):
    with zipfile.ZipFile(tmp_path / "train.zip", "w") as archive:
        archive.writestr("train/1.png", CASES["RGBA PNG"].content)
    content = bytearray((tmp_path / "train.zip").read_bytes())
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):  # the flag of encryption, in both headers
        content[content.index(signature) + offset] |= 1
    (tmp_path / "train.zip").write_bytes(content)
    with ImageStore(tmp_path) as store, pytest.raises(ImageError, match="train/1.png cannot be decoded: .*encrypted"):
        store.open("train/1.png")
