#!/bin/sh
# Stands in for iscsiadm: see ../tests.rs. @ROOT@ is the host.
root=@ROOT@ arguments="$*" settings=
echo "$arguments" >>"$root/calls"

while [ $# -gt 0 ]; do
  case $1 in
    --version) echo "iscsiadm version 2.1.8"; exit ;;
    -m) mode=$2; shift ;;
    -I) interface=$2; shift ;;
    -T) target=$2; shift ;;
    -p) portal=$2; shift ;;
    -r) id=$2; shift ;;
    -n) settings="$settings$2 = $4
"; shift 3 ;;
    --op=*) what=${1#--op=} ;;
    --log*) what=${1#--} ;;
  esac
  shift
done

# The next code that was asked for.
if [ -s "$root/codes.$what" ]; then
  code=$(head -n 1 "$root/codes.$what")
  sed -i 1d "$root/codes.$what"
  cat "$root/complaint" >&2 2>/dev/null
  exit "$code"
fi

address=${portal%:*} tail=${portal##*:}
port=${tail%,*} tag=${tail#*,}
node="$root/etc/iscsi/nodes/$target/$address,$port,$tag/$interface"
iface="$root/etc/iscsi/ifaces/$interface"

# Changes one at a time, and long enough to be met by another.
case $what in new | delete)
  mkdir "$root/changing" 2>/dev/null || echo "$arguments" >>"$root/overlap"
  sleep 0.02
  ;;
esac

case $mode,$what in
  iface,new)
    mkdir -p "$root/etc/iscsi/ifaces"
    printf 'iface.iscsi_ifacename = %s\n%s' "$interface" "$settings" >"$iface"
    ;;
  iface,delete) rm -f "$iface" "$root"/etc/iscsi/nodes/*/*/"$interface" ;;
  node,new)
    mkdir -p "${node%/*}"
    {
      printf 'node.name = %s\n' "$target"
      printf 'node.conn[0].address = %s\nnode.conn[0].port = %s\n' "$address" "$port"
      cat "$iface"
    } >"$node"
    ;;
  node,delete) rm -f "$node" ;;
  node,login)
    if [ -e "$root/together" ]; then
      echo >>"$root/begun"
      while [ "$(wc -l <"$root/begun")" -lt "$(cat "$root/together")" ]; do sleep 0.01; done
    fi
    if [ ! -e "$root/no-session" ]; then
      sys="$root/sys/class" id=1
      mkdir -p "$sys/iscsi_session" "$sys/iscsi_connection"
      until mkdir "$sys/iscsi_connection/connection$id:0" 2>/dev/null; do id=$((id + 1)); done
      echo "$address" >"$sys/iscsi_connection/connection$id:0/persistent_address"
      echo "$port" >"$sys/iscsi_connection/connection$id:0/persistent_port"
      echo "$address" >"$sys/iscsi_connection/connection$id:0/address"
      [ ! -e "$root/sent-on-to" ] || cat "$root/sent-on-to" >"$sys/iscsi_connection/connection$id:0/address"
      session="$sys/.session$id"
      mkdir -p "$session/device" "$session/iscsi_host/host$id"
      echo "$target" >"$session/targetname"
      echo "$tag" >"$session/tpgt"
      [ ! -e "$root/new-tag" ] || cat "$root/new-tag" >"$session/tpgt"
      echo "$interface" >"$session/ifacename"
      echo LOGGED_IN >"$session/state"
      echo 120 >"$session/recovery_tmo"
      [ ! -e "$root/astray" ] || cat "$root/astray" >"$session/iscsi_host/host$id/netdev"
      mv "$session" "$sys/iscsi_session/session$id"
    fi
    ;;
  session,logout) rm -r "$root/sys/class/iscsi_session/session$id" ;;
esac

rmdir "$root/changing" 2>/dev/null
exit 0
