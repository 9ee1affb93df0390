#!/bin/bash
# demo.sh GENERATE-OPTION...: one question to one model at three layouts; fails unless the three answers are the same.
set -euo pipefail
question=("$@" --max-new-tokens 48 --dtype f32)
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT

# answer NAME HEADLINE LAUNCHER...: streams the answer, then tells how fast it came.
answer() {
  printf '\n== %s\n   $ %s\n\n' "$2" "./run ${*:3} generate ...${layout[*]:+ ${layout[*]}}"
  if ! "${@:3}" generate "${question[@]}" "${layout[@]}" --json-file "$results/$1" 2>"$results/messages" </dev/null
  then
    cat "$results/messages" >&2
    exit 1
  fi
  printf '\n\n   -- %s tokens per second\n' \
    "$(sed -n 's/.*"decode_tokens_per_second": *\([0-9]*\.\?[0-9]\).*/\1/p' "$results/$1")"
}

ids() { grep -o '"new_ids": *\[[^]]*\]' "$results/$1" | grep -oE '[0-9]+'; }

layout=(--tp 2) && answer tp "2 ranks, each holding half of every layer (tensor parallel)" mpirun -n 2 grist
layout=(--pp 2) && answer pp "2 ranks, each holding half of the layers (pipeline parallel)" mpirun -n 2 grist
layout=() && answer one "1 rank" grist

count=$(ids one | wc -l)
if [ "$count" -gt 0 ] && [ "$(ids tp)" = "$(ids one)" ] && [ "$(ids pp)" = "$(ids one)" ]; then
  printf '\nthe same %s tokens from all three layouts\n' "$count"
else
  printf '\nthe layouts gave different tokens:\n' >&2
  for name in tp pp one; do echo "$name: $(ids "$name" | tr '\n' ' ')" >&2; done
  exit 1
fi
