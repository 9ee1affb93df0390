#!/bin/bash
# hipcc.sh COMPILER ARGUMENT...: the command of a host compiler, done by hipcc for $GRIST_DEVICE_ARCH instead.
set -euo pipefail
case " $* " in *" -DKOKKOS_DEPENDENCE "*) ;; *) exec "$@" ;; esac   # no Kokkos in it
exec hipcc -x hip --offload-arch="$GRIST_DEVICE_ARCH" -Werror "${@:2}"
