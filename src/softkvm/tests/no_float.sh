#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# libsoftkvm runs with the guest's MXCSR and x87 registers in the processor
# (cpu/fpu.h): its own code must not calculate in floating point.
#
# usage: no_float.sh libsoftkvm.a
echo 1..1
if ! command -v objdump >/dev/null; then
	echo "ok 1 # SKIP no objdump"
	exit 0
fi
found=$(objdump -d --no-show-raw-insn "$1" | grep -E '^ ' | awk '{ print $2 }' |
	grep -E '^v?(add|sub|mul|div|sqrt|min|max|cmp[a-z]*|cvt[a-z0-9]*|u?comi|round|rcp|rsqrt|fn?m(add|sub)[0-9]*|h(add|sub)|dp)(ss|sd|ps|pd|si|dq)$|^f[a-z0-9]+$' |
	grep -Ev '^(fxsave64|fxrstor64|fninit|fnstsw|fnstcw|fldcw|fnclex)$' | sort | uniq -c)
if [ -n "$found" ]; then
	echo "$found" | sed 's/^/# /'
	echo "not ok 1 no floating point in libsoftkvm"
	exit 0
fi
echo "ok 1 no floating point in libsoftkvm"
