#!/bin/sh
# Debian's libkokkos-dev has CMake files that ask for the archives of Kokkos' header-only parts, which it does not ship.
# An empty archive of each satisfies them.
set -e
for core in /usr/lib/*/libkokkoscore.so; do
  for part in algorithms simd; do
    archive=${core%core.so}$part.a
    [ -e "$archive" ] || ar rcs "$archive"
  done
done
