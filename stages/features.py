"""Encode the whole stream once with the frozen backbone."""

from pathlib import Path

from lpi.continual.features import extract_features
from lpi.parameters import load_chain, load_parameters
from lpi.runtime.cost import measured
from lpi.runtime.devices import device_from_environment
from lpi.runtime.errors import plain_errors
from lpi.runtime.startup import import_open_clip
from lpi.systems import load_system

OUT = Path("data/features")


def main() -> None:
    parameters = load_parameters().without("prompts")
    device = device_from_environment()
    extract_features(Path("data/stream"), OUT, load_chain(), load_system(parameters, device), device)


if __name__ == "__main__":
    with plain_errors(), measured(OUT):
        import_open_clip()
        main()
