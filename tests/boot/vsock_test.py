#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Sockets between a guest and its host, both ways, through `lodge run --vsock` in its sandbox; TAP.

usage: vsock_test.py LODGE TOOLS FILES GUEST_VSOCK ENGINE
"""
import os
import socket
import subprocess
import sys
import tempfile
import threading

from bootlib import Guest, Tap

INIT = """#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
export PATH=/bin
for module in $(cat /etc/modules); do insmod /lib/modules/$module; done
exec setsid sh -c 'exec sh </dev/ttyS0 >/dev/ttyS0 2>&1'
"""
BYTES = 1 << 20


def serve_once(path, said):
    """Listen at `path`; one client, who sends "ping" and gets "pong"."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen()

    def run():
        client, _ = server.accept()
        said.append(client.recv(4, socket.MSG_WAITALL))
        client.sendall(b"pong")
        client.close()
        server.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def send_and_read(path, port, data):
    """To the guest's port and back: the first line, and what came."""
    client = socket.socket(socket.AF_UNIX)
    client.connect(path)
    client.sendall(f"CONNECT {port}\n".encode())
    line = b""
    while not line.endswith(b"\n"):
        byte = client.recv(1)
        if not byte:
            return line, b""
        line += byte

    def send():
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    got = b""
    while part := client.recv(65536):
        got += part
    thread.join()
    client.close()
    return line, got


def talk(tap, guest, path):
    guest.until("# ")
    said = []
    thread = serve_once(f"{path}_1234", said)
    status, out = guest.run("guest-vsock connect 1234")
    thread.join(60)
    tap.check(status == 0 and "the host says pong" in out, "the guest connects to a program of the host", out)
    tap.check(said == [b"ping"], "what it says arrives", str(said))
    status, out = guest.run("guest-vsock connect 1235")
    tap.check(status == 1 and "reset" in out.lower(), "nobody listens: refused", out)
    guest.send("guest-vsock serve 77")
    guest.until("vsock: listening")
    data = os.urandom(BYTES)
    line, got = send_and_read(path, 77, data)
    tap.check(line.startswith(b"OK "), "a program of the host connects to the guest", str(line))
    tap.check(got == data, f"{BYTES} bytes go there and come back", f"{len(got)} bytes")
    guest.until(f"vsock: gave back {BYTES} bytes")
    line, _ = send_and_read(path, 78, b"")
    tap.check(line == b"", "nobody listens in the guest: closed", str(line))


def main():
    if len(sys.argv) != 6:
        sys.exit(__doc__)
    lodge, tools, files, program, engine = sys.argv[1:]
    tap = Tap()
    subprocess.run([f"{tools}/guest-files", files, "cloud"], check=True, stdout=sys.stderr)
    with tempfile.TemporaryDirectory() as work:
        path = f"{work}/vsock"
        with open(f"{work}/init", "w", encoding="ascii") as f:
            f.write(INIT)
        subprocess.run([f"{tools}/guest-initramfs", f"{work}/initramfs", f"{files}/kernel", f"{work}/init",
                        "virtio_pci", "vmw_vsock_virtio_transport", "--", f"{program}:bin/guest-vsock"], check=True)
        with Guest(lodge, "--engine", engine, "--kernel", f"{files}/kernel/vmlinuz", "--initrd", f"{work}/initramfs",
                   "--cmdline", "console=ttyS0 quiet", "--vsock", f"5,path={path}") as guest:
            talk(tap, guest, path)
            guest.send("poweroff -f")
            tap.check(guest.end() == 0, "power-off ends with status 0", guest.out)
            tap.no_complaint(guest.out)
        tap.check(not os.path.exists(path), "its socket is gone")
    return tap.end()


sys.exit(main())
