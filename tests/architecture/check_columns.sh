#!/bin/bash
# check_columns.sh EXEMPT FOLDER-OR-FILE...: lines of sources, scripts and documents have 120 columns at most; tables,
# links and code of documents as they must be. EXEMPT: a;b;c, the beginnings of paths that are not looked at.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
export LC_ALL=C.UTF-8
files=$(find "${@:2}" -type f | grep -E '\.([ch]pp|cmake|py|sh|md|sbatch|pbs|flux)$|(^|/)(CMakeLists.txt|run)$') || true
[ -n "$files" ] || { echo "no files in ${*:2}"; exit 1; }
exempt=${1//;/|}
# shellcheck disable=SC2086  # no name of ours has a blank
long=$(grep -HnE '.{121,}' $files | grep -vE "^(${exempt:-nothing})" |
  grep -vE '^[^:]*\.md:[0-9]+:(\||    |\./run |[^ ]*$)' |
  sed -E 's/^([^:]*:[0-9]+):.*/\1 is longer than 120 columns/')
[ -z "$long" ] || { printf '%s\n' "$long"; exit 1; }
