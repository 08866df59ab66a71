#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Boot Debian's cloud kernel to its shell with a disk and a network; results in TAP.

usage: boot_test.py LODGE TOOLS FILES ENGINE CPUS
"""
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile


class Tap:
    def __init__(self):
        self.number = self.failed = 0

    def check(self, ok, name, detail=""):
        self.number += 1
        self.failed += not ok
        print(f"{'ok' if ok else 'not ok'} {self.number} {name}")
        if not ok and detail:
            print("\n".join("# " + line for line in detail.strip().split("\n")[-40:]))
        sys.stdout.flush()

    def end(self):
        print(f"1..{self.number}")
        return 1 if self.failed else 0


def boot(lodge, files, engine, cpus, disk, url, what):
    command = [lodge, "run", "--engine", engine, "--cpus", str(cpus), "--memory", "512M",
               "--kernel", f"{files}/kernel/vmlinuz", "--initrd", f"{files}/initramfs",
               "--cmdline", f"console=ttyS0 quiet lodge.url={url} lodge.do={what}",
               "--disk", f"{disk},format=raw", "--net", "user"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          errors="replace", check=False)
    return done.returncode, done.stdout, done.stderr


def main():
    if len(sys.argv) != 6:
        sys.exit(__doc__)
    lodge, tools, files, engine, cpus = sys.argv[1:6]
    tap = Tap()
    subprocess.run([f"{tools}/guest-files", files], check=True)
    with tempfile.TemporaryDirectory() as work:
        disk = f"{work}/disk.img"
        shutil.copyfile(f"{files}/disk.img", disk)
        content = os.urandom(100000)
        os.mkdir(f"{work}/www")
        with open(f"{work}/www/file", "wb") as f:
            f.write(content)
        server = subprocess.run([f"{tools}/http-server", f"{work}/www"], capture_output=True, text=True,
                                check=True)
        pid, port = map(int, server.stdout.split())
        try:
            url = f"http://10.0.2.2:{port}/file"
            status, out, err = boot(lodge, files, engine, cpus, disk, url, "off")
            both = out + err
            tap.check(f", {cpus} processors," in out, f"the kernel comes up with {cpus} processors", both)
            tap.check("the disk /dev/vda is mounted" in out, "the disk is mounted", both)
            tap.check("the network is up: 10.0.2.15/24" in out, "the network is up", both)
            digest = hashlib.sha256(content).hexdigest()[:16]
            tap.check(f"100000 bytes, sha256 {digest}" in out, "a file comes over the network", both)
            tap.check("read it back (boot 1 " in out, "the disk takes data and gives it back", both)
            tap.check(status == 0, "power-off ends with status 0", both)
            tap.check(f"engine {engine}" in err, "the engine is named", err)
            tap.check(not re.search(r"BUG|WARNING|Call Trace|rcu.*stall", out), "the kernel has no complaint", both)
            status, out, err = boot(lodge, files, engine, cpus, disk, url, "off")
            tap.check(status == 0 and "(boot 2 of this disk)" in out, "the disk kept it", out + err)
        finally:
            os.kill(pid, 15)
    return tap.end()


sys.exit(main())
