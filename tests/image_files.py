"""Image files that few programs write, byte by byte: PNG, TIFF, patched JPEG, and ICC profiles."""

import io
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

D50 = (0.9642, 1.0, 0.8249)  # the white point of the ICC's connection space
D65 = (0.95047, 1.0, 1.08883)  # that of sRGB, Display P3 and Adobe RGB
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
SRGB = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))  # x, y of the primaries
DISPLAY_P3 = ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06))
ADOBE_RGB = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
ADOBE_GAMMA = 563 / 256


def saved(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(rows: np.ndarray, depth: int, colour: int, size: tuple[int, int] | None = None, **chunks: bytes) -> bytes:
    """rows: (H, bytes of a row) uint8, as PNG packs them; size: what the header says where that is no whole number of
    bytes; chunks: name -> content, between header and pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    width = rows.shape[1] * 8 // (depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour])
    header = struct.pack(">IIBBBBB", *(size or (width, rows.shape[0])), depth, colour, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    middle = b"".join(chunk(name.encode(), content) for name, content in chunks.items())
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + middle + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def tiff(pixels: np.ndarray, photometric: int, bits: int = 0, **tags: Sequence[int] | bytes) -> bytes:
    """One uncompressed strip in the byte order of the array.

    pixels: (H, W) or (H, W, C); where `bits` is given the rows are packed bytes and `ImageWidth` is among the tags.
    tags: ImageWidth, Compression, Orientation, ColorMap, ExtraSamples or ICCProfile.
    """
    order = ">" if pixels.dtype.newbyteorder("=") != pixels.dtype else "<"
    samples = pixels.shape[2] if pixels.ndim == 3 else 1
    entries: dict[int, Sequence[int] | bytes] = {
        256: tags.pop("ImageWidth", [pixels.shape[1]]),
        257: [pixels.shape[0]],
        258: [bits or 8 * pixels.dtype.itemsize] * samples,
        259: tags.pop("Compression", [1]),
        262: [photometric],
        273: [8],
        277: [samples],
        278: [pixels.shape[0]],
        279: [pixels.nbytes],
        339: [{"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]] * samples,
    }
    numbers = {"Orientation": 274, "ColorMap": 320, "ExtraSamples": 338, "ICCProfile": 34675}
    entries |= {numbers[name]: value for name, value in tags.items()}
    data = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    place = 8 + len(data)  # of the directory
    rest = place + 2 + 12 * len(entries) + 4  # of values that do not fit into it
    directory, overflow = struct.pack(order + "H", len(entries)), b""
    for tag, value in sorted(entries.items()):
        raw = value if isinstance(value, bytes) else struct.pack(f"{order}{len(value)}I", *value)
        field = raw.ljust(4, b"\0") if len(raw) <= 4 else struct.pack(order + "I", rest + len(overflow))
        overflow += (raw + b"\0" * (len(raw) % 2)) if len(raw) > 4 else b""
        directory += struct.pack(order + "HHI", tag, 7 if isinstance(value, bytes) else 4, len(value)) + field
    magic = {"<": b"II*\0", ">": b"MM\0*"}[order]
    return magic + struct.pack(order + "I", place) + data + directory + bytes(4) + overflow


def psd(pixels: np.ndarray, layers: int) -> bytes:
    """(H, W, 3) uint8 flattened, with so many empty layers."""
    header = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, pixels.shape[0], pixels.shape[1], 8, 3)
    channels = b"".join(struct.pack(">hI", channel, 2) for channel in range(3))
    layer = struct.pack(">4iH", 0, 0, 0, 0, 3) + channels + b"8BIMnorm\xff\0\0\0" + struct.pack(">III4x", 12, 0, 0)
    records = struct.pack(">h", layers) + layers * layer + layers * bytes(6)
    records += b"\0" * (len(records) % 2)
    section = struct.pack(">I", len(records)) + records + bytes(4)
    planes = np.moveaxis(pixels, -1, 0).tobytes()
    return header + bytes(8) + struct.pack(">I", len(section)) + section + bytes(2) + planes


def without_adobe(jpeg: bytes) -> bytes:
    """The file without its APP14 segment."""
    place = jpeg.index(b"\xff\xee")
    return jpeg[:place] + jpeg[place + 2 + struct.unpack(">H", jpeg[place + 2 : place + 4])[0] :]


def adobe_transform(jpeg: bytes, transform: int) -> bytes:
    """The file with another transform in its APP14 segment: 0 is CMYK, 2 is YCCK."""
    place = jpeg.index(b"Adobe") + 11
    return jpeg[:place] + bytes([transform]) + jpeg[place + 1 :]


def rgb_to_xyz(primaries: Sequence[tuple[float, float]]) -> np.ndarray:
    """The (3, 3) matrix from linear RGB to XYZ of a space with white D65."""
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    return columns * np.linalg.solve(columns, D65)


def adapted(source: Sequence[float], target: Sequence[float]) -> np.ndarray:
    """Bradford's (3, 3) matrix from XYZ under one white to XYZ under another."""
    ratio = (BRADFORD @ target) / (BRADFORD @ source)
    return np.linalg.inv(BRADFORD) @ (ratio[:, None] * BRADFORD)


def srgb_decode(values: np.ndarray) -> np.ndarray:
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def srgb_encode(values: np.ndarray) -> np.ndarray:
    values = np.clip(values, 0, 1)
    return np.where(values <= 0.0031308, 12.92 * values, 1.055 * values ** (1 / 2.4) - 0.055)


def srgb_of_xyz(xyz: np.ndarray) -> np.ndarray:
    """(..., 3) XYZ under D65 -> (..., 3) sRGB of 0..255."""
    return np.rint(255 * srgb_encode(xyz @ np.linalg.inv(rgb_to_xyz(SRGB)).T))


def srgb_of_lab(lab: np.ndarray, black: float = 0) -> np.ndarray:
    """(..., 3) CIE L*a*b* under D50 -> (..., 3) sRGB of 0..255; black: the L* that is to become black."""
    y = (lab[..., 0] + 16) / 116
    f = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], axis=-1)
    share, darkest = (np.where(v > 6 / 29, v**3, 3 * (6 / 29) ** 2 * (v - 4 / 29)) for v in (f, (black + 16) / 116))
    return srgb_of_xyz((share - darkest) / (1 - darkest) * D50 @ adapted(D50, D65).T)


def _profile(space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    """An ICC profile, version 2.4, of a display or, with the connection space Lab, of a printer."""
    place, table, body = 128 + 4 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        content += b"\0" * (-len(content) % 4)
        table += name + struct.pack(">II", place + len(body), len(content))
        body += content
    kind = b"prtr" if connection == b"Lab " else b"mntr"
    header = struct.pack(
        ">I4sI4s4s4s12s4s", place + len(body), b"lcms", 0x02400000, kind, space, connection, b"", b"acsp"
    )
    header += bytes(64 - 40 + 4) + _xyz(D50)[8:]
    return header.ljust(128, b"\0") + table + body


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def _xyz(values: Sequence[float]) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(map(_fixed, values))


def _gamma(value: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256))


def _srgb_curve(points: int) -> bytes:
    values = np.rint(65535 * srgb_decode(np.linspace(0, 1, points))).astype(">u2")
    return b"curv\0\0\0\0" + struct.pack(">I", values.size) + values.tobytes()


def rgb_profile(primaries: Sequence[tuple[float, float]], gamma: float | None = None, points: int = 1024) -> bytes:
    """A space with white D65; gamma: None is the curve of sRGB, at so many points."""
    colorants = adapted(D65, D50) @ rgb_to_xyz(primaries)
    curve = _srgb_curve(points) if gamma is None else _gamma(gamma)
    tags = {b"wtpt": _xyz(D50)}
    tags |= {name: _xyz(column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), colorants.T, strict=True)}
    return _profile(b"RGB ", b"XYZ ", tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve))


def grey_profile(gamma: float) -> bytes:
    return _profile(b"GRAY", b"XYZ ", {b"wtpt": _xyz(D50), b"kTRC": _gamma(gamma)})


def _table(inputs: int, outputs: int, values: np.ndarray) -> bytes:
    """Eight bits at the corners of the input space, between which the reader interpolates."""
    ramp, matrix = bytes(range(256)), b"".join(_fixed(value) for value in np.eye(3).ravel())
    return b"mft1\0\0\0\0" + bytes([inputs, outputs, 2, 0]) + matrix + inputs * ramp + values.tobytes() + outputs * ramp


def cmyk_profile(inks: np.ndarray) -> bytes:
    """A printer whose perceptual table is another than the colorimetric one.

    inks: (2, 2, 2, 2, 3) CIE L*a*b* of the sixteen mixtures of no or full cyan, magenta, yellow and black.
    """
    scaled = np.stack([inks[..., 0] * 255 / 100, inks[..., 1] + 128, inks[..., 2] + 128], axis=-1)
    colorimetric = np.rint(scaled).astype(np.uint8)
    of_lab = np.zeros((2, 2, 2, 4), np.uint8)
    of_lab[0] = 255  # all of every ink where L* is 0
    tags = {
        b"A2B0": _table(4, 3, 255 - colorimetric),
        b"A2B1": _table(4, 3, colorimetric),
        b"B2A0": _table(3, 4, of_lab),
    }
    return _profile(b"CMYK", b"Lab ", {b"wtpt": _xyz(D50)} | tags)
