#!/bin/bash
# readme_test.sh README MODEL: the README's examples run as they stand. They are the lines of its ```sh blocks that
# begin with `./run grist` or `./run mpirun`; the environment is entered already.
set -uo pipefail
readme=$(realpath "$1") model=$2
[ -e "$model" ] || { echo "no $model: skipped"; exit 77; }
unset OMP_NUM_THREADS OMP_PROC_BIND
# Beside the clone, so that what the examples write does not stay in it.
beside=$(mktemp -d)
trap 'rm -rf "$beside"' EXIT
ln -s "$(dirname "$readme")"/{.env,examples,tests} "$beside"
cd "$beside" || exit 1
count=0
while IFS= read -r line; do
  count=$((count + 1))
  echo "\$ $line"
  said=$(bash -c "${line#./run }" 2>&1 </dev/null) || { printf '%s\nFAILED with %s\n' "$said" "$?"; exit 1; }
  printf '%s\n' "$said" | head -n 5
done < <(awk '/^```/ { inside = ($0 == "```sh"); next } inside && /^\.\/run (grist|mpirun) /' "$readme" |
  sed 's/  *#.*//')
[ "$count" -ge 8 ] || { echo "only $count examples found in $readme"; exit 1; }
echo "$count examples ran"
