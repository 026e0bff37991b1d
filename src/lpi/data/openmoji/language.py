"""Facts of a scene and the words for them, shared by captions, referring expressions and pre-training pairs."""

from collections import Counter

from lpi.data.openmoji.catalogue import Concept
from lpi.data.openmoji.scenes import Background, Placed

NUMBERS = ("zero", "one", "two", "three", "four", "five")
RELATION_MARGIN = 0.12  # how much further (fraction of the side) before anybody would say "left of"
SIZE_RATIO = 1.35  # how much larger before anybody would say "bigger"


def counted(concept: Concept, count: int) -> str:
    """ "a dog" for one, "three dogs" for more."""
    return concept.name if count == 1 else f"{NUMBERS[count]} {concept.plural}"


def enumerate_phrases(phrases: list[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def count_concepts(objects: list[Placed] | tuple[Placed, ...]) -> list[tuple[Concept, int]]:
    """Concepts with their number of instances, in order of first appearance."""
    return list(Counter(placed.concept for placed in objects).items())


def relation(first: Placed, second: Placed) -> str | None:
    """Where `first` is, seen from `second`: left, right, above, below; None when neither direction is clear."""
    dx, dy = first.x - second.x, first.y - second.y
    if abs(dx) >= max(RELATION_MARGIN, 1.3 * abs(dy)):
        return "left" if dx < 0 else "right"
    if abs(dy) >= max(RELATION_MARGIN, 1.3 * abs(dx)):
        return "above" if dy < 0 else "below"
    return None


def position(placed: Placed) -> str:
    """The cell of a 3 x 3 grid: "left", "upper right", "middle", ..."""
    column = "left" if placed.x < 0.38 else "right" if placed.x > 0.62 else ""
    row = "upper" if placed.y < 0.38 else "lower" if placed.y > 0.62 else ""
    if row and column:
        return f"{row} {column}"
    return column or {"upper": "top", "lower": "bottom", "": "middle"}[row]


def relation_phrase(first: str, side: str, second: str) -> str:
    """ "a dog to the left of a cat", "a dog above a cat"."""
    return f"{first} to the {side} of {second}" if side in ("left", "right") else f"{first} {side} {second}"


def place_phrase(placed: Placed) -> str:
    """ "a dog in the upper left corner", "a dog at the top", "a dog in the middle"."""
    place = position(placed)
    if " " in place:
        return f"{placed.concept.name} in the {place} corner"
    return f"{placed.concept.name} {'in' if place == 'middle' else 'at'} the {place}"


def there_is(placed: Placed) -> str:
    """ "there is a dog at the top", "there are glasses at the top"."""
    return f"there {'are' if placed.concept.is_plural else 'is'} {place_phrase(placed)}"


def is_bigger(first: Placed, second: Placed) -> bool:
    """Clearly larger, as a person would see it."""
    return first.size >= SIZE_RATIO * second.size


def background_phrase(background: Background) -> str:
    """ "a striped blue background"."""
    pattern = "" if background.pattern == "plain" else f"{background.pattern} "
    article = "an" if (pattern or background.colour)[0] in "aeiou" else "a"
    return f"{article} {pattern}{background.colour} background"


def with_adjective(adjective: str, concept: Concept) -> str:
    """ "a big dog", "big glasses"."""
    if concept.name == concept.noun:
        return f"{adjective} {concept.noun}"
    article = "the" if concept.name.startswith("the ") else "an" if adjective[0] in "aeiou" else "a"
    return f"{article} {adjective} {concept.noun}"
