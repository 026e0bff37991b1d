"""How the orientation in an image's EXIF data moves its pixels, points and boxes."""

from dataclasses import dataclass

from PIL import Image

ORIENTATION = 0x0112  # the EXIF tag
TURNS = {  # orientation -> what makes the stored image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
INVERSE = {6: 8, 8: 6}  # orientations that undo each other; all others undo themselves
Point = tuple[float, float]
Box = tuple[float, float, float, float]  # left, top, width, height


@dataclass(frozen=True)
class Turn:
    """How one stored image is made upright.

    Attributes:
        orientation: 1 to 8, as EXIF numbers them; 1 leaves everything where it is.
        width, height: of the stored image in pixels.
    """

    orientation: int
    width: int
    height: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the upright image."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)

    def point(self, point: Point) -> Point:
        """Where a point of the stored image is in the upright one; (x, y) in pixels, (0, 0) is the upper left corner
        of the upper left pixel."""
        (x, y), right, down = point, self.width - point[0], self.height - point[1]
        return {
            2: (right, y),
            3: (right, down),
            4: (x, down),
            5: (y, x),
            6: (down, x),
            7: (down, right),
            8: (y, right),
        }.get(self.orientation, (x, y))

    def box(self, box: Box) -> Box:
        """Where a box of the stored image is in the upright one; (left, top, width, height) in pixels, as in COCO."""
        left, top, width, height = box
        (x0, y0), (x1, y1) = self.point((left, top)), self.point((left + width, top + height))
        return min(x0, x1), min(y0, y1), abs(x1 - x0), abs(y1 - y0)


def orientation_of(image: Image.Image) -> int:
    """1 to 8 from the EXIF data; 1 where there are none or they cannot be read."""
    try:
        found = image.getexif().get(ORIENTATION, 1)
        return found if found in TURNS else 1
    except Exception:  # Pillow raises whatever damaged EXIF data lead to
        return 1


def transposed(image: Image.Image, orientation: int) -> Image.Image:
    """The image made upright, the same image for orientation 1."""
    return image.transpose(TURNS[orientation]) if orientation in TURNS else image


def restored(image: Image.Image, orientation: int) -> Image.Image:
    """The opposite of `transposed`."""
    return transposed(image, INVERSE.get(orientation, orientation))
