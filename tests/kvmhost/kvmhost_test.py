#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Everything again on a hardware KVM: the test guests and Debian's kernel, inside the test host.

usage: kvmhost_test.py LODGE TOOLS FILES GUESTELF…

The processor of the test host is QEMU's emulation. Where it does less than the manuals ask, the guest's
test cannot pass there; these are named in KNOWN with the reason, and reported as "TODO".
"""
import os
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "boot"))
from bootlib import Tap  # noqa: E402

NO_LIMITS = "the test host's processor checks no segment limits"
KNOWN = {
    ("exceptions", "non-canonical addresses"): "it raises #GP for the stack segment, too",
    ("exceptions", "software interrupts"): "its error code for a gate in long mode counts 16 a vector",
    ("exceptions", "gates not present or wrong"): "its error code for a gate in long mode counts 16 a vector",
    ("exceptions", "alignment check"): "it has no alignment check",
    ("paging", "access rights against the model"): "it leaves P out of reserved-bit faults",
    ("paging", "reserved bits"): "it leaves P out of reserved-bit faults",
    ("segments", "LTR"): "it loads a null task register",
    ("debug", "INT1"): "it has no INT1 under nested virtualization",
    ("debug", "who may touch debug registers"): "it has no general-detect trap",
    ("legacy", "segment limits and types"): NO_LIMITS,
    ("legacy", "segment loads"): NO_LIMITS,
    ("legacy", "faults in real mode"): NO_LIMITS,
    ("legacy", "PAE paging"): "it reads PDPTEs at each walk and checks none of their bits",
}
CPUS_OF_GUESTS = 2
BOOT_CPUS = (1, 2, 8)


def host_script(names):
    """What runs inside: each guest, then Debian's kernel with few and many processors."""
    lines = []
    for name in names:
        lines.append(f'echo "@@ guest {name}"\n'
                     f"lodge run --engine kvm --cpus {CPUS_OF_GUESTS} --memory 256M "
                     f"--kernel /guest/{name}.elf --net none --debug-exit </dev/null\n"
                     'echo "@@ status $?"')
    lines.append("cp /guest/disk.img /tmp/disk.img; httpd -p 127.0.0.1:8080 -h /guest/www")
    for cpus in BOOT_CPUS:
        lines.append(f'echo "@@ boot {cpus}"\n'
                     f"lodge run --engine kvm --cpus {cpus} --memory 512M --kernel /guest/kernel/vmlinuz "
                     '--initrd /guest/initramfs --cmdline "console=ttyS0 quiet lodge.do=off '
                     'lodge.url=http://10.0.2.2:8080/file" --disk /tmp/disk.img,format=raw --net user </dev/null\n'
                     'echo "@@ status $?"')
    lines.append('echo "@@ auto"; lodge run --engine auto --dry-run --kernel /guest/kernel/vmlinuz; echo "@@ status $?"')
    return "\n".join(lines) + "\n"


def run_host(lodge, tools, files, elfs):
    names = [re.sub(r"^guest-|\.elf$", "", os.path.basename(elf)) for elf in elfs]
    with tempfile.TemporaryDirectory() as work:
        with open(f"{work}/script", "w", encoding="utf-8") as f:
            f.write(host_script(names))
        with open(f"{work}/file", "wb") as f:
            f.write(b"lodge" * 20000)
        command = [f"{tools}/kvmhost-run", "-r", "-d", files, "-t", "3000"]
        for name, elf in zip(names, elfs):
            command += ["-f", f"{elf}:guest/{name}.elf"]
        for source, target in ((lodge, "bin/lodge"), (f"{files}/kernel/vmlinuz", "guest/kernel/vmlinuz"),
                               (f"{files}/initramfs", "guest/initramfs"), (f"{files}/disk.img", "guest/disk.img"),
                               (f"{work}/file", "guest/www/file"), (f"{work}/script", "script")):
            command += ["-f", f"{source}:{target}"]
        done = subprocess.run(command + ["--", "sh", "/script"], stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, errors="replace", check=False)
    return done.stdout.replace("\r", "") + done.stderr


def sections(text):
    """(title, body, status) of each part of the output."""
    for part in re.split(r"^@@ (?=guest|boot|auto)", text, flags=re.M)[1:]:
        title, _, body = part.partition("\n")
        body, mark, status = body.partition("@@ status ")
        yield title, body, int(status.split()[0]) if mark else None


def check_guest(tap, name, body, status):
    for result, test in re.findall(r"^(ok|not ok) \d+ (.*)$", body, flags=re.M):
        test = test.split(" # ")[0]
        tap.check(result == "ok", f"{name}: {test}", body, KNOWN.get((name, test)))
    tap.check(status == 1 and "1.." in body, f"{name}: came to its end", body)


def check_boot(tap, cpus, body, status):
    for want in (f", {cpus} processors,", "the disk /dev/vda is mounted", "the network is up: 10.0.2.15/24",
                 ": 100000 bytes, sha256", "and read it back", "powering off"):
        tap.check(want in body, f"boot with {cpus}: {want.strip(', :')}", body)
    tap.check(status == 0, f"boot with {cpus}: ends with status 0", body)


def main():
    if len(sys.argv) < 5:
        sys.exit(__doc__)
    lodge, tools, files = sys.argv[1:4]
    subprocess.run([f"{tools}/guest-files", files], check=True)
    text = run_host(lodge, tools, files, sys.argv[4:])
    tap = Tap()
    seen = 0
    for title, body, status in sections(text):
        seen += 1
        kind, _, what = title.partition(" ")
        if kind == "guest":
            check_guest(tap, what, body, status)
        elif kind == "boot":
            check_boot(tap, what, body, status)
        else:
            tap.check("engine kvm" in body, "auto takes the hardware KVM", body)
    tap.check(seen == len(sys.argv) - 4 + len(BOOT_CPUS) + 1, "everything was run", text)
    return tap.end()


sys.exit(main())
