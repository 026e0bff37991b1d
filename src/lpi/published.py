"""The published stream of COCO, and which rule of assigning images to tasks comes nearest to it."""

from collections import Counter

from lpi.coco import ASSIGNMENTS, Item

# Tasks in the published order, with the published numbers of test queries, at most 500 each (docs/protocol.md).
PUBLISHED = {
    "appliance": 73,
    "sports": 27,
    "outdoor": 44,
    "electronic": 255,
    "accessory": 210,
    "indoor": 306,
    "kitchen": 474,
    "furniture": 500,
    "vehicle": 500,
    "food": 500,
    "animal": 500,
    "person": 500,
}


def rule_table(items: list[Item]) -> str:
    """Test images per task under every assignment rule beside the published numbers, and which rule fits best.

    items: the test images of the official division.
    """
    cap = max(PUBLISHED.values())
    counts = {rule: Counter(item.task_name(rule) for item in items) for rule in ASSIGNMENTS}
    lines = [f"{'task':<12}{'published':>10}" + "".join(f"{rule:>8}" for rule in ASSIGNMENTS)]
    for name, published in PUBLISHED.items():
        lines.append(f"{name:<12}{published:>10}" + "".join(f"{min(cap, counts[r][name]):>8}" for r in ASSIGNMENTS))
    off = {r: sum(abs(min(cap, counts[r][name]) - n) for name, n in PUBLISHED.items()) for r in ASSIGNMENTS}
    best = min(off, key=off.get)
    fits = "fits exactly" if not off[best] else f"is nearest, {off[best]} images off in all"
    return "\n".join([*lines, f"stream.assignment={best} {fits}"])
