#!/bin/bash
# image.sh FOLDER PACKAGE...: makes FOLDER a Debian sid system with these packages, or leaves nothing.
# Works as root and as an ordinary user; all files belong to the user.
# Package mirror and apt's options (proxy, certificates, ...) are those of this machine.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=$1 part=$1.part
packages=$(IFS=,; echo "${*:2}")

# The first Debian mirror that apt uses here. Other distributions' mirrors have no sid: there mmdebstrap knows one.
find_mirror() {
  # shellcheck source=/dev/null
  . /etc/os-release
  [ "${ID:-}" = debian ] || return 0
  # shellcheck disable=SC2016  # these are apt's fields
  apt-get indextargets --format '$(IDENTIFIER) $(COMPONENT) $(RELEASE) $(REPO_URI)' |
    awk -v codename="${VERSION_CODENAME:-sid}" '$1 == "Packages" && $2 == "main" &&
      ($3 == codename || $3 ~ /^(sid|unstable|testing|stable|oldstable)$/) && !n++ { print $4 }'
}

# Its mounts end with it. An ordinary user's sub-uids could not enter a private home.
if [ "$UID" = 0 ]; then
  scratch=$part.scratch mmdebstrap=(unshare --mount mmdebstrap)
else
  scratch=${TMPDIR:-/tmp}/grist-image-$UID-$(dirname "$folder" | cksum | cut -d ' ' -f 1) mmdebstrap=(mmdebstrap)
fi
remove() { rm -rf --one-file-system "$part" "$scratch" 2>/dev/null; }
clean() { remove || { mmdebstrap --unshare-helper rm -rf "$scratch" 2>/dev/null || true; remove; }; }   # sub-uids' files too
trap clean EXIT
trap 'exit 130' INT TERM HUP
clean
mkdir -p "$part"
mkdir -m 755 "$scratch"

options=()
while IFS= read -r option; do options+=(--aptopt="$option"); done < <(apt-config dump | grep '^Acquire::')
for what in man doc info locale; do options+=(--dpkgopt="path-exclude=/usr/share/$what/*"); done
mirror=$(find_mirror || true)
sources=(${mirror:+"$mirror"})
if [[ $packages = */experimental* ]]; then
  for suite in sid experimental; do sources+=("deb ${mirror:-http://deb.debian.org/debian} $suite main"); done
  [ -z "$mirror" ] || sources=("${sources[@]:1}")
fi
# Through a stream, so that the files become the user's own and are removed as easily as any.
TMPDIR=$scratch "${mmdebstrap[@]}" --variant=minbase --format=tar --include="$packages" "${options[@]}" sid - "${sources[@]}" |
  tar --extract --directory "$part" --no-same-owner --exclude='./dev/*'
bwrap --bind "$part" / --dev /dev --proc /proc sh <"$here/mend.sh"
echo "$(date --utc +%Y-%m-%dT%H:%M:%SZ) $RANDOM" >"$part/etc/grist-image"
mv "$part" "$folder"
