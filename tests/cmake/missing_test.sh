#!/bin/bash
# missing_test.sh: what CMake says of a dependency that is not there, from cmake/environment/packages.txt.
set -uo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

# says PATTERN LINE...: what configuring a project with these lines says, in one paragraph.
says() {
  local said
  printf '%s\n' 'cmake_minimum_required(VERSION 3.25)' 'project(stand_in LANGUAGES NONE)' \
    "include($root/cmake/GristMissing.cmake)" "${@:2}" >"$work/CMakeLists.txt"
  rm -rf "$work/build"
  said=$(cmake -G Ninja -S "$work" -B "$work/build" 2>&1 | tr -s ' \n' ' ')
  grep -qE -- "$1" <<<"$said" && return
  printf 'FAILED "%s" is not said in:\n%s\n' "$1" "$said"
  failures=$((failures + 1))
}

says 'Nowhere >= 2.3 is missing. Debian: apt install libcli11-dev; Spack: spack install cli11@2.3:; .* -DNowhere_ROOT' \
  'grist_find(libcli11-dev Nowhere 2.3)'
says 'Nowhere is missing. Debian: apt install libgmock-dev; or say' 'grist_find(libgmock-dev Nowhere)'
says 'is not in cmake/environment/packages.txt' 'grist_find(libnowhere-dev Nowhere)'
says 'Configuring done' 'grist_find(libcli11-dev CLI11 2.3)'
# Whatever is asked for is on the list.
asked=$(grep -ohE 'grist_(find|missing)\([a-z0-9-]+' "$root"/cmake/Grist{Dependencies,Kokkos}.cmake | sed 's/.*(//')
for package in $asked; do
  grep -qE "^$package " "$root/cmake/environment/packages.txt" && continue
  echo "FAILED $package is not listed"
  failures=$((failures + 1))
done

[ "$failures" = 0 ] && echo "all checks of missing dependencies passed"
exit $((failures > 0))
