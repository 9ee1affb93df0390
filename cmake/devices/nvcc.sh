#!/bin/bash
# nvcc.sh COMPILER ARGUMENT...: the command of a host compiler, done by $GRIST_NVCC for $GRIST_DEVICE_ARCH instead, and
# only for the device: what nvcc refuses it refuses there too, and the host's half takes twice as long.
set -euo pipefail
case " $* " in *" -DKOKKOS_DEPENDENCE "*) ;; *) exec "$@" ;; esac   # no Kokkos in it
arguments=() optimize=-O2
shift
while [ $# -gt 0 ]; do
  case $1 in
    -isystem | -o | -MT | -MF) arguments+=("$1" "$2"); shift ;;
    -O*) optimize=$1 ;;   # the last one holds; nvcc warns of several
    -c) ;;
    -MD | -I* | -D* | -std=* | *.cpp | *.cxx) arguments+=("$1") ;;
    *) arguments+=("-Xcompiler=$1") ;;
  esac
  shift
done
exec "$GRIST_NVCC" -x cu -cubin -arch="$GRIST_DEVICE_ARCH" --extended-lambda --expt-relaxed-constexpr \
  -Werror all-warnings "$optimize" "${arguments[@]}"
