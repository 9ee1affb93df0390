#!/bin/bash
# Training over all tasks of a Flux job, which submits itself again until all steps are done:
#   OPTIONS=run.toml CHECKPOINT=/scratch/run SCRIPT=$PWD/examples/batch/train.flux flux batch examples/batch/train.flux
#flux: --job-name=grist-train
# Other resources stand here too: the job that follows knows nothing of what flux batch was told.
#flux: --nslots=2
#flux: --cores-per-slot=4
#flux: --time-limit=4h
#flux: --output=grist-train-{{id}}.out

: "${OPTIONS:?set OPTIONS to a TOML file of options}" "${CHECKPOINT:?set CHECKPOINT to a folder}"
RANKS=${RANKS:-2}                 # as many as slots

# --max-walltime is a little less than the time limit above.
# A task that is killed ends the others 5 s later.
# shellcheck disable=SC2086  # ARGUMENTS are words, as "--tp 2 --zero 1"
flux run --ntasks="$RANKS" --cores-per-task="${CORES:-4}" -o cpu-affinity=per-task -o exit-timeout=5s \
  grist train --options "$OPTIONS" --checkpoint "$CHECKPOINT" --resume auto \
  --max-walltime "${WALLTIME:-03:55:00}" ${ARGUMENTS:-}
code=$?
# 75: saved, and there is more to do. The new job belongs to the instance that this one runs in.
[ $code != 75 ] || [ -z "${SCRIPT:-}" ] || flux --parent batch "$SCRIPT"
exit $code
