#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A whole Debian with systemd, from its login prompt to its power button; results in TAP.

usage: debian_test.py LODGE TOOLS FILES ENGINE [CPUS]
"""
import json
import os
import socket
import subprocess
import sys
import tempfile

from bootlib import Dead, Guest, Tap, skip

HERE = os.path.dirname(os.path.abspath(__file__))


def make_files(tools, files):
    done = subprocess.run([f"{tools}/guest-debian", files], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode == 77:
        skip(done.stdout.strip().split("\n")[-1])
    if done.returncode:
        sys.exit(f"guest-debian: {done.stdout}")


def log_in(guest):
    guest.until("login: ")
    guest.send("root")
    guest.until("Password: ")
    guest.send("lodge")
    guest.until("root@debian:")
    # One line, no colours, no echo of escape sequences, no kernel's words between them.
    guest.run("dmesg -n 1; stty -echo cols 500; bind 'set enable-bracketed-paste off'; export TERM=dumb PAGER=cat")


def inspect(tap, guest, cpus):
    status, out = guest.run("systemctl is-system-running --wait")
    units = guest.run("systemctl --failed --no-legend --plain --no-pager")[1]
    tap.check(status == 0 and out.endswith("running"), "systemd says that the system is running", out + units)
    tap.check("6.1." in guest.run("uname -r")[1], "uname names Debian's kernel")
    tap.check(guest.run("nproc")[1] == cpus, "it has its processors")
    status, out = guest.run("ip -4 -o addr show scope global")
    tap.check("10.0.2.15/24" in out, "networkd has its address by DHCP", out)
    status, out = guest.run("ip -4 route show default")
    tap.check("via 10.0.2.2" in out, "and its router", out)
    status, out = guest.run("cat /sys/devices/system/clocksource/clocksource0/current_clocksource")
    tap.check(out in ("tsc", "kvm-clock"), "the clock source is a fast one", out)
    status, out = guest.run("lsmod")
    tap.check(all(m in out for m in ("button", "aesni_intel", "qemu_fw_cfg")),
              "udev has loaded the drivers of what it found", out)
    status, out = guest.run("grep -E '^(processor|flags)' /proc/cpuinfo")
    tap.check(out.count(" avx2 ") == int(cpus) and out.count(" sha_ni") in (0, int(cpus)),
              "all processors have AVX2", out)
    status, out = guest.run("dmesg --level=emerg,alert,crit,err")
    tap.check(out == "", "the kernel logged no error", out)


def shake(tap, guest):
    """The guest's results are the host's."""
    want = subprocess.run([sys.executable, f"{HERE}/debian-shake", "2"], capture_output=True, text=True,
                          check=True).stdout.strip()
    status, out = guest.run("debian-shake 2")
    tap.check(status == 0 and out == want, "hashes, numbers, files and pipes give what they give on the host",
              f"host:\n{want}\nguest:\n{out}")
    # Both processors at once, on the same work: they must agree.
    status, out = guest.run("for i in 1 2 3; do (debian-shake >/tmp/$i) & done; wait; "
                            "cmp /tmp/1 /tmp/2 && cmp /tmp/1 /tmp/3 && head -n 1 /tmp/1")
    tap.check(status == 0 and want.split("\n")[0] in out, "also with more work than processors", out)
    status, out = guest.run("dd if=/dev/urandom of=/var/big bs=1M count=8 status=none; "
                            "s=$(sha256sum </var/big); gzip -1 -k /var/big; sync; "
                            "echo 3 >/proc/sys/vm/drop_caches; [ \"$s\" = \"$(gunzip -c /var/big.gz | sha256sum)\" ] "
                            "&& cmp /var/big <(gunzip -c /var/big.gz)")
    tap.check(status == 0, "gzip and gunzip over the disk give the file back", out)


def press_power_button(path):
    with socket.socket(socket.AF_UNIX) as s, s.makefile("rw") as f:
        s.connect(path)
        f.readline()
        for command in ("qmp_capabilities", "system_powerdown"):
            f.write(json.dumps({"execute": command}) + "\n")
            f.flush()
            while "return" not in json.loads(f.readline()):
                pass


def main():
    if len(sys.argv) not in (5, 6):
        sys.exit(__doc__)
    lodge, tools, files, engine, cpus = (sys.argv[1:] + ["2"])[:5]
    make_files(tools, files)
    tap = Tap()
    with tempfile.TemporaryDirectory() as work:
        disk, monitor = f"{work}/disk.img", f"{work}/monitor"
        subprocess.run(["cp", "--sparse=always", f"{files}/debian/disk.img", disk], check=True)
        options = ("--engine", engine, "--cpus", cpus, "--kernel", f"{files}/kernel/vmlinuz",
                   "--initrd", f"{files}/initramfs", "--cmdline", "console=ttyS0 lodge.init=/sbin/init",
                   "--disk", f"{disk},format=raw", "--net", "user", "--monitor", monitor)
        with Guest(lodge, *options, memory="1G") as guest:
            try:
                log_in(guest)
                tap.check(True, "it boots to its login prompt, and root comes in")
                inspect(tap, guest, cpus)
                shake(tap, guest)
                tap.no_complaint(guest.run("dmesg")[1], "the kernel has no complaint after the work")
                guest.send("reboot")
                guest.until("login: ")
                tap.check(True, "reboot comes back to the login prompt")
                press_power_button(monitor)
                status = guest.end()
                tap.check("Powering off" in guest.out, "the power button shuts systemd down", guest.out)
                tap.check(status == 0, "power-off ends with status 0", guest.out)
                tap.no_complaint(guest.out)
            except Dead as e:
                tap.check(False, f"the guest lives to its end ({e})", guest.out)
    return tap.end()


sys.exit(main())
