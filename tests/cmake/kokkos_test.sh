#!/bin/bash
# kokkos_test.sh: what cmake/GristKokkos.cmake says of a Kokkos that will not do. The Kokkos are stand-ins.
set -uo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

mkdir -p "$work/project"
cat >"$work/project/CMakeLists.txt" <<TEXT
cmake_minimum_required(VERSION 3.25)
project(stand_in LANGUAGES CXX)
list(APPEND CMAKE_MODULE_PATH "$root/cmake")
include(GristKokkos)
message(STATUS "kernels run on \${GRIST_KOKKOS_BACKEND}")
TEXT

# kokkos NAME VERSION DEVICES HEADER: a package in $work/NAME.
kokkos() {
  mkdir -p "$work/$1/include"
  echo "$4" >"$work/$1/include/Kokkos_Core.hpp"
  cat >"$work/$1/KokkosConfig.cmake" <<TEXT
set(Kokkos_DEVICES $3)
add_library(Kokkos::kokkos INTERFACE IMPORTED)
target_include_directories(Kokkos::kokkos INTERFACE "$work/$1/include")
TEXT
  cat >"$work/$1/KokkosConfigVersion.cmake" <<TEXT
set(PACKAGE_VERSION $2)
set(PACKAGE_VERSION_COMPATIBLE TRUE)
TEXT
}

# says NAME PATTERN OPTION...: what configuring with that Kokkos says, in one paragraph.
says() {
  local said
  said=$(cmake -G Ninja -S "$work/project" -B "$work/build-$RANDOM" -DKokkos_DIR="$work/$1" "${@:3}" 2>&1 |
    tr -s ' \n' ' ')
  grep -qE -- "$2" <<<"$said" && return
  printf 'FAILED %s %s: "%s" is not said in:\n%s\n' "$1" "${*:3}" "$2" "$said"
  failures=$((failures + 1))
}

kernel='#define KOKKOS_LAMBDA [=]
namespace Kokkos { template <class T> struct View { int size() const; float& operator()(int) const; };
template <class F> void parallel_for(int, F) {} }'
kokkos old 4.7.1 "CUDA;OPENMP;SERIAL" "$kernel"
kokkos host 5.0.2 "OPENMP;SERIAL" "$kernel"
kokkos cuda 5.0.2 "CUDA;OPENMP;SERIAL" "$kernel"
kokkos wrapped 5.0.2 "CUDA;SERIAL" "#ifndef WRAPPED
#error this wants the compiler that Kokkos brings
#endif
$kernel"
printf '#!/bin/bash\nexec "$@" -DWRAPPED\n' >"$work/wrapper"
chmod +x "$work/wrapper"
echo "set_property(GLOBAL PROPERTY RULE_LAUNCH_COMPILE \"$work/wrapper\")" >>"$work/wrapped/KokkosConfig.cmake"
kokkos dependent 5.0.2 "CUDA;SERIAL" "$kernel"
echo 'find_package(Thing REQUIRED)' >>"$work/dependent/KokkosConfig.cmake"
mkdir "$work/thing"
touch "$work/thing/ThingConfig.cmake"
kokkos broken 5.0.2 "HIP;SERIAL" '#error this ROCm is too new'

says nowhere 'Kokkos >= 5.0 is missing. Debian: apt install libkokkos-dev; Spack: spack install kokkos@5:' \
  -DCMAKE_DISABLE_FIND_PACKAGE_Kokkos=ON
says old 'Kokkos 4.7.1 in .*/old is too old: grist needs 5.0 or newer, as CUDA 13 and ROCm 7 do'
says host 'Kokkos 5.0.2 in .*/host was built for OPENMP, SERIAL, without CUDA: .*docs/gpu.md' -DGRIST_BACKEND=CUDA
says host 'kernels run on OPENMP'
says host 'kernels on OPENMP, not on SERIAL: give one without OPENMP' -DGRIST_BACKEND=SERIAL
says cuda 'kernels run on CUDA' -DGRIST_BACKEND=CUDA
says cuda 'kernels on CUDA, not on OPENMP' -DGRIST_BACKEND=OPENMP
says wrapped 'kernels run on CUDA' -DGRIST_BACKEND=CUDA
says dependent 'kernels run on CUDA' -DGRIST_BACKEND=CUDA "-DCMAKE_PREFIX_PATH=$work/host;$work/thing"
says broken 'does not compile with Kokkos 5.0.2 in .*too old for the toolkit.*this ROCm is too new' -DGRIST_BACKEND=HIP

[ "$failures" = 0 ] && echo "all checks of GristKokkos.cmake passed"
exit $((failures > 0))
