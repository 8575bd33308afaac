#!/usr/bin/env bash
# The packages that this project's programs and tests need, in groups. This is the only list.
#
#   tests/packages.sh install GROUP...   installs what is missing: on Debian and Ubuntu, as root or with a sudo that asks
#                                        for no password; elsewhere it prints what to do, and fails
#   tests/packages.sh check GROUP...     only prints what to do, and fails, if something is missing
set -euo pipefail

# One line per command: the command, and the packages that contain it.
needs() {
  case $1 in
    make) echo make make ;;
    # To link Rust programs, and to download the control plane.
    build) printf '%s\n' 'cc gcc libc6-dev' 'curl curl ca-certificates' ;;
    # For the tests of the console.
    browser) echo chromedriver chromium chromium-driver ;;
    # The unit tests of the alerts: promtool.
    alerts) echo promtool prometheus ;;
    # The container image.
    image) printf '%s\n' 'buildah buildah' 'musl-gcc musl-tools' 'git git' ;;
    # The virtual machines of tests/vm.
    host)
      printf '%s\n' 'qemu-system-x86_64 qemu-system-x86' 'qemu-img qemu-utils' 'mmdebstrap mmdebstrap' \
        'mke2fs e2fsprogs' 'modprobe kmod' 'cpio cpio' 'strip binutils'
      # With newuidmap an ordinary user can create files that belong to other users.
      [[ $EUID == 0 ]] || echo newuidmap uidmap
      ;;
    *) echo "tests/packages.sh: there is no group $1" >&2 && exit 2 ;;
  esac
}

mode=$1
shift
# An ordinary user's path often lacks the last two.
PATH=$PATH:/usr/sbin:/sbin
missing=()
for group; do
  lines=$(needs "$group")
  while read -r command packages; do
    # shellcheck disable=SC2206  # They are several words.
    command -v "$command" >/dev/null || missing+=($packages)
  done <<<"$lines"
done
[[ ${#missing[@]} -gt 0 ]] || exit 0

as_root=()
[[ $EUID == 0 ]] || as_root=(sudo --non-interactive)
command="apt-get install --yes --no-install-recommends ${missing[*]}"
if [[ $mode == check ]] || ! command -v apt-get >/dev/null || ! "${as_root[@]}" true 2>/dev/null; then
  echo "missing here: ${missing[*]}" >&2
  echo "on Debian or Ubuntu: sudo $command" >&2
  exit 1
fi
echo "installing what is missing: ${missing[*]}"
"${as_root[@]}" apt-get update -qq
# shellcheck disable=SC2086  # They are several words.
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive $command -qq >/dev/null
