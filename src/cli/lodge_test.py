#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The program `lodge` from outside: what it says and does when something is wrong.

usage: lodge_test.py LODGE      results as TAP

Every failure must be one line that names the object, and nothing may stay
behind. Bad options have their own test (run_options_test.c).
"""
import os
import pty
import resource
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time

LODGE = sys.argv[1]
cases = []


def case(function):
    cases.append(function)
    return function


class Skip(Exception):
    pass


def run(*arguments, **keywords):
    """status, stdout, the lines of stderr but for the engine's"""
    done = subprocess.run([LODGE, *arguments], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=120, check=False, **keywords)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("lodge: engine ")]
    return done.returncode, done.stdout, lines


def expect_failure(want, *arguments, status=1, **keywords):
    """One line, not even the engine's before it."""
    done = subprocess.run([LODGE, *arguments], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=120, check=False, **keywords)
    got, out, lines = done.returncode, done.stdout, done.stderr.splitlines()
    assert got == status, f"status {got}, want {status}: {lines}"
    assert lines == [want], f"{lines}, want {[want]}"
    assert out == "", out


def multiboot(code):
    """An image that runs `code` (bytes, 32-bit) at 4 MiB."""
    base = 0x400000
    header = struct.pack("<8I", 0x1BADB002, 0x10000, -(0x1BADB002 + 0x10000) & 0xFFFFFFFF,
                         base, base, 0, 0, base + 32)
    return header + code


def outb(port, value):
    return bytes([0x66, 0xBA]) + struct.pack("<H", port) + bytes([0xB0, value, 0xEE])


def say(text):
    return b"".join(outb(0x3F8, byte) for byte in text.encode())


FOREVER = b"\xf4\xeb\xfd"  # hlt; jmp
SPIN = b"\xeb\xfe"


def write(name, data):
    with open(name, "wb") as f:
        f.write(data)
    return name


def guest(code=FOREVER, name="kernel"):
    return write(name, multiboot(code))


def need_engine():
    status, _, lines = run("run", "--dry-run", "--kernel", guest())
    if status:
        raise Skip("no engine here: " + " ".join(lines))


@case
def usage():
    status, out, lines = run()
    assert status == 2 and not out and lines[0].startswith("usage: lodge "), lines
    expect_failure("lodge: fly: there is no such command; see: lodge --help", "fly", status=2)
    expect_failure("lodge: --cpus 0: not a number of processors; give 1 to 255",
                   "run", "--cpus", "0", status=2)
    expect_failure("lodge: --disk d,format=vmdk: unknown format 'vmdk'; give raw or qcow2",
                   "run", "--kernel", "k", "--disk", "d,format=vmdk", status=2)


@case
def help_and_version():
    for arguments in (["--help"], ["run", "--help"]):
        status, out, lines = run(*arguments)
        assert status == 0 and out.startswith("usage: lodge ") and not lines
    for arguments in (["--version"], ["run", "--version"]):
        status, out, lines = run(*arguments)
        assert status == 0 and out.startswith("lodge ") and not lines


@case
def bad_kernels():
    need_engine()
    expect_failure("lodge: kernel none: cannot be opened: No such file or directory; "
                   "check the path",
                   "run", "--kernel", "none")
    expect_failure("lodge: kernel .: is a directory; give a file", "run", "--kernel", ".")
    write("empty", b"")
    expect_failure("lodge: kernel empty: is empty; is its download or build complete?",
                   "run", "--kernel", "empty")
    write("text", b"hello\n" * 1000)
    expect_failure("lodge: kernel text: is not a kernel; give a bzImage, an ELF file with a PVH "
                   "note, or a multiboot image", "run", "--kernel", "text")
    with open("/bin/true", "rb") as f:
        write("elf", f.read())
    expect_failure("lodge: kernel elf: is an ELF file without a PVH note or multiboot header; "
                   "give a kernel (for Linux: its vmlinuz)", "run", "--kernel", "elf")
    expect_failure("lodge: initrd none: cannot be opened: No such file or directory; "
                   "check the path",
                   "run", "--kernel", guest(), "--initrd", "none")
    with open("large", "wb") as f:
        f.truncate(100 << 20)
    expect_failure("lodge: kernel kernel with initrd large: too large for 64 MiB of memory; "
                   "give at least --memory 106M",
                   "run", "--kernel", guest(), "--initrd", "large", "--memory", "64M")


@case
def no_memory():
    need_engine()
    few = [400 << 20, 400 << 20]  # less than the guest wants, more than the engine
    expect_failure("lodge: memory of 512 MiB: cannot be had: File too large; give less with --memory",
                   "run", "--kernel", guest(),
                   preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, few))


@case
def closed_standard_error_is_no_disk():
    need_engine()
    write("disk", bytes(1 << 20))
    done = subprocess.run(f"{LODGE} run --debug-exit --kernel {guest(outb(0xF4, 0) + FOREVER)} "
                          "--disk disk <&- >&- 2>&-", shell=True, timeout=120, check=False)
    assert done.returncode == 1, done.returncode
    with open("disk", "rb") as f:
        assert f.read() == bytes(1 << 20), "what was said is on the disk"


@case
def full_standard_output():
    with open("/dev/full", "wb") as full:
        done = subprocess.run([LODGE, "--help"], stdout=full, stderr=subprocess.PIPE, text=True,
                              timeout=120, check=False)
    assert done.returncode == 1, done.returncode
    assert done.stderr == "lodge: standard output: cannot be written: No space left on device\n"


def as_nobody():
    """How to run a program without root's rights; nothing for who has none."""
    if os.geteuid():
        return {}
    os.chmod(".", 0o755)
    nobody = {"user": 65534, "group": 65534, "extra_groups": []}
    try:
        subprocess.run([LODGE, "--version"], stdout=subprocess.DEVNULL, check=True, **nobody)
    except PermissionError as reason:
        raise Skip("another user cannot run the program where it lies") from reason
    return nobody


@case
def no_root_needed():
    need_engine()
    write("disk", bytes(1 << 20))
    os.chmod("disk", 0o666)
    status, out, lines = run("run", "--debug-exit", "--disk", "disk", "--net", "user", "--kernel",
                             guest(say("hello\n") + outb(0xF4, 7) + FOREVER), **as_nobody())
    assert (status, out, lines) == (15, "hello\n", []), (status, out, lines)


@case
def no_right():
    need_engine()
    nobody = as_nobody()
    os.chmod(guest(), 0)
    expect_failure("lodge: kernel kernel: cannot be opened: Permission denied; give this user the "
                   "right to it, or another path", "run", "--kernel", "kernel", **nobody)
    os.chmod(write("disk", bytes(1 << 20)), 0o444)
    expect_failure("lodge: disk disk: permission denied; it must be readable and writable (or "
                   "given as readonly) for this user",
                   "run", "--kernel", guest(name="other"), "--disk", "disk", **nobody)
    status, _, lines = run("run", "--dry-run", "--kernel", "other", "--disk", "disk,readonly",
                           **nobody)
    assert (status, lines) == (0, []), lines


@case
def bad_disks():
    need_engine()
    status, _, lines = run("run", "--kernel", guest(), "--disk", "none")
    assert status == 1 and len(lines) == 1 and "none" in lines[0] and "no such file" in lines[0]
    expect_failure("lodge: disk .: is a directory; give a disk image or a block device",
                   "run", "--kernel", guest(), "--disk", ".")
    expect_failure("lodge: disk /dev/null: is neither a file nor a block device; give one",
                   "run", "--kernel", guest(), "--disk", "/dev/null")
    expect_failure("lodge: disk empty: is empty; give it a size first: truncate -s 10G FILE",
                   "run", "--kernel", guest(), "--disk", write("empty", b""))


@case
def disk_in_use():
    need_engine()
    write("disk", bytes(1 << 20))
    first = subprocess.Popen([LODGE, "run", "--kernel", guest(SPIN), "--disk", "disk", "--monitor",
                              "m"], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: os.path.exists("m"))
        status, _, lines = run("run", "--kernel", "kernel", "--disk", "disk")
        assert status == 1 and len(lines) == 1 and "disk" in lines[0], lines
        assert "use" in lines[0] or "lock" in lines[0], lines
    finally:
        first.terminate()
        assert first.wait(60) == 128 + signal.SIGTERM
    assert not os.path.exists("m")


@case
def bad_places():
    need_engine()
    expect_failure("lodge: console no/such/dir: cannot be opened: No such file or directory; "
                   "check the path",
                   "run", "--kernel", guest(), "--console", "no/such/dir")
    expect_failure("lodge: monitor no/such/dir: cannot listen: No such file or directory; "
                   "check the path",
                   "run", "--kernel", guest(), "--monitor", "no/such/dir")
    write("there", b"")
    expect_failure("lodge: monitor there: cannot listen: Address already in use; is it another "
                   "guest's? give another path", "run", "--kernel", guest(), "--monitor", "there")
    assert os.path.exists("there")
    expect_failure("lodge: vsock there: cannot listen: Address already in use; is it another "
                   "guest's? give another path", "run", "--kernel", guest(), "--vsock", "3,path=there")
    assert os.path.exists("there")


@case
def failed_start_leaves_no_console():
    need_engine()
    write("text", b"hello\n" * 1000)
    write("log", b"of yesterday\n")
    for name in ("new", "log"):
        status, _, _ = run("run", "--kernel", "text", "--console", name)
        assert status == 1, status
        status, _, lines = run("run", "--dry-run", "--kernel", guest(), "--console", name)
        assert status == 0, lines
    assert not os.path.exists("new")
    with open("log", encoding="ascii") as f:
        assert f.read() == "of yesterday\n"


@case
def dry_run():
    need_engine()
    write("disk", bytes(1 << 20))
    status, out, lines = run("run", "--kernel", guest(), "--disk", "disk,readonly", "--cpus", "2",
                             "--monitor", "m", "--dry-run", "--name", "x")
    assert (status, lines) == (0, []), lines
    assert out == ("guest x: 2 vCPUs, 512 MiB, 1 disk, 0 network cards, kernel kernel "
                   "(multiboot image)\n"), out
    assert not os.path.exists("m")


@case
def debug_exit():
    need_engine()
    status, out, lines = run("run", "--debug-exit", "--kernel",
                             guest(say("hello\n") + outb(0xF4, 7) + FOREVER))
    assert (status, out, lines) == (15, "hello\n", []), (status, out, lines)


@case
def reset_storm():
    need_engine()
    status, _, lines = run("run", "--kernel", guest(outb(0xCF9, 6) + FOREVER))
    assert status == 1, status
    assert lines == ["lodge: guest lodge: has reset itself 11 times in 10 seconds: is its kernel "
                     "or disk broken?"], lines


@case
def triple_fault():
    need_engine()
    status, _, lines = run("run", "--name", "x", "--kernel",
                           guest(say("last\x1b words\n") + b"\x0f\x0b"))
    assert status == 1, status
    assert lines[0] == "lodge: guest x: stopped", lines
    assert lines[1].startswith("vCPU 0 cannot go on: triple fault"), lines
    assert any(line.strip().startswith("rax ") for line in lines), lines
    assert any(line.startswith("  code") for line in lines), lines
    assert lines[-1] == "  | last? words", lines


@case
def ends_by_signal():
    need_engine()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        child = subprocess.Popen([LODGE, "run", "--kernel", guest(SPIN), "--monitor", "m"],
                                 stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: os.path.exists("m"))
        child.send_signal(number)
        assert child.wait(60) == 128 + number
        assert not os.path.exists("m")


@case
def killed_leaves_nothing():
    need_engine()
    child = subprocess.Popen([LODGE, "run", "--kernel", guest(SPIN), "--monitor", "m"],
                             stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: os.path.exists("m"))
    child.kill()
    child.wait(60)
    wait_until(lambda: not os.path.exists("m"))


@case
def monitor_quit():
    need_engine()
    child = subprocess.Popen([LODGE, "run", "--kernel", guest(SPIN), "--monitor", "m"],
                             stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: os.path.exists("m"))
    client = socket.socket(socket.AF_UNIX)
    client.connect("m")
    lines = client.makefile("rw")
    assert '"QMP"' in lines.readline()
    for command, want in (("qmp_capabilities", '"return"'), ("stop", '"STOP"'), (None, '"return"'),
                          ("query-status", '"paused"'), ("cont", '"RESUME"'), (None, '"return"'),
                          ("system_reset", '"RESET"'), (None, '"return"'),
                          ("quit", '"return"'), (None, '"host-qmp-quit"')):
        if command:
            lines.write('{"execute": "%s"}\n' % command)
            lines.flush()
        line = lines.readline()
        assert want in line, line
    assert child.wait(60) == 0


def on_terminal(*arguments):
    """A guest on a new terminal: pid, our end, the terminal's settings before."""
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    pid = os.fork()
    if pid == 0:
        os.setsid()
        for fd in (0, 1, 2):
            os.dup2(theirs, fd)
        os.execv(LODGE, [LODGE, *arguments])
    return pid, ours, theirs, before


def read_until(fd, want):
    seen = b""
    while want not in seen:
        assert select.select([fd], [], [], 60)[0], seen
        seen += os.read(fd, 4096)
    return seen


def wait_until(condition):
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("waited for a minute in vain")


@case
def terminal_is_restored():
    need_engine()
    for end in ("keys", signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGSEGV, signal.SIGKILL):
        pid, ours, theirs, before = on_terminal("run", "--kernel", guest(say("up\n") + SPIN))
        read_until(ours, b"up")
        assert termios.tcgetattr(theirs)[3] != before[3], "the terminal is not raw"
        if end == "keys":
            os.write(ours, b"\x01x")
        else:
            os.kill(pid, end)
        status = os.waitpid(pid, 0)[1]
        if end == "keys":
            assert os.waitstatus_to_exitcode(status) == 0, status
        wait_until(lambda: termios.tcgetattr(theirs) == before)
        os.close(ours)
        os.close(theirs)


@case
def console_on_a_pty():
    need_engine()
    child = subprocess.Popen([LODGE, "run", "--kernel", guest(say("up\n") + SPIN), "--console",
                              "pty"], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    path = ""
    while not path:
        line = child.stderr.readline()
        assert line, "it ended"
        if line.startswith("lodge: console on "):
            path = line.split()[-1]
    assert path.startswith("/dev/pts/"), path
    child.terminate()
    assert child.wait(60) == 128 + signal.SIGTERM
    child.stderr.close()


@case
def console_in_a_file():
    need_engine()
    status, out, _ = run("run", "--debug-exit", "--console", "log", "--kernel",
                         guest(say("in a file\n") + outb(0xF4, 0) + FOREVER))
    assert (status, out) == (1, "")
    with open("log", encoding="ascii") as f:
        assert f.read() == "in a file\n"


def main():
    failed = 0
    home = os.getcwd()
    for number, function in enumerate(cases, 1):
        name = function.__name__.replace("_", " ")
        directory = tempfile.mkdtemp(prefix="lodge-test.")
        os.chdir(directory)
        try:
            function()
            print(f"ok {number} {name}", flush=True)
        except Skip as reason:
            print(f"ok {number} {name} # SKIP {reason}", flush=True)
        except Exception as error:  # pylint: disable=broad-except
            failed += 1
            print(f"# {type(error).__name__}: {error}\nnot ok {number} {name}", flush=True)
        os.chdir(home)
        shutil.rmtree(directory)
    print(f"1..{len(cases)}")
    return failed != 0


LODGE = os.path.abspath(LODGE)
sys.exit(main())
