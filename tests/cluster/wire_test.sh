#!/bin/bash
# wire_test.sh MODEL: grist from PATH runs over the wire between two nodes made of network namespaces. Exit code 77:
# skipped.
set -uo pipefail
# shellcheck source=tests/cluster/checks.sh
. "$(dirname "$0")/checks.sh"
# shellcheck source=tests/cluster/two_nodes.sh
. "$(dirname "$0")/two_nodes.sh"
model=$1
sent() { ip netns exec "$first" cat /sys/class/net/eth0/statistics/tx_bytes; }

# ---- grist on them
generate=(grist generate --model "$model" --prompt "Once upon a time" --max-new-tokens 12 --dtype f32 --json
  --threads 1)
"${generate[@]}" >"$work/alone" || fail "one rank: exit code $?"
expected=$(ids "$work/alone")
[ -n "$expected" ] || fail "one rank gives no tokens"
same "the ranks are on two nodes" "$(over_the_wire hostname | sort | tr '\n' ' ')" "$first $second "
# The launcher and the start of MPI send too; beyond that, two sums per layer or one handing over per token, of floats.
before=$(sent)
over_the_wire grist info >/dev/null || fail "grist info on two nodes: exit code $?"
start=$(($(sent) - before - 1024))   # what info itself says of each rank goes over the wire too
of_config() { grep -o "\"$1\": *[0-9]*" "$model/config.json" | grep -o '[0-9]*$'; }
vector=$((4 * $(of_config hidden_size)))
declare -A least=([tp]=$((start + 12 * 2 * $(of_config num_hidden_layers) * vector)) [pp]=$((start + 12 * vector)))
for layout in tp pp; do
  before=$(sent)
  over_the_wire "${generate[@]}" "--$layout" 2 >"$work/$layout" 2>"$work/messages" ||
    fail "--$layout 2: exit code $?: $(cat "$work/messages")"
  same "--$layout 2 over the wire gives one rank's tokens" "$(ids "$work/$layout")" "$expected"
  bytes=$(($(sent) - before))
  [ "$bytes" -gt "${least[$layout]}" ] ||
    fail "--$layout 2: only $bytes bytes went over the wire, expected more than ${least[$layout]}"
done
# A file of prompts: two copies of the model, one on each node, then one copy over both.
for ((i = 0; i < 8; ++i)); do
  echo "{\"id\": $i, \"prompt\": \"Once upon a time $i\", \"max_new_tokens\": $((4 + 3 * i))}"
done >"$work/prompts.jsonl"
batch=(grist generate --model "$model" --prompts "$work/prompts.jsonl" --dtype f32 --threads 1)
"${batch[@]}" --output "$work/answers" 2>"$work/messages" || fail "a batch on one rank: $(cat "$work/messages")"
same "a batch on one rank answers all" "$(wc -l <"$work/answers")" 8
for layout in dp tp; do
  over_the_wire "${batch[@]}" "--$layout" 2 --output "$work/answers.$layout" 2>"$work/messages" ||
    fail "a batch with --$layout 2: exit code $?: $(cat "$work/messages")"
  same "a batch with --$layout 2 over the wire answers as one rank does" "$(sort "$work/answers.$layout")" \
    "$(sort "$work/answers")"
done
over_the_wire grist generate --model "$work/nowhere" --prompt x --tp 2 >/dev/null 2>"$work/messages"
same "a failure on two nodes: the exit code" $? 3
same "and one line of it" "$(grep -c '^grist: error: .*nowhere' "$work/messages")" 1

[ "$failures" = 0 ] && echo "all checks over the wire passed"
exit $((failures > 0))
