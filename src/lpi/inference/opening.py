"""Load a model by name, for whatever it was made."""

from lpi.inference.encoder import Encoder
from lpi.inference.grounder import Grounder
from lpi.inference.learned import Learned
from lpi.inference.models import default_name, load_model
from lpi.runtime.devices import device_from_environment
from lpi.runtime.startup import import_open_clip


def open_model(name: str | None = None) -> Encoder | Grounder:
    """What a stream has left, or a CLIP without prompts.

    name: see `lpi.inference.models.load_model`; None: LPI_MODEL, else the committed run of retrieval.

    Raises:
        UserError: it cannot be loaded.
    """
    import_open_clip()
    chosen, device = name or default_name(), device_from_environment()
    model = load_model(chosen)
    if isinstance(model, Learned) and model.grounds:
        return Grounder.of(model, chosen, device)
    return Encoder(model, device)
