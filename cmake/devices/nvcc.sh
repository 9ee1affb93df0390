#!/bin/bash
# nvcc.sh COMPILER ARGUMENT...: the command of a host compiler, done by $GRIST_NVCC for $GRIST_DEVICE_ARCH instead.
set -euo pipefail
arguments=()
shift
while [ $# -gt 0 ]; do
  case $1 in
    -isystem | -o | -MT | -MF) arguments+=("$1" "$2"); shift ;;
    -c | -MD | -I* | -D* | -O* | -std=* | *.cpp) arguments+=("$1") ;;
    -Wpedantic) ;;   # what nvcc makes of a source is not pedantic itself
    *) arguments+=("-Xcompiler=$1") ;;
  esac
  shift
done
exec "$GRIST_NVCC" -x cu -arch="$GRIST_DEVICE_ARCH" --extended-lambda --expt-relaxed-constexpr -Werror all-warnings \
  "${arguments[@]}"
