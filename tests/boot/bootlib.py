# SPDX-License-Identifier: GPL-2.0-or-later
"""What the boot tests share: results in TAP, and a guest with its console."""
import os
import re
import select
import subprocess
import sys

COMPLAINT = r"BUG:|WARNING:|Call Trace|rcu.*stall|Kernel panic|clocksource.*unstable|self-?tests.*failed"

# Linux 6.1 breaks the balloon's queues at shutdown while free pages may still be reported: its own race.
OWN_RACE = r"WARNING:[^\n]*virtballoon_free_page_report[\s\S]*?---\[ end trace"


class Tap:
    def __init__(self):
        self.number = self.failed = 0

    def check(self, ok, name, detail="", todo=None):
        """`todo`: why it is known to fail; then it does not count."""
        self.number += 1
        self.failed += not ok and not todo
        print(f"{'ok' if ok else 'not ok'} {self.number} {name}" + (f" # TODO {todo}" if todo and not ok else ""))
        if not ok and detail and not todo:
            print("\n".join("# " + line for line in detail.strip().split("\n")[-40:]))
        sys.stdout.flush()

    def no_complaint(self, out, what="the kernel has no complaint"):
        out = re.sub(OWN_RACE, "", out)
        found = re.search(COMPLAINT, out)
        self.check(not found, what, out[max(0, found.start() - 1000):found.end() + 2000] if found else "")

    def end(self):
        print(f"1..{self.number}")
        return 1 if self.failed else 0


def skip(reason):
    print(f"1..0 # SKIP {reason}")
    sys.exit(0)


class Dead(Exception):
    """The guest, or its kernel, has ended before the text came that was waited for."""


class Guest:
    """`lodge run` with the console on pipes. out: all that came so far; patience: seconds of silence
    after which it is taken for dead, None: wait for ever."""

    def __init__(self, lodge, *options, memory="512M", patience=None):
        self.out = ""
        self.patience = patience
        self.seen = 0
        self.commands = 0
        self.process = subprocess.Popen([lodge, "run", "--memory", memory, *options], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def more(self):
        if not select.select([self.process.stdout], [], [], self.patience)[0]:
            raise Dead(f"silent for {self.patience} s")
        data = os.read(self.process.stdout.fileno(), 65536)
        self.out += data.decode(errors="replace")
        return bool(data)

    def until(self, text):
        """What came up to `text` since the last call."""
        while (at := self.out.find(text, self.seen)) < 0:
            if "Kernel panic" in self.out or not self.more():
                raise Dead(f"no {text!r}")
        start, self.seen = self.seen, at + len(text)
        return self.out[start:at]

    def send(self, line):
        self.process.stdin.write(line.encode() + b"\r")
        self.process.stdin.flush()

    def run(self, command):
        """A command on the guest's shell: its status and output."""
        self.commands += 1
        mark = f"mark-{self.commands}-"
        # The echo of the line itself must not look like the answer.
        self.send(f"echo mar''k-{self.commands}-begin; {command}; echo mar''k-{self.commands}-$?.")
        self.until(f"{mark}begin")
        out = self.until(mark)
        return int(self.until(".")), out.replace("\r", "").strip()

    def end(self):
        """The rest of the output; its exit status."""
        while self.more():
            if "Kernel panic" in self.out:
                raise Dead("panic")
        return self.process.wait()
