#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Boot Debian's kernel in QEMU, whose KVM is the software one (softkvm QEMU …); results in TAP.

An independent judge of the KVM interface: QEMU's firmware, boards and devices, and its own idea of
which ioctls there are.

usage: qemu_test.py SOFTKVM TOOLS FILES MACHINE CPUS
"""
import re
import shutil
import subprocess
import sys
import tempfile

QEMU = "qemu-system-x86_64"
LIMIT_SECONDS = 300  # against a hang
COMPLAINT = re.compile(r"\bBUG\b|WARNING|Call Trace|rcu.*stall|soft lockup")
# On AMD's Zen 1 to 4 the kernel gives this advice unless CPUID says SRSO_NO. softkvm says so, but
# Debian's QEMU (7.2) does not know the leaf, 80000021H, and leaves it out.
ADVICE = "Speculative Return Stack Overflow: WARNING: See https:"


def boot(softkvm, files, machine, cpus, disk):
    command = [softkvm, QEMU, "-accel", "kvm", "-machine", machine, "-cpu", "host", "-smp", cpus,
               "-m", "512", "-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot",
               "-kernel", f"{files}/kernel/vmlinuz", "-initrd", f"{files}/initramfs",
               "-append", "console=ttyS0 panic=-1 lodge.do=off",
               "-drive", f"file={disk},format=raw,if=virtio", "-nic", "user,model=virtio-net-pci"]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              errors="replace", timeout=LIMIT_SECONDS, check=False)
    except subprocess.TimeoutExpired as e:
        return None, (e.stdout or b"").decode(errors="replace"), ""
    return done.returncode, done.stdout, done.stderr


def complaints(out):
    return [line for line in out.split("\n") if COMPLAINT.search(line) and ADVICE not in line]


def main():
    if len(sys.argv) != 6:
        sys.exit(__doc__)
    softkvm, tools, files, machine, cpus = sys.argv[1:]
    if not shutil.which(QEMU):
        print(f"1..0 # SKIP no {QEMU} here")
        return 0
    subprocess.run([f"{tools}/guest-files", files], check=True, stdout=sys.stderr)
    with tempfile.TemporaryDirectory() as work:
        disk = f"{work}/disk.img"
        shutil.copyfile(f"{files}/disk.img", disk)
        status, out, err = boot(softkvm, files, machine, cpus, disk)
    wants = [("Hypervisor detected: KVM" in out, "the kernel finds KVM"),
             (f", {cpus} processors," in out, f"it comes up with {cpus} processors"),
             ("the disk /dev/vda is mounted" in out, "the disk is mounted"),
             ("the network is up: 10.0.2.15/24" in out, "the network is up"),
             (re.search(r"read it back \(boot 1 ", out), "the disk takes data and gives it back"),
             (not complaints(out), "the kernel has no complaint"),
             (status == 0, "power-off ends QEMU with status 0")]
    for number, (ok, name) in enumerate(wants, 1):
        print(f"{'ok' if ok else 'not ok'} {number} {name}")
    if not all(ok for ok, _ in wants):
        print("\n".join("# " + line for line in complaints(out)))
        print("\n".join("# " + line for line in (out + err).strip().split("\n")[-60:]))
    print(f"1..{len(wants)}")
    return 0 if all(ok for ok, _ in wants) else 1


sys.exit(main())
