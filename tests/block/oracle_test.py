#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""qcow2 against QEMU's own code. TAP.

usage: oracle_test.py LODGE IMAGEDRV [SEED]

Random operations by our code and by qemu-io take turns on one image, with a model of its content.
After each turn the image is clean for `qemu-img check` and for our check, and both read from it what
the model has. Then each command of `lodge image` against qemu-img's.
"""
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile

LODGE, DRIVER = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
SEED = int(sys.argv[3]) if len(sys.argv) > 3 else 1
LONG = bool(os.environ.get("LODGE_LONG"))
SECTOR = 512

SHAPES = [
    # options, size, backing
    ("compat=0.10,cluster_size=4k", 300 << 10, None),
    ("compat=0.10", 3 << 20, "raw"),
    ("cluster_size=512", 100 << 10, None),
    ("cluster_size=512,refcount_bits=1", 60 << 10, "qcow2"),
    ("cluster_size=1k,refcount_bits=2", 100 << 10, None),
    ("cluster_size=2k,refcount_bits=4", 100 << 10, "raw"),
    ("cluster_size=4k,refcount_bits=8", 300 << 10, None),
    ("cluster_size=8k,refcount_bits=32,lazy_refcounts=on", 500 << 10, "qcow2"),
    ("cluster_size=16k,refcount_bits=64", 1 << 20, None),
    ("cluster_size=32k", 2 << 20, "raw"),
    ("cluster_size=64k", 4 << 20, "qcow2"),
    ("cluster_size=256k", 9 << 20, None),
    ("cluster_size=2M", 20 << 20, "raw"),
    ("cluster_size=64k,compression_type=zstd", 2 << 20, None),
    ("cluster_size=16k,extended_l2=on", 1 << 20, None),
    ("cluster_size=64k,extended_l2=on", 4 << 20, "raw"),
    ("cluster_size=128k,extended_l2=on,compression_type=zstd", 4 << 20, "qcow2"),
]


def call(*command, status=0):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
                          check=False)
    assert done.returncode == status, (command, done.returncode, done.stdout[-800:], done.stderr[-800:])
    return done.stdout


def image(*arguments, status=0):
    return call(LODGE, "image", *arguments, status=status)


def parse_size(text):
    units = {"k": 10, "M": 20}
    return int(text[:-1]) << units[text[-1]] if text[-1] in units else int(text)


class Disk:
    """An image and what it must hold."""

    def __init__(self, options, size, backing, ours, rng):
        self.rng, self.size, self.backing = rng, size, backing
        self.options = dict(word.split("=") for word in options.split(","))
        self.cluster = parse_size(self.options.get("cluster_size", "64k"))
        self.v2 = self.options.get("compat") == "0.10"
        self.model = bytearray(size)
        self.snapshots = {}
        chain = []
        if backing:
            self.make_backing(backing)
            chain = ["-b", "back", "-F", backing]
        if ours:
            image("create", "-f", "qcow2", "-o", options, *chain, "disk", str(size))
        else:
            call("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, *chain, "disk", str(size))

    def make_backing(self, form):
        half = self.size // 2 // SECTOR * SECTOR
        content = bytes(self.rng.randrange(1, 250) for _ in range(half // SECTOR))
        content = b"".join(bytes([byte]) * SECTOR for byte in content)
        with open("back.raw", "wb") as f:
            f.write(content)
        if form == "raw":
            os.replace("back.raw", "back")
        else:
            call("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "back.raw", "back")
        self.model[:half] = content

    def chain(self):
        return ["--backing", "back", "--backing-format", self.backing] if self.backing else []

    def range(self):
        sectors = self.size // SECTOR
        first = self.rng.randrange(sectors)
        count = min(1 + self.rng.randrange(self.cluster // SECTOR * 3 + 2), sectors - first)
        return first * SECTOR, count * SECTOR

    def fill(self, at, length, byte):
        self.model[at:at + length] = bytes([byte]) * length

    def whole_clusters(self, at, length):
        start = -(-at // self.cluster) * self.cluster
        end = at + length if at + length == self.size else (at + length) // self.cluster * self.cluster
        return start, max(start, end)

    def discard(self, at, length):
        if not (self.v2 and self.backing):
            start, end = self.whole_clusters(at, length)
            self.fill(start, end - start, 0)

    def our_turn(self):
        ops = []
        for _ in range(self.rng.randrange(3, 12)):
            kind = self.rng.choice("wwwwwccczzzddfsaxr")
            at, length = self.range()
            byte = self.rng.randrange(256)
            if kind == "w":
                ops.append(f"w:{at}:{length}:{byte}")
                self.fill(at, length, byte)
            elif kind == "c":
                at = at // self.cluster * self.cluster
                length = min(self.cluster, self.size - at)
                ops.append(f"c:{at}:{length}:{byte}")
                self.fill(at, length, byte)
            elif kind == "z":
                ops.append(f"z:{at}:{length}:{self.rng.randrange(2)}")
                self.fill(at, length, 0)
            elif kind == "d":
                ops.append(f"d:{at}:{length}")
                self.discard(at, length)
            elif kind == "f":
                ops.append("f")
            else:
                ops += self.special(kind)
        chain = ["back", self.backing] if self.backing else []
        call(DRIVER, "disk", *chain, "--", *ops)

    def special(self, kind):
        narrow = self.options.get("refcount_bits") in ("1", "2", "4")
        if kind == "s" and len(self.snapshots) < 3 and not narrow:
            name = f"n{self.rng.randrange(10 ** 9)}"
            self.snapshots[name] = bytes(self.model)
            return [f"s:{name}"]
        if kind in "ax" and self.snapshots:
            name = self.rng.choice(sorted(self.snapshots))
            if kind == "a":
                self.model = bytearray(self.snapshots[name])
                self.size = len(self.model)
            else:
                del self.snapshots[name]
            return [f"{kind}:{name}"]
        if kind == "r" and not (self.v2 and (self.snapshots or self.backing)):
            size = self.rng.randrange(16, len(self.model) // SECTOR * 5 // 4) * SECTOR
            self.model = self.model[:size] + bytearray(max(0, size - self.size))
            self.size = size
            return [f"r:{size}"]
        return []

    def their_turn(self):
        commands = []
        for _ in range(self.rng.randrange(3, 10)):
            kind = self.rng.choice(["write", "write", "zero", "discard", "flush", "packed"])
            at, length = self.range()
            byte = self.rng.randrange(256)
            if kind == "write":
                commands.append(f"write -q -P {byte} {at} {length}")
                self.fill(at, length, byte)
            elif kind == "zero":
                commands.append(f"write -q -z {self.rng.choice(['', '-u '])}{at} {length}")
                self.fill(at, length, 0)
            elif kind == "discard":
                # qemu-io's discards reach all that they touch whole; keep to clusters.
                start, end = self.whole_clusters(at, length)
                if end > start and not (self.v2 and self.backing):
                    commands.append(f"discard -q {start} {end - start}")
                    self.fill(start, end - start, 0)
            elif kind == "flush":
                commands.append("flush")
        arguments = [word for c in commands for word in ("-c", c)]
        if arguments:
            call("qemu-io", "-f", "qcow2", "-d", "unmap", *arguments, "disk")
        if self.rng.randrange(3) == 0 and self.options.get("refcount_bits") not in ("1", "2", "4"):
            self.their_snapshot()

    def their_snapshot(self):
        kind = self.rng.choice("cad")
        if kind == "c" and len(self.snapshots) < 3:
            name = f"t{self.rng.randrange(10 ** 9)}"
            self.snapshots[name] = bytes(self.model)
        elif kind in "ad" and self.snapshots:
            name = self.rng.choice(sorted(self.snapshots))
            if len(self.snapshots[name]) != self.size and kind == "a":
                return
            if kind == "a":
                self.model = bytearray(self.snapshots[name])
            else:
                del self.snapshots[name]
        else:
            return
        call("qemu-img", "snapshot", f"-{kind}", name, "disk")

    def check(self):
        call("qemu-img", "check", "-q", "-f", "qcow2", "disk")
        image("check", "-q", "-f", "qcow2", "disk")
        call("qemu-img", "convert", "-f", "qcow2", "-O", "raw", "disk", "theirs")
        image("convert", "-q", "-f", "qcow2", "-O", "raw", *self.chain(), "disk", "ours")
        for name in "theirs", "ours":
            with open(name, "rb") as f:
                content = f.read()
            if content != self.model:
                at = next((n for n in range(min(len(content), len(self.model)))
                           if content[n] != self.model[n]), -1)
                raise AssertionError(f"{name}: {len(content)} bytes, differs at {at}")
        for name, want in self.snapshots.items():
            image("convert", "-q", "-f", "qcow2", "-O", "raw", *self.chain(), "-l", name, "disk", "ours")
            with open("ours", "rb") as f:
                assert f.read() == want, f"snapshot {name}"


def turns(options, size, backing, seed):
    rng = random.Random(seed)
    disk = Disk(options, size, backing, rng.randrange(2), rng)
    for turn in range(12 if LONG else 6):
        if turn % 2 == seed % 2:
            disk.our_turn()
        else:
            disk.their_turn()
        disk.check()


# --- the commands ------------------------------------------------------------------------------------


def sample(name="sample.raw", size=6 << 20):
    rng = random.Random(7)
    with open(name, "wb") as f:
        f.truncate(size)
        for _ in range(40):
            f.seek(rng.randrange(size // 4096) * 4096)
            f.write(bytes([rng.randrange(256)]) * rng.choice([512, 4096, 70000]))
        f.truncate(size)
    return name


def same(form, name, other="sample.raw"):
    call("qemu-img", "compare", "-q", "-f", form, "-F", "raw", name, other)


def info():
    image("create", "-f", "qcow2", "-o", "cluster_size=128k,compat=1.1", "i", "10G")
    ours = json.loads(image("info", "-f", "qcow2", "--format", "json", "i"))
    theirs = json.loads(call("qemu-img", "info", "--output=json", "i"))
    for key in "virtual-size", "format", "cluster-size", "actual-size", "dirty-flag":
        assert ours[key] == theirs[key], (key, ours, theirs)
    for key in "compat", "lazy-refcounts", "refcount-bits", "corrupt", "extended-l2", "compression-type":
        assert ours["format-specific"]["data"][key] == theirs["format-specific"]["data"][key], key
    assert "virtual size: 10 GiB" in image("info", "-f", "qcow2", "i")


def map_():
    sample()
    call("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "sample.raw", "back")
    call("qemu-img", "create", "-q", "-f", "qcow2", "-b", "back", "-F", "qcow2", "m")
    call("qemu-io", "-c", "write -q -P 1 100k 300k", "-c", "write -q -z 1M 512k", "m")
    ours = json.loads(image("map", "-f", "qcow2", "--backing", "header", "--format", "json", "m"))
    theirs = json.loads(call("qemu-img", "map", "--output=json", "m"))
    assert ours == [{k: v for k, v in row.items() if k in ours[0] or k == "offset"} for row in theirs], \
        (ours, theirs)


def convert():
    sample()
    for options in ("compat=0.10", "cluster_size=4k", "compression_type=zstd", "preallocation=metadata",
                    "preallocation=full", "extended_l2=on", "preallocation=falloc,cluster_size=2M"):
        for compress in [[], ["-c"]]:
            if compress and "preallocation" in options:
                continue
            image("convert", "-f", "raw", "-O", "qcow2", *compress, "-o", options, "sample.raw", "c")
            call("qemu-img", "check", "-q", "-f", "qcow2", "c")
            same("qcow2", "c")
            image("convert", "-f", "qcow2", "-O", "raw", "c", "back.raw")
            same("raw", "back.raw")
            image("compare", "-q", "-f", "qcow2", "-F", "raw", "c", "sample.raw")
    for options in ["-c"], ["-c", "-o", "compression_type=zstd"]:
        call("qemu-img", "convert", "-f", "raw", "-O", "qcow2", *options, "sample.raw", "theirs")
        image("compare", "-q", "-f", "qcow2", "-F", "raw", "theirs", "sample.raw")
    call("qemu-io", "-f", "qcow2", "-c", "write -q -P 9 5M 1k", "c")
    assert "differ" in image("compare", "-f", "qcow2", "-F", "raw", "c", "sample.raw", status=1)
    assert not [f for f in os.listdir(".") if ".part." in f]


def interrupted():
    """Ctrl-C leaves nothing."""
    with open("large", "wb") as f:
        f.truncate(8 << 30)
        for n in range(400):
            f.seek(n << 24)
            f.write(os.urandom(1 << 16))
    for _ in range(10):  # until one is caught before it is done
        p = subprocess.Popen([LODGE, "image", "convert", "-f", "raw", "-O", "qcow2", "-c", "large", "out"],
                             stderr=subprocess.DEVNULL)
        while not [f for f in os.listdir(".") if ".part." in f] and p.poll() is None:
            pass
        p.send_signal(2)
        p.wait(60)
        if p.returncode == 130:
            break
        assert p.returncode == 0, p.returncode
        os.unlink("out")
    assert p.returncode == 130, p.returncode
    assert sorted(os.listdir(".")) == ["large"], os.listdir(".")


def resize():
    image("create", "-f", "qcow2", "r", "1M")
    call("qemu-io", "-c", "write -q -P 3 0 1M", "r")
    image("resize", "-f", "qcow2", "r", "512K", status=1)
    image("resize", "-f", "qcow2", "--shrink", "r", "512K")
    image("resize", "-f", "qcow2", "r", "+100G")
    call("qemu-img", "check", "-q", "r")
    call("qemu-io", "-c", "read -q -P 3 0 512k", "-c", "read -q -P 0 512k 10M", "r")
    image("resize", "-f", "qcow2", "--preallocation", "metadata", "r", "+64M")
    call("qemu-img", "check", "-q", "r")


def commit_rebase():
    sample()
    for form in "raw", "qcow2":
        call("qemu-img", "convert", "-f", "raw", "-O", form, "sample.raw", "base")
        image("create", "-f", "qcow2", "-b", "base", "-F", form, "top")
        call("qemu-io", "-c", "write -q -P 7 1M 100k", "-c", "write -q -z 3M 1M", "top")
        call("qemu-img", "convert", "-O", "raw", "top", "want")
        image("convert", "-f", "qcow2", "-O", "qcow2", "--backing", "base", "--backing-format", form, "top",
              "flat")
        same("qcow2", "flat", "want")
        call("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "sample.raw", "other")
        call("qemu-io", "-c", "write -q -P 8 2M 2M", "other")
        shutil.copy("top", "moved")
        image("rebase", "-f", "qcow2", "--chain", "header", "-b", "other", "-F", "qcow2", "moved")
        call("qemu-img", "check", "-q", "moved")
        same("qcow2", "moved", "want")
        image("rebase", "-f", "qcow2", "--chain", "header", "-b", "", "moved")
        assert "backing" not in call("qemu-img", "info", "moved")
        same("qcow2", "moved", "want")
        image("commit", "-f", "qcow2", "--backing", "base", "--backing-format", form, "top")
        same(form, "base", "want")
        same("qcow2", "top", "want")
        call("qemu-img", "check", "-q", "top")


def data_file():
    for raw in "off", "on":
        sample()
        image("convert", "-f", "raw", "-O", "qcow2", "-o", f"data_file=data,data_file_raw={raw}", "sample.raw",
              "d")
        call("qemu-img", "check", "-q", "d")
        same("qcow2", "d")
        if raw == "on":
            same("raw", "data")
        image("compare", "-f", "qcow2", "-F", "raw", "--data-file", "data", "d", "sample.raw")


def refusals():
    call("qemu-img", "create", "-q", "-f", "qcow2", "l", "1M")
    with open("l", "r+b") as f:
        f.seek(32)
        f.write(bytes([0, 0, 0, 2]))
    done = subprocess.run([LODGE, "image", "info", "-f", "qcow2", "l"], capture_output=True, text=True,
                          check=False)
    assert done.returncode == 1 and "LUKS encryption is not supported" in done.stderr, done.stderr
    call("qemu-img", "create", "-q", "-f", "qcow2", "b", "1M")
    call("qemu-img", "bitmap", "--add", "b", "mark")
    call(DRIVER, "b", "--", "f", status=1)
    image("check", "-f", "qcow2", "b")
    call("qemu-img", "bitmap", "--disable", "b", "mark")
    call(DRIVER, "b", "--", "w:0:512:1")
    assert "mark" in call("qemu-img", "info", "b")
    call("qemu-img", "check", "-q", "b")
    call("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", "pool", "-F", "qcow2", "loop", "1M")
    call("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", "loop", "-F", "qcow2", "pool", "1M")
    done = subprocess.run([LODGE, "image", "map", "-f", "qcow2", "--backing", "header", "loop"],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "comes back" in done.stderr, done.stderr


def repair():
    sample()
    image("convert", "-f", "raw", "-O", "qcow2", "-o", "cluster_size=4k", "sample.raw", "x")
    with open("x", "r+b") as f:
        f.seek(4096 * 2)
        f.write(bytes(200))
        f.seek(4096 * 2 + 300 * 2)
        f.write(b"\0\7")
    image("check", "-q", "-f", "qcow2", "x", status=1)
    image("check", "-q", "-f", "qcow2", "--repair", "x")
    call("qemu-img", "check", "-q", "x")
    same("qcow2", "x")


def killed():
    """kill -9 at any moment: what was flushed is there, nothing is worse than leaked."""
    rng = random.Random(SEED)
    for number in range(40 if LONG else 12):
        options = rng.choice(["cluster_size=512", "cluster_size=4k", "cluster_size=64k", "compat=0.10"])
        image("create", "-f", "qcow2", "-o", options, "k", "1M")
        ops, snapshots = [], 0
        for _ in range(3000):
            at = rng.randrange(2040)
            kind = rng.choice("wwwwwwwwwf")
            ops.append("f" if kind == "f" else f"w:{at * SECTOR}:{SECTOR}:{at % 251 + 1}")
            if rng.randrange(300) == 0:
                ops.append(f"s:{snapshots}")
                snapshots += 1
        p = subprocess.Popen([DRIVER, "k", "--", *ops], stdout=subprocess.PIPE, text=True)
        for _ in range(rng.randrange(40)):
            p.stdout.readline()
        p.kill()
        lines = p.communicate()[0].split()
        done = int(lines[-1]) - 3 if lines else 0
        status = subprocess.run([LODGE, "image", "check", "-q", "-f", "qcow2", "k"], check=False).returncode
        assert status in (0, 3), f"round {number}: check says {status}"
        image("convert", "-q", "-f", "qcow2", "-O", "raw", "k", "raw")
        with open("raw", "rb") as f:
            content = f.read()
        must = {int(op.split(":")[1]) for op in ops[:done] if op[0] == "w"}
        for at in range(0, len(content), SECTOR):
            byte = at // SECTOR % 251 + 1
            sector = content[at:at + SECTOR]
            assert sector == bytes([byte]) * SECTOR or (at not in must and sector == bytes(SECTOR)), \
                f"round {number}: sector {at // SECTOR} is lost"
        image("check", "-q", "-f", "qcow2", "--repair", "k")
        call("qemu-img", "check", "-q", "k")


def usage():
    for words, says in [(["fly"], "no such command"), (["info", "x"], "-f is missing"),
                        (["create", "-f", "vmdk", "x", "1G"], "no such format"),
                        (["create", "x"], "its size is missing"),
                        (["create", "x", "1X"], "not a size"),
                        (["create", "-f", "qcow2", "-b", "y", "x", "1G"], "format is not stated"),
                        (["convert", "-f", "raw", "a", "b"], "-O is missing"),
                        (["info", "-f", "raw", "--speed", "x"], "no such option")]:
        done = subprocess.run([LODGE, "image", *words], capture_output=True, text=True, check=False)
        assert done.returncode == 2 and says in done.stderr, (words, done)


def main():
    if not shutil.which("qemu-io"):
        print("1..0 # SKIP qemu-utils is not installed")
        return 0
    cases = [(f"turns: {o}{', ' + b if b else ''}", lambda o=o, s=s, b=b: turns(o, s, b, SEED))
             for n, (o, s, b) in enumerate(SHAPES)]
    cases += [(f.__name__, f) for f in (info, map_, convert, interrupted, resize, commit_rebase, data_file,
                                        refusals, repair, killed, usage)]
    failed = 0
    print(f"1..{len(cases)}")
    for number, (name, case) in enumerate(cases, 1):
        with tempfile.TemporaryDirectory(prefix="lodge-oracle-", dir="/var/tmp") as work:
            os.chdir(work)
            try:
                case()
                print(f"ok {number} {name}", flush=True)
            except (AssertionError, subprocess.TimeoutExpired) as error:
                failed += 1
                print(f"# {error}\nnot ok {number} {name}", flush=True)
            os.chdir("/")
    return failed != 0


sys.exit(main())
