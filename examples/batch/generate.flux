#!/bin/bash
# Text from a model over all tasks of a Flux job:
#   MODEL=/path/to/Llama-3.1-8B PROMPTS=prompts.txt flux batch examples/batch/generate.flux
#flux: --job-name=grist
#flux: --nslots=2
#flux: --cores-per-slot=4
#flux: --time-limit=30m
#flux: --output=grist-{{id}}.out

: "${MODEL:?set MODEL to a folder or .gguf file}" "${PROMPTS:?set PROMPTS to a file with the prompt}"
RANKS=${RANKS:-2}                 # as many as slots
TP=${TP:-$RANKS}
PP=${PP:-1}

# With GPUs: flux batch --gpus-per-slot=1, and flux run --gpus-per-task=1
exec flux run --ntasks="$RANKS" --cores-per-task="${CORES:-4}" -o cpu-affinity=per-task \
  grist generate --model "$MODEL" --prompt-file "$PROMPTS" --tp "$TP" --pp "$PP" --max-new-tokens "${TOKENS:-128}" --json
