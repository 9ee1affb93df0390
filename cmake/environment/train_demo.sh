#!/bin/bash
# train_demo.sh ROOT WORK NAME: a small model learns WORK/text, which is called NAME, on two ranks: is stopped half-way,
# goes on at another layout, and continues the text.
set -euo pipefail
root=$1 work=$2 name=$3
tokenizer=$root/tests/data/tokenizers/stories260K
steps=800

# train HEADLINE LAYOUT-OPTION...: the same run each time, but for the layout.
train() {
  printf '\n== %s\n   $ %s\n\n' "$1" "./run mpirun -n 2 grist train ... --resume auto ${*:2}"
  exec mpirun -n 2 grist train --config "$root/examples/train_demo/config.json" --tokenizer "$tokenizer" \
    --data "$work/data.tokens" --steps $steps --batch 16 --sequence 128 --lr 4e-3 --weight-decay 0.05 \
    --log-every 50 --metrics "$work/metrics.jsonl" --checkpoint "$work/checkpoints" --resume auto \
    --save-hf "$work/model" "${@:2}" 2>&1
}

steps_done() { cat "$work/metrics.jsonl" 2>/dev/null | wc -l; }

# Documents of 30 lines come in a new order in each epoch, so that no two epochs cut the text alike.
mkdir "$work/documents"
split --lines=30 --suffix-length=6 "$work/text" "$work/documents/"
echo "A LLaMA with random weights learns $name ($(wc -c <"$work/text") bytes)."
printf '\n== The text as tokens\n   $ %s\n\n' "./run grist tokenize --model tests/data/tokenizers/stories260K ..."
grist tokenize --model "$tokenizer" --file "$work/documents" --output "$work/data.tokens"

train "2 ranks, each with half of every batch (data parallel)" --dp 2 &
run=$!
while (($(steps_done) < steps / 2)) && kill -0 $run 2>/dev/null; do sleep 0.2; done
echo "   -- a signal comes, as from a batch system whose time is over"
kill -USR1 $run 2>/dev/null || true
code=0
wait $run || code=$?
[ $code = 75 ] || { echo "train-demo: expected exit code 75 after the signal, found $code" >&2; exit 1; }
echo "   -- exit code 75: saved, and the same command goes on"
(train "2 ranks, each with half of every layer (tensor parallel), from the HDF5 checkpoint" --tp 2)

printf '\n== The checkpoint\n   $ %s\n\n' "./run grist inspect .env/train_demo/checkpoints/step_... --verify"
grist inspect --verify "$work"/checkpoints/step_*$steps.h5 | grep -E '^(step|tokens) |layers.0.self_attn.[qk]_proj'

# A line from the middle of the text is the prompt; with it the answer is no longer than what the model was trained on.
prompt=$(tail -n +$(($(wc -l <"$work/text") / 2)) "$work/text" | grep -m 1 '[[:alpha:]]\{4\}' || head -n 1 "$work/text")
printf '\n== The trained model, a Hugging Face folder, goes on from a line of the text\n   $ %s\n\n%s|' \
  "./run grist generate --model .env/train_demo/model --prompt ... --temperature 0.4" "$prompt"
grist generate --model "$work/model" --prompt "$prompt" --max-new-tokens 90 --temperature 0.4 --seed 1 2>/dev/null
printf '\n\nThe loss of each step: .env/train_demo/metrics.jsonl\n'
