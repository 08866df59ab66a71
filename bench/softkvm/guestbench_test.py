#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""guestbench's workloads, small, on this machine: their checksums are these everywhere; results in TAP.

usage: guestbench_test.py GUESTBENCH
"""
import subprocess
import sys

PERCENT = "1"
UNSUPPORTED = 77
WANT = {
    "intloop": "d8134c47ac66218d", "branches": "306a3e4029a67772", "fib": "416513227962b885",
    "icall": "af35f107a2a4f8de", "interp": "ee653a0a4b8a3887", "sort": "fbcdae80ae7b06ae",
    "sha256": "2b8075cc8576f6f3", "lz": "10a9bede4f472085", "bytes": "bbb78d67000a118a",
    "chase-256k": "4c2042dca4654548", "chase-64m": "cc58fd96ac09fdc4", "memcpy": "abd308cc82911b81",
    "memset": "199c0582b1df1ca1", "strings": "9eacfb5882be5c43", "sse2": "867e1008d8b9a0be",
    "avx2": "469c8d0c331a2252", "nbody": "cc4195d773b0bcb1", "x87": "e2b8b0803bf1c55a",
    "syscall": "0000000000007530", "signal": "0000000000000640", "pagefault": "000000000001fe00",
    "mprotect": "0000000000000a8c", "fork": "dfd2d425b2bf5e21", "exec": "0000000000000009",
    "ctxsw": "e0d3815b909e1e00", "smc": "7b7667fcaa56bca2", "codegen": "8d53e5eb43c4d58c",
    "atomic": "f14f2dfe56426905", "one": "c12cd0348cb904e0", "two": "c12cd0348cb904e0",
    "futex": "1faa89831be6e9ff",
}


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False)


def check(number, ok, name, detail):
    print(f"{'ok' if ok else 'not ok'} {number} {name}")
    if not ok:
        print("\n".join("# " + line for line in detail.strip().split("\n")))
    return ok


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    guestbench = sys.argv[1]
    names = run(guestbench, "list").stdout.split()
    good = check(1, names == list(WANT), "each workload has its checksum here", f"it lists {names}")
    number = 1
    for name in names:
        number += 1
        done = run(guestbench, name, PERCENT, "2")
        if done.returncode == UNSUPPORTED:
            print(f"ok {number} {name} # SKIP the processor lacks it")
            continue
        words = done.stdout.split()
        right = done.returncode == 0 and len(words) == 4 and words[:2] == [name, WANT.get(name)]
        good = check(number, right, name, f"status {done.returncode}: {done.stdout}{done.stderr}") and good
    done = run(guestbench, "nothing")
    number += 1
    good = check(number, done.returncode == 2, "an unknown name is a wrong usage", done.stderr) and good
    print(f"1..{number}")
    return 0 if good else 1


sys.exit(main())
