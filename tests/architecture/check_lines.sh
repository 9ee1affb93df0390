#!/bin/bash
# check_lines.sh MOST FOLDER: each source there has MOST lines at most.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
counted=$(wc -l "$2"/*.cpp) || exit 1
long=$(awk -v most="$1" '$2 != "total" && $1 > most { print $2 " has " $1 " lines, " most " are the most" }' \
  <<<"$counted")
[ -z "$long" ] || { printf '%s\n' "$long"; exit 1; }
