#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# What a small guest does once its root is there: network, a file over it, the
# disk, then what lodge.do says.
export PATH=/bin:/sbin HOME=/root
. /etc/lodge-guest.sh
fail() {
	say "FAILED: $*"
	poweroff -f
}

network() {
	[ -e /sys/class/net/eth0 ] || return 1
	ip link set lo up
	ip link set eth0 up
	udhcpc -q -n -f -i eth0 -s /etc/udhcpc.sh >/tmp/udhcpc.log 2>&1 || {
		cat /tmp/udhcpc.log
		fail "no DHCP lease"
	}
	say "the network is up: $(ip -4 -o addr show eth0 | awk '{ print $4 }')"
}

mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
hostname guest
url=$(parameter lodge.url)
boots=1
if network && [ -n "$url" ]; then
	wget -q -O /tmp/fetched "$url" || fail "cannot fetch $url"
	say "fetched $url: $(wc -c </tmp/fetched) bytes, sha256 $(sha256sum /tmp/fetched | cut -c1-16)"
fi
if [ -b /dev/vda ] && [ "$(parameter lodge.root)" != none ]; then
	dd if=/dev/urandom of=/root/written bs=64k count=16 2>/dev/null || fail "cannot write"
	sum=$(sha256sum </root/written)
	sync
	echo 3 >/proc/sys/vm/drop_caches
	[ "$(sha256sum </root/written)" = "$sum" ] || fail "the disk gives back other data"
	boots=$(($(cat /root/boots 2>/dev/null || echo 0) + 1))
	echo $boots >/root/boots
	say "wrote 1 MiB to the disk and read it back (boot $boots of this disk)"
fi
case $(parameter lodge.do) in
off | '')
	say "done, powering off"
	umount -a -r 2>/dev/null
	sync
	poweroff -f
	;;
reboot)
	# Each second boot of the disk ends here, so that one call of the VMM sees both.
	if [ $((boots % 2)) = 0 ]; then
		say "done, powering off"
		sync
		poweroff -f
	fi
	say "rebooting"
	sync
	reboot -f
	;;
shell)
	say "the shell is yours: 'poweroff -f' or Ctrl-A x ends the guest"
	setsid cttyhack sh
	sync
	poweroff -f
	;;
*)
	sh "$(parameter lodge.do)"
	say "status $?"
	sync
	poweroff -f
	;;
esac
