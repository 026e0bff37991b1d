"""The mistakes of Diff-Prompt's released code, which can be repeated to see what each costs."""

QUIRKS = ("images", "bias", "schedule", "clip", "raw", "unseeded")


def quirks_of(released: str) -> frozenset[str]:
    """Those that a value of the parameter `released` names.

    images: in training, the picture's prompts are made of the mask of another pair of the batch.
    bias: Swin's relative positions and the mask of shifted windows are those of other keys (Grounding DINO).
    schedule: masks are drawn by the cosine schedule, whatever the generator was trained by.
    clip: CLIP gets pixels from -1 to 1 in training, and what the detector gets in drawing.
    raw: the weights of the last update draw, not their mean.
    unseeded: the noise is another in every run.
    """
    return frozenset(QUIRKS if released == "all" else {released} - {"none"})
