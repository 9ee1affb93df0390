# shellcheck shell=bash disable=SC2034  # what the tests of this folder share; they read `failures`
failures=0
fail() { printf 'FAILED %s\n' "$*"; failures=$((failures + 1)); }
# same NAME FOUND EXPECTED
same() { [ "$2" = "$3" ] || fail "$1: found '$2', expected '$3'"; }
# ids FILE: the new token ids in a line of `grist generate --json`.
ids() { grep -o '"new_ids": *\[[^]]*\]' "$1"; }
