"""Check every parameter before anything runs; every other stage waits for this one."""

from pathlib import Path

from lpi.methods import check, check_sections, method_class, resolve
from lpi.models.backbone import Backbone
from lpi.parameters import GENERAL, check_order, load_chain, load_parameters
from lpi.runtime.errors import plain_errors

OUT = Path("data/parameters.txt")


def main() -> None:
    parameters = load_parameters()
    for name in GENERAL:
        parameters[name]  # raises when it is missing
    check_sections(parameters)
    load_chain()
    check_order(parameters)
    check(resolve(parameters), Backbone(parameters["backbone"]).config)
    method = parameters["method"]
    if fixed := method_class(method).fixed:
        print(f"method {method} fixes " + ", ".join(f"{name}={value}" for name, value in fixed.items()))
    OUT.write_text("All parameters are valid.\n", "utf-8")  # the same for all of them: it only orders the stages


if __name__ == "__main__":
    with plain_errors():
        main()
