# SPDX-License-Identifier: GPL-2.0-or-later
# Shared by the scripts inside small guests.

# The value of a kernel parameter.
parameter() {
	for word in $(cat /proc/cmdline); do
		case $word in
		"$1="*) echo "${word#*=}" ;;
		esac
	done
}

# A step, with the guest's uptime.
say() {
	echo "lodge-guest: [$(cut -d' ' -f1 /proc/uptime)s] $*"
}

memory_mib() {
	awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo
}
