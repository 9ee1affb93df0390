#!/bin/bash
# slurm_test.sh MODEL: a Slurm of one node, made on the spot, starts grist from PATH as a cluster does. Exit code 77:
# skipped.
set -uo pipefail
# shellcheck source=tests/cluster/checks.sh
. "$(dirname "$0")/checks.sh"
root=$(cd "$(dirname "$0")/../.." && pwd)
model=$1
PATH=$PATH:/usr/sbin:/sbin
for tool in munged slurmctld slurmd srun sbatch; do
  type -P "$tool" >/dev/null || { echo "skipped: there is no $tool"; exit 77; }
done
type -P mpiexec.hydra >/dev/null || { echo "skipped: only MPICH is started through PMI2"; exit 77; }
[ "$(id -u)" = 0 ] || { echo "skipped: the daemons of Slurm want root"; exit 77; }

work=$(mktemp -d)
started=()
end() {
  scancel --quiet --user=root 2>/dev/null   # a job that a failed check left must not outlive its Slurm
  for ((i = 0; i < 50; ++i)); do
    [ -z "$(squeue --noheader 2>/dev/null)" ] && break
    sleep 0.2
  done
  for ((i = ${#started[@]} - 1; i >= 0; --i)); do kill "${started[i]}" 2>/dev/null; done
  sleep 1
  kill -9 "${started[@]}" 2>/dev/null
  wait "${started[@]}" 2>/dev/null
  rm -rf "$work"
}
trap end EXIT

# ---- the cluster
unset "${!SLURM_@}"
export SLURM_CONF=$work/slurm.conf
node=$(hostname -s)
port=$((20000 + $$ % 12000))   # below those that Linux deals out
mkdir -p "$work/state" "$work/spool"
chmod 755 "$work"
dd if=/dev/urandom of="$work/munge.key" bs=1024 count=1 status=none
chmod 400 "$work/munge.key"
cat >"$SLURM_CONF" <<TEXT
ClusterName=grist
SlurmctldHost=$node(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort=$port
SlurmdPort=$((port + 1))
AuthType=auth/munge
AuthInfo=socket=$work/munge.socket
CredType=cred/munge
MpiDefault=pmi2
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.log
ReturnToService=2
MinJobAge=300
SlurmdParameters=config_overrides
NodeName=$node NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
TEXT
start() {
  "$@" >>"$work/daemons.log" 2>&1 &
  started+=($!)
}
start munged --foreground --force --key-file="$work/munge.key" --socket="$work/munge.socket" \
  --pid-file="$work/munge.pid" --log-file="$work/munge.log" --seed-file="$work/munge.seed" --num-threads=2
start slurmctld -D -i
start slurmd -D -N "$node"
for ((i = 0; i < 60; ++i)); do
  [ "$(sinfo --noheader --format=%T 2>/dev/null)" = idle ] && break
  sleep 0.5
done
if [ "$(sinfo --noheader --format=%T 2>&1)" != idle ]; then
  tail -n 5 "$work"/*.log
  echo "FAILED: this Slurm does not get ready"
  exit 1
fi

# ---- grist in it
prompt=$work/prompt
printf 'Once upon a time' >"$prompt"
generate=(grist generate --model "$model" --prompt-file "$prompt" --max-new-tokens 12 --dtype f32 --json)
"${generate[@]}" >"$work/alone" || fail "one rank without Slurm: exit code $?"
expected=$(ids "$work/alone")
[ -n "$expected" ] || fail "one rank gives no tokens"

srun -n 2 --overcommit "${generate[@]}" --tp 2 >"$work/tp" 2>"$work/messages" ||
  fail "srun --tp 2: exit code $?: $(cat "$work/messages")"
same "srun -n 2 --tp 2 gives one rank's tokens" "$(ids "$work/tp")" "$expected"
same "and is silent on stderr" "$(cat "$work/messages")" ""
srun -n 2 --overcommit "${generate[@]}" --pp 2 >"$work/pp" 2>/dev/null || fail "srun --pp 2: exit code $?"
same "srun -n 2 --pp 2 gives one rank's tokens" "$(ids "$work/pp")" "$expected"

MODEL=$model PROMPTS=$prompt TOKENS=12 sbatch --wait --quiet --ntasks=2 --output="$work/batch" \
  "$root/examples/batch/generate.sbatch" || fail "sbatch: exit code $?: $(cat "$work/batch")"
same "a batch job gives one rank's tokens" "$(ids "$work/batch")" "$expected"

# Tasks that MPI does not join work alone, each for itself, and one of them says so.
srun -n 2 --overcommit --mpi=none "${generate[@]}" >"$work/tasks" 2>"$work/messages" ||
  fail "srun --mpi=none: exit code $?"
same "srun --mpi=none: both tasks give one rank's tokens" "$(ids "$work/tasks" | uniq -c | tr -s ' ')" " 2 $expected"
same "and one note" "$(grep -c '^grist: note: the launcher started 2 processes' "$work/messages")" 1
srun -n 2 --overcommit bash -c 'grist tokenize --model "$0" --text "part $SLURM_PROCID"' "$model" >"$work/parts"
same "every task of a batch speaks" "$(wc -l <"$work/parts")" 2

# ---- failures, as Slurm sees them
srun -n 2 --overcommit grist generate --model "$work/nowhere" --prompt x --tp 2 2>"$work/messages"
same "a missing model: srun's exit code" $? 3
grep -q "nowhere" "$work/messages" || fail "the message does not name the model: $(cat "$work/messages")"
srun -n 3 --overcommit "${generate[@]}" --tp 2 2>/dev/null
same "a layout that does not fit: srun's exit code" $? 2
MODEL=$work/nowhere PROMPTS=$prompt sbatch --wait --quiet --ntasks=2 --output="$work/batch" \
  "$root/examples/batch/generate.sbatch"
same "a batch job that fails: sbatch's exit code" $? 3
job=$(squeue --states=all --noheader --format=%i | sort -n | tail -n 1)
same "and what Slurm keeps of it" "$(scontrol show job "$job" | grep -o ' ExitCode=[0-9:]*')" " ExitCode=3:0"
own_model='models=("$0" "$1"); exec grist generate --prompt x --tp 2 --model "${models[SLURM_PROCID]}"'
srun -n 2 --overcommit bash -c "$own_model" "$model" "$work/nowhere" >/dev/null 2>"$work/messages"
same "one rank that fails alone: srun's exit code" $? 3
same "and one line of it" "$(grep -c '^grist: error: .*nowhere' "$work/messages")" 1

# One rank waits for a text that never comes, the other for that one, and is killed: the template must end the job.
mkfifo "$work/silence"
exec 9<>"$work/silence"
mkdir "$work/bin"
cat >"$work/bin/grist" <<TEXT
#!/bin/bash
{ [ "\$SLURM_PROCID" = 1 ] && sleep 4 && kill -9 \$\$; } &
exec $(type -P grist) "\$@"
TEXT
chmod +x "$work/bin/grist"
begin=$SECONDS
PATH=$work/bin:$PATH MODEL=$model PROMPTS=$work/silence timeout 60 sbatch --wait --quiet --ntasks=2 \
  --output="$work/killed" "$root/examples/batch/generate.sbatch"
same "a batch job with a killed rank ends by a signal: sbatch's exit code is above 128" $(($? > 128)) 1
[ $((SECONDS - begin)) -ge 3 ] || fail "a batch job with a killed rank ended before: $(cat "$work/killed")"

state() { scontrol show job "$job" | grep -oE "$1=[^ ]*"; }
until_is() { for ((i = 0; i < 300; ++i)); do [ "$(state "$1")" = "$1=$2" ] && return; sleep 0.2; done; }
# until_lines FILE COUNT
until_lines() {
  for ((i = 0; i < 300; ++i)); do [ "$(cat "$1" 2>/dev/null | wc -l)" -ge "$2" ] && return; sleep 0.1; done
}

# ---- a file of prompts: a signal, exit code 75, the queue, another number of tasks
# Where a machine is so fast that the signal comes too late, the job has more prompts.
prompts=$work/prompts.jsonl answers=$work/answers.jsonl options="--dtype f32 --max-sequences 2"
for count in 80 320 1280; do
  rm -f "$answers" "$work/batch"
  for ((i = 0; i < count; ++i)); do
    echo "{\"id\": $i, \"prompt_ids\": [$((i % 90 + 3)), $((i / 90 + 3)), 7], \"ignore_eos\": true}"
  done >"$prompts"
  job=$(MODEL=$model PROMPTS=$prompts ANSWERS=$answers TOKENS=200 ARGUMENTS=$options \
    sbatch --parsable --ntasks=2 --output="$work/batch" "$root/examples/batch/generate.sbatch")
  until_lines "$answers" 5
  scancel --signal=TERM "$job"
  for ((i = 0; i < 300; ++i)); do
    [ "$(state Restarts)" = Restarts=1 ] || [ "$(state JobState)" = JobState=COMPLETED ] && break
    sleep 0.2
  done
  [ "$(state JobState)" = JobState=COMPLETED ] || break
done
same "a signalled batch of prompts is in the queue again" "$(state Restarts)" "Restarts=1"
grep -q 'stopped before all prompts were answered' "$work/batch" ||
  fail "it does not say that it was stopped: $(cat "$work/batch")"
before=$(wc -l <"$answers")
[ "$before" -ge 5 ] && [ "$before" -lt "$count" ] || fail "$before of $count prompts were answered before the signal"
until_is JobState PENDING
scontrol update JobId="$job" NumTasks=1 StartTime=now || fail "the queue takes no other number of tasks"
until_is JobState COMPLETED
same "and done at another number of tasks" "$(state JobState) $(state NumTasks)" "JobState=COMPLETED NumTasks=1"
same "as Slurm keeps it" "$(state ExitCode)" "ExitCode=0:0"
grep -q "$before of $count prompts are answered already" "$work/batch" || fail "it began anew: $(cat "$work/batch")"
same "with each answer once" "$(grep -o '"id":[0-9]*' "$answers" | sort -u | wc -l) of $(wc -l <"$answers")" \
  "$count of $count"
head -n 20 "$prompts" >"$work/few.jsonl"
# shellcheck disable=SC2086  # options are words
grist generate --model "$model" --prompts "$work/few.jsonl" --output "$work/few" --max-new-tokens 200 $options
same "which are those of one rank without Slurm" "$(grep -cxFf "$work/few" "$answers")" 20

# ---- training: a signal, exit code 75, the queue, another number of tasks
cat >"$work/run.toml" <<TEXT
config = '$root/examples/train_demo/config.json'
tokenizer = '$root/tests/data/tokenizers/stories260K'
data = ['$root/tests/data/text/sample.txt']
sequence = 32
batch = 2
steps = 60
metrics = '$work/metrics.jsonl'
save-hf = '$work/trained'
TEXT
job=$(OPTIONS=$work/run.toml CHECKPOINT=$work/checkpoints sbatch --parsable --ntasks=2 --output="$work/training" \
  "$root/examples/batch/train.sbatch")
until_lines "$work/metrics.jsonl" 5
scancel --signal=USR1 "$job"
until_is Restarts 1
same "a signalled training is in the queue again" "$(state Restarts)" "Restarts=1"
grep -q 'stopped after step .* of 60, saved' "$work/training" ||
  fail "it does not say where it stopped: $(cat "$work/training")"
until_is JobState PENDING
scontrol update JobId="$job" NumTasks=1 StartTime=now || fail "the queue takes no other number of tasks"
until_is JobState COMPLETED
same "and done at another number of tasks" "$(state JobState) $(state NumTasks)" "JobState=COMPLETED NumTasks=1"
same "with each step once" "$(grep -c loss "$work/metrics.jsonl")" 60
[ -e "$work/trained/model.safetensors" ] || fail "no model was written: $(cat "$work/training")"

[ "$failures" = 0 ] && echo "all checks in Slurm passed"
exit $((failures > 0))
