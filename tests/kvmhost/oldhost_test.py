#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Software KVM on processors that lack what ours has: the test host plays an older one.

usage: oldhost_test.py LODGE INT_TEST FPU_TEST TOOLS FILES MODEL

There, the handlers' unit tests run, and Debian's kernel boots under `lodge run --engine soft`. A guest that is
offered, or may execute, an instruction that the host lacks ends Lodge with SIGILL, or its own kernel with #UD.
"""
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "boot"))
from bootlib import Tap  # noqa: E402

SECONDS = 1500
# What each model has (True) and lacks (False), by the names in /proc/cpuinfo.
FLAGS = {
    "qemu64": {"popcnt": False, "sse4_2": False, "avx": False, "xsave": False},
    "Nehalem": {"sse4_2": True, "popcnt": True, "avx": False, "xsave": False, "bmi1": False},
    "SandyBridge": {"avx": True, "xsave": True, "avx2": False, "bmi2": False, "abm": False},
}


# The emulated host raises no SIMD exceptions, so not fpu_test's "SIMD exceptions" and "a store withheld".
SCRIPT = """
grep -m1 ^flags /proc/cpuinfo
echo "@@ test int"; /bin/test-int; echo "@@ status $?"
echo "@@ test fpu"
/bin/test-fpu "traps by class" "SIGFPE of others" "pending x87 exceptions" "control words" environments \\
	"XSAVE and XSAVEOPT" XSAVEC XRSTOR "eight registers" "KVM's structures" "CPUID 0xD" "load and unload"
echo "@@ status $?"
echo "@@ boot"
lodge run --engine soft --memory 256M --kernel /guest/vmlinuz --initrd /guest/initramfs --net none \\
	--cmdline "console=ttyS0 lodge.root=none lodge.do=off" </dev/null
echo "@@ status $?"
"""


def run_host(lodge, int_test, fpu_test, tools, files, model):
    command = [f"{tools}/kvmhost-run", "-r", "-d", files, "-p", model, "-t", str(SECONDS)]
    for source, target in ((lodge, "bin/lodge"), (int_test, "bin/test-int"), (fpu_test, "bin/test-fpu"),
                           (f"{files}/kernel/vmlinuz", "guest/vmlinuz"), (f"{files}/initramfs", "guest/initramfs")):
        command += ["-f", f"{source}:{target}"]
    done = subprocess.run(command + ["--", "sh", "-c", SCRIPT], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, errors="replace", check=False)
    return done.stdout.replace("\r", "") + done.stderr


def section(text, title):
    """The output and the status of one part."""
    found = re.search(rf"^@@ {title}\n(.*?)@@ status (\d+)", text, re.M | re.S)
    return (found[1], int(found[2])) if found else (text, None)


def main():
    if len(sys.argv) != 7:
        sys.exit(__doc__)
    model = sys.argv[6]
    tap = Tap()
    subprocess.run([f"{sys.argv[4]}/guest-files", sys.argv[5], "cloud"], check=True, stdout=sys.stderr)
    text = run_host(*sys.argv[1:])
    found = re.search(r"^flags\s*:(.*)$", text, re.M)
    flags = found[1].split() if found else []
    for name, there in FLAGS[model].items():
        tap.check(found and (name in flags) == there, f"{model} {'has' if there else 'lacks'} {name}", text)
    for name in ("int", "fpu"):
        out, status = section(text, f"test {name}")
        tap.check(status == 0, f"the unit test {name}", out)
    out, status = section(text, "boot")
    tap.check("done, powering off" in out, "the kernel reaches its shell", out)
    tap.check(status == 0, "power-off ends with status 0", out)
    tap.no_complaint(out)
    return tap.end()


sys.exit(main())
