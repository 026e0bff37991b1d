"""The command line of measurements that have no options."""

import argparse


def no_options(description: str | None, rest: bool = False) -> None:
    """Print the description where the script was called with `--help`, and refuse any other argument.

    rest: arguments may follow, which the script reads itself.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    if rest:
        parser.parse_known_args()
    else:
        parser.parse_args()
