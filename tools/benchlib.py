# SPDX-License-Identifier: GPL-2.0-or-later
"""What the benchmarks share: commands of both, measured boots, tables, sections of a document."""
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
QEMU = "/usr/bin/qemu-system-x86_64"
MARKER = "lodge-guest: "
# A boot to the shell's first command, without disk and network.
CMDLINE = "console=ttyS0 quiet lodge.root=none lodge.do=off"
TCG = ("-M", "q35,memory-backend=ram", "-accel", "tcg", "-cpu", "max")


def lines_up(head, cells):
    """A Markdown table, in columns for who reads it as it is."""
    cells = [head] + cells
    widths = [max(len(line[i]) for line in cells) for i in range(len(head))]
    lines = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths)) + " |" for line in cells]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(lines)


def write_section(path, name, text):
    """Put text between the document's marks of that name; what stands elsewhere stays."""
    begin, end = f"<!-- {name}: written by make -->\n", f"<!-- {name}: end -->\n"
    with open(path, encoding="utf-8") as f:
        document = f.read()
    if begin not in document or end not in document:
        sys.exit(f"{path}: no section {name!r}")
    before, after = document.split(begin)[0], document.split(end)[1]
    with open(path, "w", encoding="utf-8") as f:
        f.write(before + begin + text.strip() + "\n" + end + after)


def parse_measure(line):
    first, marker, end, cpu, private, status = line.split()
    return {"first": float(first), "marker": float(marker), "exit": float(end), "cpu": float(cpu),
            "private": float(private) / 1024, "status": int(status)}


def measure(build, command, marker=MARKER, end=False):
    """Run a guest until it ends, or (end) until the marker comes; see bench/measure.c."""
    done = subprocess.run([f"{build}/bench/measure", *(["-k"] if end else []), marker] + command,
                          capture_output=True, text=True, check=True)
    result = parse_measure(done.stdout.strip().split("\n")[-1])
    if result["marker"] < 0:
        sys.exit(f"bench: the guest never came up: {' '.join(command)}\n{done.stderr}")
    return result


def lodge_guest(lodge, engine, kernel, initrd, cmdline, *extra, memory="512M"):
    return [lodge, "run", "--engine", engine, "--memory", memory, "--kernel", kernel, "--initrd", initrd,
            "--cmdline", cmdline, *extra]


def qemu_guest(qemu, machine, kernel, initrd, cmdline, *extra, memory="512M"):
    """The same guest in QEMU; RAM in a shared memfd, so that it does not count as private."""
    return [qemu, *machine, "-nodefaults", "-display", "none", "-no-reboot",
            "-m", memory, "-object", f"memory-backend-memfd,id=ram,size={memory},share=on",
            "-serial", "stdio", "-kernel", kernel, "-initrd", initrd, "-append", cmdline, *extra]


def lodge_command(lodge, files, engine, cmdline=CMDLINE, extra=("--net", "none")):
    return lodge_guest(lodge, engine, f"{files}/kernel/vmlinuz", f"{files}/initramfs", cmdline, *extra)


def qemu_command(files, machine, cmdline=CMDLINE):
    return qemu_guest(QEMU, machine, f"{files}/kernel/vmlinuz", f"{files}/initramfs", cmdline)
