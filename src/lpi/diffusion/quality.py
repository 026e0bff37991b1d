"""How good drawn masks are by themselves: do they point at what is meant, and do they cover it?"""

from dataclasses import dataclass

from lpi.diffusion.vae import mask_iou

from torch import Tensor


@dataclass(frozen=True)
class Drawn:
    """Of m drawn masks.

    Attributes:
        points: (m,) bool, whether the brightest pixel lies in the true box.
        iou: (m,) with the true mask, both cut at 0.5.
        chance: (m,) the box's share of the picture: how often any pixel would lie in it.
    """

    points: Tensor
    iou: Tensor
    chance: Tensor

    def shares(self) -> dict[str, float]:
        """Means in percent."""
        parts = {"pointing": self.points.float(), "iou": self.iou, "chance": self.chance}
        return {name: 100 * float(part.mean()) for name, part in parts.items()}


def judged(masks: Tensor, true: Tensor, boxes: Tensor) -> Drawn:
    """Compare drawn masks with the true ones.

    Args:
        masks: (m, 1, S, S) as they are decoded.
        true: (m, 1, S, S) from 0 to 1.
        boxes: (m, 4) left, top, right, bottom relative to the side.
    """
    side = masks.shape[-1]
    brightest = masks.flatten(1).argmax(dim=1)
    x, y = ((place + 0.5) / side for place in (brightest % side, brightest // side))
    left, top, right, bottom = boxes.unbind(1)
    inside = (x >= left) & (x <= right) & (y >= top) & (y <= bottom)
    return Drawn(inside, mask_iou(masks, true), (right - left) * (bottom - top))
