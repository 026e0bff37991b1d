"""The model card of an export."""

from lpi.inference.learned import Learned
from lpi.parameters import Parameters

OPENMOJI = "openmoji"


def card(learned: Learned, included: bool = True) -> str:
    """README.md: front matter as the Hugging Face hub reads it, what this is, its results, how to use it.

    included: whether the export has an embedded model with it.
    """
    p = learned.parameters
    what = "referring expressions" if learned.grounds else "image-text retrieval"
    return "\n".join(
        [
            *front_matter(learned),
            f"# {p['method']} on {len(learned.tasks)} tasks of {p['dataset']}",
            "",
            f"Prompts for {what}, learned task by task on a frozen model with [lpi](https://arxiv.org/abs/2501.14369)",
            "(Low-rank Prompt Interaction, ACM Multimedia 2024).",
            "",
            f"- Tasks, in this order: {', '.join(learned.tasks)}.",
            f"- Frozen model: {frozen_model(learned, included)}.",
            f"- Method: `{p['method']}`, with rank {p['rank']}, {p['prompt_length']} prompts in {p['depth']} layers; "
            "`config.json` has all parameters.",
            *(["- Masks are drawn by the networks in `drawing/`, which need `diffusers`."] if learned.draws else []),
            f"- Licence: {licence_of(p)}.",
            "",
            "## Use",
            "",
            *usage(learned),
            "",
            "## Results",
            "",
            *results(learned),
            "",
            "Expect nothing on pictures of another kind than those of the tasks.",
            "",
        ]
    )


def front_matter(learned: Learned) -> list[str]:
    """The lines that the hub reads."""
    kind = "zero-shot-object-detection" if learned.grounds else "zero-shot-image-classification"
    tags = ["lpi", "continual-learning", "prompt-tuning", "vision-language"]
    licence = "cc-by-sa-4.0" if learned.parameters["dataset"] == OPENMOJI else "other"
    return [
        "---",
        "library_name: lpi",
        f"license: {licence}",
        f"pipeline_tag: {kind}",
        "tags:",
        *(f"- {tag}" for tag in tags),
        "---",
        "",
    ]


def licence_of(parameters: Parameters) -> str:
    """Of what was learned: that of the data, as far as it is known."""
    if parameters["dataset"] == OPENMOJI:
        return "CC BY-SA 4.0, that of OpenMoji's emoji, which pictures were drawn with"
    return f"what the data set ({parameters['dataset']}) and the frozen model allow; fill it in before you publish"


def frozen_model(learned: Learned, included: bool) -> str:
    """By name, or the embedded one."""
    name = learned.parameters["detector" if learned.grounds else "backbone"]
    embedded = f"the small one that comes with lpi{', included in `model/`' * included}"
    return f"`{name}`" if name != "embedded" else embedded


def usage(learned: Learned) -> list[str]:
    """Lines of code."""
    if learned.grounds:
        return [
            "```python",
            "from lpi import Grounder",
            "",
            'grounder = Grounder.load("FOLDER")',
            'found = grounder.locate("picture.jpg", "the dog on a red card")',
            "print(found.boxes[0], found.scores[0], found.task)",
            "```",
        ]
    return [
        "```python",
        "from lpi import Retriever",
        "",
        'retriever = Retriever.load("FOLDER")',
        'retriever.index("PICTURES")',
        'for hit in retriever.search("a cat in a red frame"):',
        "    print(hit.score, hit.name)",
        "```",
    ]


def results(learned: Learned) -> list[str]:
    """The report of the run, without its title."""
    if not learned.summary:
        return ["The run was not evaluated."]
    if learned.grounds:
        from lpi.grounding.page import page
    else:
        from lpi.report.page import page
    return page(dict(learned.summary), learned.parameters["method"], len(learned.tasks)).splitlines()[2:]
