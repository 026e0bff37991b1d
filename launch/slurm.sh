#!/usr/bin/env bash
# One `dvc exp run` per task of a Slurm array. RUNS has one line of arguments per run, such as `-S rank=8 -S seed=1`:
#
#     python benchmarks/study.py --plan > runs.txt                  # or write your own
#     sbatch --array=1-$(wc -l < runs.txt) launch/slurm.sh runs.txt
#
# Submit from the root of a clone that every node sees, after `make install` and `dvc remote add --local
# --default shared FOLDER`. Every run gets a clone of the last commit; what another run has computed comes from the
# remote, and the finished experiment goes back into this clone (`dvc exp show`).
#SBATCH --job-name=lpi
#SBATCH --cpus-per-task=8
#SBATCH --gres=gpu:1
#SBATCH --time=08:00:00
#SBATCH --output=slurm-%A_%a.out
set -euo pipefail
runs=$(realpath "${1:?usage: sbatch --array=1-N launch/slurm.sh RUNS}")
root=${SLURM_SUBMIT_DIR:-$PWD}
arguments=$(sed -n "${SLURM_ARRAY_TASK_ID:?start it with sbatch --array=1-N}p" "$runs")
[ -n "$arguments" ] || { echo "error: $runs has no line $SLURM_ARRAY_TASK_ID" >&2; exit 1; }

export PATH="$root/.venv/bin:$PATH"
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git clone --quiet "$root" "$copy/lpi"
cp "$root/.dvc/config.local" "$copy/lpi/.dvc/"
cd "$copy/lpi"
dvc pull --quiet --run-cache --allow-missing
# shellcheck disable=SC2086  # the line holds several arguments
dvc exp run --pull $arguments
dvc push --quiet --run-cache
dvc exp push --quiet origin
