#!/bin/bash
# hipcc.sh COMPILER ARGUMENT...: the command of a host compiler, done by hipcc for $GRIST_DEVICE_ARCH instead. With
# GRIST_HOST_CODE=1 only as far as errors and warnings of the host's part show: nothing is generated.
set -euo pipefail
case " $* " in *" -DKOKKOS_DEPENDENCE "*) ;; *) exec "$@" ;; esac   # no Kokkos in it
if [ "${GRIST_HOST_CODE:-}" != 1 ]; then
  exec hipcc -x hip --offload-arch="$GRIST_DEVICE_ARCH" -Werror "${@:2}"
fi
hipcc -x hip --offload-arch="$GRIST_DEVICE_ARCH" --offload-host-only -fsyntax-only -Werror \
  -Wno-unused-command-line-argument "${@:2}"
while [ "$1" != -o ]; do shift; done
: >"$2"   # the object that ninja waits for
