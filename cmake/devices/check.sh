#!/bin/bash
# check.sh CUDA TESTS ARCHITECTURE...: compiles src, layers, backends and benchmarks as a GPU build does, for each
# architecture, without such a device; with TESTS ON those too. Host code is only looked through, once, by AMD's
# compiler; for each architecture is compiled what launches a kernel or includes a header that does, with TESTS ON all.
# Fails on an error, on a warning, on a source file or a header with a kernel that was not compiled, and on a kernel too
# large for a graph.
# CUDA: where nvcc lies.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
export GRIST_NVCC=$1/bin/nvcc GRIST_DEVICE_ARCH
tests=$2
kernel='KOKKOS_(LAMBDA|FUNCTION|INLINE_FUNCTION|CLASS_LAMBDA)|parallel_(for|reduce|scan)'
launch='KOKKOS_(LAMBDA|CLASS_LAMBDA)|parallel_(for|reduce|scan)'
host='^(backends/cpu|backends/kokkos_kernels)/'   # for hosts
folders=(src layers backends benchmarks)
[ "$tests" = OFF ] || folders+=(tests)
failed=0

# with_launches HOST BUILD: objects of BUILD that HOST has not, and those whose sources launch a kernel or include a
# header that does. Which headers an object includes, HOST knows, where all is compiled. awk reads "kernel FILE", then
# "object OBJECT" of HOST with "include FILE" after it, then "wanted OBJECT"; includes go through build/*/include.
with_launches() {
  (
    cd "$root"
    grep -rlE --include='*.cpp' --include='*.hpp' "$launch" "${folders[@]}" | sed -E 's|^(src/)?|kernel |'
    ninja -C "$1" -t deps | sed -nE "s,^    ($root/)?(build/[^/]*/include/[^/]*/grist/|src/)?,include ,p;
      s,^([^ ]*): #deps.*,object \1,p"
    ninja -C "$2" -t targets all | sed -nE 's|^([^ ]*): CXX_COMPILER.*|wanted \1|p'
  ) | awk '
    $1 == "kernel" { kernels[$2] }
    $1 == "object" { object = $2; known[object] }
    $1 == "include" && $2 in kernels { launches[object] }
    $1 == "wanted" && (!($2 in known) || $2 in launches) { print $2 }'
}

# configure BUILD DEVICE LAUNCHER. Nothing will run: what an optimizer does only takes time.
configure() {
  mkdir -p "$1"
  cmake -G Ninja -S "$root" -B "$1" -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_FLAGS_RELEASE="-O1 -DNDEBUG" \
    -DGRIST_DEVICE_CHECK="$2" -DGRIST_DEVICE_ARCH="$GRIST_DEVICE_ARCH" \
    -DCMAKE_CXX_COMPILER_LAUNCHER="$root/cmake/devices/$3" -DGRIST_TESTS="$tests" \
    >"$1/configure.log" 2>&1 || { cat "$1/configure.log" >&2; exit 1; }
}

host_code=$root/build/devices-host
GRIST_DEVICE_ARCH=gfx942 begin=$SECONDS
configure "$host_code" hip hipcc.sh
GRIST_HOST_CODE=1 cmake --build "$host_code" -- -k 0 || exit 1
echo "host code: $(ninja -C "$host_code" -t deps | grep -c '^[^ ].*: #deps') files, in $((SECONDS - begin)) s"

for GRIST_DEVICE_ARCH in "${@:3}"; do
  case $GRIST_DEVICE_ARCH in
    sm_*) device=cuda launcher=nvcc.sh ;;
    gfx*) device=hip launcher=hipcc.sh ;;
    *) echo "check-devices: unknown architecture $GRIST_DEVICE_ARCH" >&2; exit 2 ;;
  esac
  build=$root/build/devices-$GRIST_DEVICE_ARCH
  begin=$SECONDS
  configure "$build" $device $launcher
  objects=()
  [ "$tests" = ON ] || mapfile -t objects < <(with_launches "$host_code" "$build")
  cmake --build "$build" --target "${objects[@]:-all}" -- -k 0 || failed=1

  # What was compiled, headers too: ninja keeps it for every object that was made.
  compiled=$(cd "$build" && ninja -t deps | sed -n 's|^    ||p' | sort -u | xargs realpath | sed -n "s|^$root/||p" |
    grep -v '^build/' | sort -u)
  with_kernels=$(cd "$root" && grep -rlE --include='*.cpp' --include='*.hpp' "$kernel" "${folders[@]}" | sort)
  left_out=$(comm -13 <(echo "$compiled") <(echo "$with_kernels") | grep -vE "$host" || true)
  if [ -n "$left_out" ]; then
    printf 'check-devices: a kernel is not compiled for %s: %s\n' "$GRIST_DEVICE_ARCH" "${left_out//$'\n'/ }" >&2
    failed=1
  fi
  # Kokkos launches a large kernel by a buffer that others share: replayed in a graph it would read another's arguments.
  large=$(find "$build" -name '*.o' -exec nm -C {} + | grep -oE 'parallel_launch_(constant|global)_memory<.{0,120}' |
    sort -u || true)
  if [ -n "$large" ]; then
    printf 'check-devices: a kernel has too many arguments for a graph (%s): %s\n' "$GRIST_DEVICE_ARCH" "$large" >&2
    failed=1
  fi
  grep '\.cpp$' <<<"$compiled" | awk -F/ '{ file = $NF; sub("/" file "$", ""); names[$0] = names[$0] " " file }
    END { for (folder in names) print "  " folder ":" names[folder] }' | sort
  echo "$GRIST_DEVICE_ARCH: $(grep -c '\.cpp$' <<<"$compiled") files," \
    "$(comm -12 <(echo "$compiled") <(echo "$with_kernels") | grep -c '\.cpp$') of them with kernels," \
    "in $((SECONDS - begin)) s"
done
exit $failed
