# shellcheck shell=bash
# Two nodes made of network namespaces, and a wire between them; for `source`. Leaves $first and $second, their names,
# $work, a folder that goes with them, and over_the_wire COMMAND...: a rank of it on each. Ends with exit code 77 where
# a machine has no such nodes.
PATH=$PATH:/usr/sbin:/sbin
[ "$(id -u)" = 0 ] || { echo "skipped: network namespaces want root"; exit 77; }
type -P mpiexec.hydra >/dev/null || { echo "skipped: MPICH's launcher is not there"; exit 77; }
first=grist-$$-a second=grist-$$-b
ip netns add "$first" 2>/dev/null || { echo "skipped: this machine forbids network namespaces"; exit 77; }

work=$(mktemp -d)
end() {
  for name in "$first" "$second"; do
    ip netns pids "$name" 2>/dev/null | xargs --no-run-if-empty kill -9
    ip netns del "$name" 2>/dev/null
  done
  rm -rf "$work"
}
trap end EXIT

# ---- two nodes and a wire
ip netns add "$second"
ip link add eth0 netns "$first" type veth peer name eth0 netns "$second" ||
  { echo "skipped: no veth devices here"; exit 77; }
ip -n "$first" address add 10.77.0.1/24 dev eth0
ip -n "$second" address add 10.77.0.2/24 dev eth0
for name in "$first" "$second"; do
  ip -n "$name" link set lo up
  ip -n "$name" link set eth0 up
done
for ((i = 0; i < 100; ++i)); do   # UCX uses no device that is not known to run
  [ "$({ ip -n "$first" link show eth0; ip -n "$second" link show eth0; } | grep -c 'state UP')" = 2 ] && break
  sleep 0.1
done
# What hydra calls as rsh HOST SHELL-COMMAND...: the node has its name, its devices and its network.
cat >"$work/enter" <<TEXT
#!/bin/bash
case \$1 in 10.77.0.1) name=$first ;; *) name=$second ;; esac
exec nsenter --net="/run/netns/\$name" unshare --mount --uts bash -c \
  'hostname "\$0"; mount -t sysfs none /sys; exec bash -c "\$*"' "\$name" "\${@:2}"
TEXT
chmod +x "$work/enter"
network=("PATH=$PATH" UCX_TLS=tcp,self UCX_NET_DEVICES=eth0 MPIR_CVAR_NOLOCAL=1)
over_the_wire() {
  "$work/enter" 10.77.0.1 "$(printf '%q ' env "${network[@]}" timeout 120 mpiexec.hydra -launcher rsh \
    -launcher-exec "$work/enter" -iface eth0 -hosts 10.77.0.1,10.77.0.2 -ppn 1 -n 2 "$@")"
}
