"""Do the tasks of the embedded stream of expressions want different things? Shown before any method is compared.

    python benchmarks/grounding_conflict.py   # docs/results and docs/figures: grounding_conflict*

Three things are measured: the frozen detector, on pictures that nobody has trained on, without tokens, with tokens that
announce nothing, and with those that announce a part (grounding_conflict_tokens.csv: R@1 by part; its expressions all
state a made-up fact); methods along the stream, on its validation split; and prompts of single tasks from 20, 50 and
150 pictures (grounding_conflict_runs.csv, a row for every run). Runs that the table holds are not repeated, and rows of
another detector or of other parameters are refused; after a change of the code, delete the file.
grounding_conflict.csv sets measured beside wanted values. The stream's data is made in a temporary folder.
"""

from pathlib import Path

RESULTS, FIGURES = Path("docs/results"), Path("docs/figures")
RUNS, TABLE, TOKENS_TABLE = (RESULTS / f"grounding_conflict{name}.csv" for name in ("_runs", "", "_tokens"))
SEEDS = (0, 1, 2)
SEEDS_OF_ONE = (*SEEDS, 3, 4)  # of prompts of single tasks
