#!/bin/bash
# check.sh CUDA ALL ARCHITECTURE...: compiles src, layers, backends and benchmarks as a GPU build does, for each
# architecture, without such a device: what launches a kernel, copies between memories, or includes a header that does.
# With ALL=ON every source and the tests, and the host's half of it once, by AMD's compiler. Fails on an error, on a
# warning, on a source file or a header with a kernel that was not compiled, and on a kernel too large for a graph.
# CUDA: where nvcc lies.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
export GRIST_NVCC=$1/bin/nvcc GRIST_DEVICE_ARCH
all=$2
kernel='KOKKOS_(LAMBDA|FUNCTION|INLINE_FUNCTION|CLASS_LAMBDA)|parallel_(for|reduce|scan)'
launch='KOKKOS_(LAMBDA|CLASS_LAMBDA)|parallel_(for|reduce|scan)|deep_copy|create_mirror'
host='^(backends/cpu|backends/kokkos_kernels)/'   # for hosts
folders=(src layers backends benchmarks)
[ "$all" = OFF ] || folders+=(tests)
failed=0

# objects BUILD: "object NAME SOURCE" for each source of each object, those of a unity file too.
objects() {
  local key value source
  sed -nE "s,^ *\"(file|output)\": \"(.*)\"\,?$,\\1 \\2,; s,^output ($1/)?,output ,; /^(file|output) /p" \
    "$1/compile_commands.json" | while read -r key value; do
    case $key in
      file) source=$value ;;
      output)
        { echo "$source"; sed -nE '/Unity/!s/^#include "(.*)"$/\1/p' "$source"; } | sed "s|^|object $value |" ;;
    esac
  done
}

# with_launches BUILD: objects of which a source has such a launch or copy, or includes, over headers too, one that has.
# A file goes by its top folder and its own name, as in <grist/layers/sums.hpp> and in layers/sums.hpp.
with_launches() {
  (
    cd "$root"
    grep -rlE --include='*.[ch]pp' "$launch" "${folders[@]}" | sed 's|^|kernel |'
    grep -roE --include='*.[ch]pp' '^#include [<"][^>"]*' "${folders[@]}" |
      sed -E 's|:#include <grist/| |; s|^(.*/)([^/]*):#include "|\1\2 \1|; s|^|include |'
    objects "$1" | sed "s| $root/| |"
  ) | awk '
    function name(path) { sub("^src/", "", path); sub("/(.*/)?", "/", path); return path }
    $1 == "kernel" { launches[name($2)] }
    $1 == "include" { ++edges; from[edges] = name($2); to[edges] = name($3) }
    $1 == "object" { sources[$2] = sources[$2] " " name($3) }
    END {
      do {
        more = 0
        for (e in from) if (to[e] in launches && !(from[e] in launches)) { launches[from[e]]; more = 1 }
      } while (more)
      for (object in sources) {
        count = split(sources[object], names)
        for (i = 1; i <= count; ++i) if (names[i] in launches) { print object; break }
      }
    }'
}

# configure BUILD DEVICE LAUNCHER. Nothing will run: what an optimizer does only takes time.
configure() {
  mkdir -p "$1"
  cmake -G Ninja -S "$root" -B "$1" -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_FLAGS_RELEASE="-O1 -DNDEBUG" \
    -DCMAKE_UNITY_BUILD=ON -DCMAKE_UNITY_BUILD_BATCH_SIZE=6 \
    -DGRIST_DEVICE_CHECK="$2" -DGRIST_DEVICE_ARCH="$GRIST_DEVICE_ARCH" \
    -DCMAKE_CXX_COMPILER_LAUNCHER="$root/cmake/devices/$3" -DGRIST_TESTS="$all" \
    >"$1/configure.log" 2>&1 || { cat "$1/configure.log" >&2; exit 1; }
}

if [ "$all" = ON ]; then
  host_code=$root/build/devices-host
  GRIST_DEVICE_ARCH=gfx942 begin=$SECONDS
  configure "$host_code" hip hipcc.sh
  GRIST_HOST_CODE=1 cmake --build "$host_code" -- -k 0 || exit 1
  echo "host code: $(ninja -C "$host_code" -t deps | grep -c '^[^ ].*: #deps') objects, in $((SECONDS - begin)) s"
fi

for GRIST_DEVICE_ARCH in "${@:3}"; do
  case $GRIST_DEVICE_ARCH in
    sm_*) device=cuda launcher=nvcc.sh ;;
    gfx*) device=hip launcher=hipcc.sh ;;
    *) echo "check-devices: unknown architecture $GRIST_DEVICE_ARCH" >&2; exit 2 ;;
  esac
  build=$root/build/devices-$GRIST_DEVICE_ARCH
  begin=$SECONDS
  configure "$build" $device $launcher
  if [ "$all" = ON ]; then
    chosen=$(objects "$build" | cut -d' ' -f2 | sort -u)
  else
    chosen=$(with_launches "$build")
  fi
  [ -n "$chosen" ] || { echo "check-devices: no object launches a kernel in ${build#"$root"/}" >&2; exit 1; }
  mapfile -t objects <<<"$chosen"
  cmake --build "$build" --target "${objects[@]}" -- -k 0 || failed=1

  # What was compiled, headers too: ninja keeps it for every object that was made.
  compiled=$(cd "$build" && ninja -t deps "${objects[@]}" | sed -n 's|^    ||p' | sort -u | xargs realpath |
    sed -n "s|^$root/||p" | grep -v '^build/' | sort -u)
  with_kernels=$(cd "$root" && grep -rlE --include='*.cpp' --include='*.hpp' "$kernel" "${folders[@]}" | sort)
  left_out=$(comm -13 <(echo "$compiled") <(echo "$with_kernels") | grep -vE "$host" || true)
  if [ -n "$left_out" ]; then
    printf 'check-devices: a kernel is not compiled for %s: %s\n' "$GRIST_DEVICE_ARCH" "${left_out//$'\n'/ }" >&2
    failed=1
  fi
  # Kokkos launches a large kernel by a buffer that others share: replayed in a graph it would read another's arguments.
  large=$(cd "$build" && nm -C "${objects[@]}" | grep -oE 'parallel_launch_(constant|global)_memory<.{0,120}' |
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
