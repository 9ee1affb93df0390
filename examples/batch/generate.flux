#!/bin/bash
# Text from a model over all tasks of a Flux job:
#   MODEL=/path/to/Llama-3.1-8B PROMPTS=prompt.txt flux batch examples/batch/generate.flux
# The answers to a file of prompts (docs/batch.md), by as many copies of the model as there are tasks, in a job that
# submits itself again until all are there:
#   MODEL=/path/to/Llama-3.1-8B PROMPTS=prompts.jsonl ANSWERS=answers.jsonl \
#     SCRIPT=$PWD/examples/batch/generate.flux flux batch examples/batch/generate.flux
#flux: --job-name=grist
# Other resources stand here too: the job that follows knows nothing of what flux batch was told.
#flux: --nslots=2
#flux: --cores-per-slot=4
#flux: --time-limit=30m
#flux: --output=grist-{{id}}.out

: "${MODEL:?set MODEL to a folder or .gguf file}" "${PROMPTS:?set PROMPTS to a file with the prompt}"
RANKS=${RANKS:-2}                 # as many as slots
if [ -n "${ANSWERS:-}" ]; then
  # --max-walltime is a little less than the time limit above.
  what=(--prompts "$PROMPTS" --output "$ANSWERS" --tp "${TP:-1}" --max-walltime "${WALLTIME:-00:29:00}")
else
  what=(--prompt-file "$PROMPTS" --json --tp "${TP:-$RANKS}")
fi

# With GPUs: flux batch --gpus-per-slot=1, and flux run --gpus-per-task=1. A task that is killed ends the others 5 s
# later.
# shellcheck disable=SC2086  # ARGUMENTS are words, as "--dtype f32"
flux run --ntasks="$RANKS" --cores-per-task="${CORES:-4}" -o cpu-affinity=per-task -o exit-timeout=5s \
  grist generate --model "$MODEL" "${what[@]}" --pp "${PP:-1}" --max-new-tokens "${TOKENS:-128}" ${ARGUMENTS:-}
code=$?
# 75: stopped in time, and there is more to answer. The new job belongs to the instance that this one runs in.
[ $code != 75 ] || [ -z "${SCRIPT:-}" ] || flux --parent batch "$SCRIPT"
exit $code
