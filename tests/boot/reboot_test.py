#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests that reset themselves, each way that Linux has, and without end; results in TAP.

usage: reboot_test.py LODGE TOOLS FILES ENGINE
"""
import shutil
import struct
import subprocess
import sys
import tempfile

from bootlib import Tap

LOAD_ADDRESS = 0x100000


def run(lodge, engine, *options):
    done = subprocess.run([lodge, "run", "--engine", engine, *options], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, errors="replace", check=False)
    return done.returncode, done.stdout, done.stderr


def multiboot(code):
    """A multiboot-1 image that is all header and `code`, with its addresses in the header."""
    magic, flags = 0x1BADB002, 1 << 16
    end = LOAD_ADDRESS + 32 + len(code)
    return struct.pack("<8I", magic, flags, -(magic + flags) & 0xFFFFFFFF, LOAD_ADDRESS, LOAD_ADDRESS,
                       end, end, LOAD_ADDRESS + 32) + code


def resetting(port, value):
    """mov dx, port; mov al, value; out dx, al; and what a guest that goes on would do: ud2."""
    return bytes([0x66, 0xBA]) + struct.pack("<H", port) + bytes([0xB0, value, 0xEE, 0x0F, 0x0B])


def linux_reboots(tap, lodge, files, engine, work):
    for how, name in (("a", "ACPI's register"), ("p", "port 0xcf9"), ("k", "the keyboard controller")):
        disk = f"{work}/{how}.img"
        shutil.copyfile(f"{files}/disk.img", disk)
        status, out, err = run(lodge, engine, "--cpus", "2", "--memory", "512M",
                               "--kernel", f"{files}/kernel/vmlinuz", "--initrd", f"{files}/initramfs",
                               "--cmdline", f"console=ttyS0 lodge.do=reboot reboot={how}",
                               "--disk", f"{disk},format=raw", "--net", "user")
        both = out + err
        tap.check("(boot 1 of this disk)" in out and "(boot 2 of this disk)" in out,
                  f"a reset by {name} boots again", both)
        tap.check(out.count("the network is up") == 2, "with its network", both)
        tap.check(status == 0, "and powers off with status 0", both)
        tap.no_complaint(out)


def linux_triple_fault(tap, lodge, files, engine, work):
    disk = f"{work}/t.img"
    shutil.copyfile(f"{files}/disk.img", disk)
    status, out, err = run(lodge, engine, "--cpus", "2", "--memory", "512M",
                           "--kernel", f"{files}/kernel/vmlinuz", "--initrd", f"{files}/initramfs",
                           "--cmdline", "console=ttyS0 lodge.do=reboot reboot=t",
                           "--disk", f"{disk},format=raw", "--net", "none")
    tap.check(status == 1, "a reboot by triple fault ends the guest with status 1", out + err)
    tap.check("triple fault" in err and "rip " in err, "and says where it was", err)


def small_guests(tap, lodge, engine, work):
    for port, value in ((0xCF9, 6), (0x64, 0xFE), (0x92, 1)):
        kernel = f"{work}/storm"
        with open(kernel, "wb") as f:
            f.write(multiboot(resetting(port, value)))
        status, out, err = run(lodge, engine, "--memory", "16M", "--kernel", kernel)
        tap.check(status == 1 and "has reset itself 11 times" in err,
                  f"resets without end by port {port:#x} are ended with status 1", out + err)
        tap.check("triple fault" not in err, "and not by what the guest does behind its reset", err)


def main():
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    lodge, tools, files, engine = sys.argv[1:]
    tap = Tap()
    subprocess.run([f"{tools}/guest-files", files], check=True, stdout=sys.stderr)
    with tempfile.TemporaryDirectory() as work:
        small_guests(tap, lodge, engine, work)
        linux_reboots(tap, lodge, files, engine, work)
        linux_triple_fault(tap, lodge, files, engine, work)
    return tap.end()


sys.exit(main())
