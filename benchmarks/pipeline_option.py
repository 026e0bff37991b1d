"""The option `--pipeline` of search and study."""

import argparse

from drawn_streams import DRAWN, PARTS
from grounding_streams import GROUNDING
from pipelines import Pipeline
from streams import RETRIEVAL

PIPELINES = {pipeline.name: pipeline for pipeline in (RETRIEVAL, GROUNDING, DRAWN, PARTS)}


def pipeline_parser(description: str | None) -> tuple[argparse.ArgumentParser, Pipeline]:
    """A parser that knows the option, for more of them, and the pipeline that the command line names."""
    option = argparse.ArgumentParser(add_help=False)
    option.add_argument("--pipeline", choices=list(PIPELINES), default=RETRIEVAL.name)
    named, _ = option.parse_known_args()
    return argparse.ArgumentParser(description=description, parents=[option]), PIPELINES[named.pipeline]
