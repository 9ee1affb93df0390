#!/bin/bash
# hipcc.sh COMPILER ARGUMENT...: the command of a host compiler, done by hipcc for $GRIST_DEVICE_ARCH instead. One side
# at a time, for which headers can be precompiled: the device's; with GRIST_HOST_CODE=1 the host's, and this only as far
# as errors and warnings show: nothing is generated.
set -euo pipefail
case " $* " in *" -DKOKKOS_DEPENDENCE "*) ;; *) exec "$@" ;; esac   # no Kokkos in it
options=(-x hip --offload-arch="$GRIST_DEVICE_ARCH" -Werror -Wno-unused-command-line-argument
  -Wno-unknown-warning-option)
if [ "${GRIST_HOST_CODE:-}" = 1 ]; then
  options+=(--offload-host-only)
else
  options+=(--offload-device-only --no-gpu-bundle-output)
  for ((i = 2; i < $#; ++i)); do   # hipcc asks the host's side alone for a depfile
    case ${!i} in
      -MF) next=$((i + 1)); options+=(-Xclang -dependency-file -Xclang "${!next}") ;;
      -MT) next=$((i + 1)); options+=(-Xclang -MT -Xclang "${!next}") ;;
    esac
  done
fi
command=" ${*:2} "
if [ "$command" != "${command/ -x c++-header / }" ]; then
  # shellcheck disable=SC2086  # CMake's build folder has no blanks here
  exec hipcc "${options[@]}" -S -Xclang -emit-pch ${command/ -x c++-header / }   # -S: nothing is linked
fi
set -- "$@" -Wno-shadow   # of names of files that are only compiled together
[ "${GRIST_HOST_CODE:-}" = 1 ] || exec hipcc "${options[@]}" "${@:2}"
hipcc "${options[@]}" -fsyntax-only "${@:2}"
while [ "$1" != -o ]; do shift; done
: >"$2"   # the object that ninja waits for
