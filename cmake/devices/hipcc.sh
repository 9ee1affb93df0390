#!/bin/bash
# hipcc.sh COMPILER ARGUMENT...: the command of a host compiler, done by hipcc for $GRIST_DEVICE_ARCH instead. With
# GRIST_HOST_CODE=1 only as far as errors and warnings of the host's part show: nothing is generated.
set -euo pipefail
case " $* " in *" -DKOKKOS_DEPENDENCE "*) ;; *) exec "$@" ;; esac   # no Kokkos in it
options=(-x hip --offload-arch="$GRIST_DEVICE_ARCH" -Werror)
[ "${GRIST_HOST_CODE:-}" = 1 ] || exec hipcc "${options[@]}" "${@:2}"
hipcc "${options[@]}" --offload-host-only -fsyntax-only -Wno-unused-command-line-argument "${@:2}"
while [ "$1" != -o ]; do shift; done
: >"$2"   # the object that ninja waits for
