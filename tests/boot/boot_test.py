#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Boot one of Debian's kernels to its shell with a disk and a network; results in TAP.

usage: boot_test.py LODGE TOOLS FILES ENGINE CPUS cloud|generic
"""
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile

from bootlib import Tap


def boot(lodge, kernel, engine, cpus, disk, url, network=("--net", "user")):
    command = [lodge, "run", "--engine", engine, "--cpus", str(cpus), "--memory", "512M", *kernel,
               "--cmdline", f"console=ttyS0 lodge.url={url} lodge.do=off",
               "--disk", f"{disk},format=raw", *network]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          errors="replace", check=False)
    return done.returncode, done.stdout, done.stderr


def main():
    if len(sys.argv) != 7:
        sys.exit(__doc__)
    lodge, tools, files, engine, cpus, flavour = sys.argv[1:]
    tap = Tap()
    subprocess.run([f"{tools}/guest-files", files, flavour], check=True, stdout=sys.stderr)
    folder = {"cloud": "kernel", "generic": "generic"}[flavour]
    kernel = ["--kernel", f"{files}/{folder}/vmlinuz",
              "--initrd", f"{files}/initramfs" + ("-generic" if flavour == "generic" else "")]
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
            status, out, err = boot(lodge, kernel, engine, cpus, disk, url)
            both = out + err
            tap.check(f", {cpus} processors," in out, f"the kernel comes up with {cpus} processors", both)
            tap.check("the disk /dev/vda is mounted" in out, "the disk is mounted", both)
            tap.check("the network is up: 10.0.2.15/24" in out, "the network is up", both)
            digest = hashlib.sha256(content).hexdigest()[:16]
            tap.check(f"100000 bytes, sha256 {digest}" in out, "a file comes over the network", both)
            tap.check("read it back (boot 1 " in out, "the disk takes data and gives it back", both)
            tap.check(status == 0, "power-off ends with status 0", both)
            tap.check(f"engine {engine}" in err, "the engine is named", err)
            tap.no_complaint(out)
            status, out, err = boot(lodge, kernel, engine, cpus, disk, url, ("--net", "none"))
            tap.check(status == 0 and "(boot 2 of this disk)" in out, "the disk kept it", out + err)
            tap.check("network is up" not in out, "without --net there is no network", out + err)
        finally:
            os.kill(pid, 15)
    return tap.end()


sys.exit(main())
