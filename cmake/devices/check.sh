#!/bin/bash
# check.sh CUDA ARCHITECTURE...: compiles all that a GPU build of grist contains, for each architecture, without such a device.
# Fails on an error, on a warning, and on a source file with a kernel that the build leaves out. CUDA: where nvcc lies.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
export GRIST_NVCC=$1/bin/nvcc GRIST_DEVICE_ARCH
kernel='KOKKOS_(LAMBDA|FUNCTION|INLINE_FUNCTION|CLASS_LAMBDA)|parallel_(for|reduce|scan)'
failed=0

for GRIST_DEVICE_ARCH in "${@:2}"; do
  case $GRIST_DEVICE_ARCH in
    sm_*) device=cuda launcher=nvcc.sh ;;
    gfx*) device=hip launcher=hipcc.sh ;;
    *) echo "check-devices: unknown architecture $GRIST_DEVICE_ARCH" >&2; exit 2 ;;
  esac
  build=$root/build/devices-$GRIST_DEVICE_ARCH
  begin=$SECONDS
  mkdir -p "$build"
  # Nothing will run: what an optimizer does for the host only takes time.
  cmake -G Ninja -S "$root" -B "$build" -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_FLAGS_RELEASE="-O1 -DNDEBUG" -DGRIST_DEVICE_CHECK=$device \
    -DGRIST_DEVICE_ARCH="$GRIST_DEVICE_ARCH" -DCMAKE_CXX_COMPILER_LAUNCHER="$root/cmake/devices/$launcher" \
    -DGRIST_TESTS=OFF >"$build/configure.log" 2>&1 || { cat "$build/configure.log" >&2; exit 1; }
  cmake --build "$build" -- -k 0 || failed=1

  compiled=$(sed -n 's/.*"file": "\(.*\)",\?$/\1/p' "$build/compile_commands.json" | sort)
  with_kernels=$(cd "$root" && grep -rlE --include='*.cpp' "$kernel" src layers backends benchmarks | sed "s|^|$root/|" | sort)
  left_out=$(comm -13 <(echo "$compiled") <(echo "$with_kernels") | grep -v '/backends/openmp/' || true)   # the hosts' mill
  if [ -n "$left_out" ]; then
    printf 'check-devices: a kernel is not compiled for %s: %s\n' "$GRIST_DEVICE_ARCH" "$left_out" >&2
    failed=1
  fi
  echo "$GRIST_DEVICE_ARCH: $(wc -l <<<"$compiled") files, $(comm -12 <(echo "$compiled") <(echo "$with_kernels") | wc -l) of them" \
    "with kernels, in $((SECONDS - begin)) s"
done
exit $failed
