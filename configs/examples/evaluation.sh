#!/bin/sh
# Is the candidate as good as the baseline? Both are asked the same rows; the exit code is 0 if so, and 3 if not.
#   sh evaluation.sh BASELINE.yaml CANDIDATE.yaml INPUT
# What the last time has left in runs/evaluation is not paid for again. docs/evaluation.md goes through it.
set -eu
input=$3 out=runs/evaluation

ask() { # CONFIG FOLDER: the answers, and a table of them beside the input's columns
  batchrun run "$1" -i "$input" -o "$2" --on-change rerun --fail-threshold 1% --max-cost 5 -q
  batchrun export "$2" --join "$input" -o "$2.parquet"
}

ask "$1" $out/baseline
ask "$2" $out/candidate
batchrun compare $out/baseline $out/candidate --column label --format markdown -o $out/comparison.md \
  --fail-if "accuracy < -0.02" --fail-if "cost_usd > +10%" --fail-if "failures > 1%"
