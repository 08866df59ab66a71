#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests that check themselves, on Debian's generic kernel: the kernel's self-tests that Debian
ships as modules, code that the kernel patches while it runs, stress-ng --verify, V8 and a JVM;
results in TAP.

usage: workloads_test.py LODGE TOOLS FILES ENGINE CPUS GROUP…
Groups: short, kernel, stress, node, java; or points by "GROUP:PART OF A NAME"
"""
import os
import re
import subprocess
import sys

from bootlib import COMPLAINT, Dead, Guest, Tap, skip

PATIENCE_S = 900

# --- the kernel's own tests ----------------------------------------------------------------------

# What a broken algorithm says.
BAD_CRYPTO = r"alg: .*(?:test failed|wrong result|self-tests for|corrupted|overran|inconsistent).*"
# tcrypt asks for all that there is; this kernel has not all (ENOENT).
UNKNOWN_CRYPTO = r"alg: self-tests for .* failed \(rc=-2\)"


def new_log(guest, command):
    """A command's status, and what the kernel logged meanwhile."""
    guest.run("dmesg -C")
    status, out = guest.run(command)
    log = re.sub(UNKNOWN_CRYPTO, "", guest.run("dmesg -t")[1])
    return status, out + "\n" + log


def no_trouble(out):
    """Has the kernel no complaint in what new_log() gave?"""
    return not re.search(COMPLAINT, out)


def crypto(tap, guest):
    """Loading an algorithm makes the kernel compare it with known answers and with its plain C sibling."""
    status, out = new_log(guest, "cd /usr/lib/modules/*/kernel && for m in $(find arch/x86/crypto crypto lib/crypto "
                          "-name '*.ko' ! -name tcrypt.ko | sort); do m=${m##*/}; modprobe ${m%.ko} || "
                          "echo left out: $m; done; cd /tmp")
    tap.check(no_trouble(out) and not re.search(BAD_CRYPTO, out), "the crypto modules' self-tests pass", out)
    # It never stays loaded: EAGAIN is its way to say that it is through.
    status, out = new_log(guest, "modprobe tcrypt mode=0 2>&1")
    tap.check(no_trouble(out) and not re.search(BAD_CRYPTO, out), "tcrypt finds nothing wrong", out)
    # Those that are known to the kernel's tests; it calls others "unknown" until they are used.
    status, out = guest.run("grep -c 'selftest *: passed' /proc/crypto; grep -B 5 -A 1 'selftest *: [^p]' /proc/crypto")
    passed = int(out.split("\n")[0])
    simd = guest.run("grep -cE '^driver.*(aesni|avx|ssse3|sse2|simd|clmul|ni$|asm|intel)' /proc/crypto")[1]
    tap.check(passed >= 150 and int(simd) >= 50 and status == 1,
              f"all algorithms are tested: {passed}, with x86's own: {simd}", out)


def bpf(tap, guest, jit):
    guest.run(f"sysctl -q net.core.bpf_jit_enable={jit}")
    status, out = new_log(guest, "modprobe test_bpf; s=$?; modprobe -r test_bpf; (exit $s)")
    sums = [tuple(map(int, found)) for found in re.findall(r"Summary: (\d+) PASSED, (\d+) FAILED", out)]
    jitted = re.search(r"\[(\d+)/\d+ JIT'ed\]", out)
    tap.check(status == 0 and len(sums) == 3 and sum(s[0] for s in sums) > 1000 and not any(s[1] for s in sums) and
              (int(jitted.group(1)) > 900) == bool(jit),
              f"test_bpf {'with' if jit else 'without'} the kernel's JIT: {sums}",
              "\n".join(line for line in out.split("\n") if "PASS" not in line or "Summary" in line))


def bpf_jit(tap, guest):
    bpf(tap, guest, 1)


def bpf_interpreted(tap, guest):
    bpf(tap, guest, 0)


def user_copy(tap, guest):
    status, out = new_log(guest, "modprobe test_user_copy && modprobe -r test_user_copy")
    tap.check(status == 0 and "tests passed" in out, "test_user_copy passes", out)


def static_keys(tap, guest):
    status, out = new_log(guest, "for i in $(seq 20); do modprobe test_static_keys || exit 1; "
                          "modprobe -r test_static_keys test_static_key_base || exit 1; done")
    tap.check(status == 0 and no_trouble(out), "test_static_keys passes", out)


def raid6(tap, guest):
    """They measure their ways, and choose; the results of all are compared by async_raid6_recov's users."""
    status, out = new_log(guest, "modprobe -a raid6_pq xor async_raid6_recov async_pq")
    tap.check(status == 0 and "raid6: using algorithm" in out and "xor: automatically using" in out,
              "raid6 and xor measure their algorithms", out)


# --- code that the kernel patches while it runs ----------------------------------------------------

BUSY = "(for i in $(seq {}); do seq 200 | sort -R | sort -n | md5sum; done | uniq -c >/tmp/busy.$k)"


def while_busy(patch, rounds=40):
    """Two processes work in the kernel while `patch` changes it."""
    return ("rm -f /tmp/busy.*; for k in 1 2; do " + BUSY.format(rounds) + " & done; " + patch +
            "; s=$?; wait; cat /tmp/busy.* | sort | uniq -c; (exit $s)")


def busy_agrees(out, rounds=40):
    """Both loops saw one and the same sum."""
    return re.search(rf"^ *2 +{rounds} [0-9a-f]{{32}} +-$", out, re.M) is not None


def ftrace(tap, guest):
    status, out = new_log(guest, "cd /sys/kernel/tracing; " + while_busy(
        "for i in 1 2 3 4 5 6; do echo function >current_tracer; echo nop >current_tracer; "
        "echo function_graph >current_tracer; echo nop >current_tracer; done") + "; cd /tmp")
    tap.check(status == 0 and busy_agrees(out) and no_trouble(out),
              "the function tracers come and go while programs run", out)
    status, out = guest.run("cd /sys/kernel/tracing; echo 0 >tracing_on; echo function >current_tracer; "
                            "echo 1 >tracing_on; cat /proc/meminfo >/dev/null; echo 0 >tracing_on; "
                            "grep -c 'seq_read\\|vfs_read' trace; echo nop >current_tracer; echo 1 >tracing_on; "
                            "cd /tmp")
    tap.check(out.isdigit() and int(out) > 1, "and see the functions", out)


def events(tap, guest):
    status, out = new_log(guest, "cd /sys/kernel/tracing; " + while_busy(
        "for i in 1 2 3; do echo 1 >events/enable; echo 0 >events/enable; done") + "; echo >trace; cd /tmp")
    tap.check(status == 0 and busy_agrees(out) and no_trouble(out),
              "all trace points are switched while programs run", out)


def kprobes(tap, guest, times=15):
    status, out = new_log(guest, "cd /sys/kernel/tracing; echo 'p:a vfs_read' >kprobe_events; "
                          "echo 'r:b vfs_write' >>kprobe_events; echo 'p:c do_sys_openat2+5' >>kprobe_events; " +
                          while_busy(f"for i in $(seq {times}); do echo 1 >events/kprobes/enable; "
                                     "cat /proc/version >/dev/null; echo 0 >events/kprobes/enable; done") +
                          "; for e in a b c; do grep -c \" $e: \" trace; done; echo >kprobe_events; cd /tmp")
    hits = [int(n) for n in re.findall(r"^(\d+)$", out, re.M)]
    tap.check(busy_agrees(out) and no_trouble(out) and len(hits) == 3 and all(hits),
              f"kprobes come and go while programs run: {hits}", out)


KERNEL = {
    "raid6": raid6,  # before crypto, which loads it
    "test_bpf with": bpf_jit, "test_bpf without": bpf_interpreted, "test_user_copy": user_copy,
    "test_static_keys": static_keys, "crypto": crypto, "ftrace": ftrace, "events": events,
    "kprobes": kprobes,
}

# --- stress-ng -----------------------------------------------------------------------------------

STRESS = {
    "arithmetic": "cpu",
    "vectors and matrices": "matrix,matrix-3d,vecmath,vecfp,vecshuf,vecwide,fp,sparsematrix,rotate,regs,nop",
    "strings and bytes": "str,wcs,memcpy,memrate,hash,crypt,jpeg,zlib,bitonic",
    "sorting and searching": "qsort,heapsort,mergesort,radixsort,shellsort,bsearch,hsearch,lsearch,tsearch,tree,judy,"
                             "skiplist,list,randlist",
    "branches and calls": "branch,far-branch,funccall,funcret,goto,longjmp,icache,opcode,dynlib,context,stack,null",
    "caches": "cache,cacheline,l1cache,llc-affinity,flushcache,prefetch,memthrash,stream,tlb-shootdown,lockbus,"
              "misaligned",
    "atomics and locks": "atomic,mutex,futex,dekker,peterson,membarrier,rseq,syncload,waitcpu,locka,sem,sem-sysv",
    "processor": "x86cpuid,x86syscall,rdrand,tsc,vdso,getrandom,priv-instr,usersyscall,fp-error,get,enosys",
    "memory": "vm,vm-addr,vm-rw,vm-segv,vm-splice,mmap,mmapaddr,mmapfixed,mmapfork,mmapmany,mremap,munmap,mprotect,"
              "madvise,mincore,msync,stackmmap,bad-altstack,brk,fault,pkey,userfaultfd,memfd,shm,shm-sysv,remap,"
              "rmap,pagemove,secretmem,mlock,zero",
    "signals": "signal,sigabrt,sigchld,sigfd,sigfpe,sigio,signest,sigpending,sigpipe,sigq,sigrt,sigsegv,sigsuspend,"
               "sigtrap,kill,itimer,timer,timerfd,clock,alarm",
    "processes": "fork,vfork,vforkmany,clone,exec,spawn,daemon,zombie,exit-group,wait,pthread,ptrace,session,switch,"
                 "yield,resched,nanosleep,race-sched,affinity",
    "channels": "pipe,pipeherd,fifo,mq,msg,eventfd,epoll,poll,sockpair,splice,tee,sendfile,ring-pipe",
    "system calls": "syscall,sysinfo,sysbadaddr,prctl,personality,seccomp,kcmp,uprobe,key,af-alg,urandom",
}


def stress_point(name, stressors, seconds=2):
    """Statuses 3 and 4 say that this kernel has not what a test is about."""
    def run(tap, guest):
        known = guest.run("stress-ng --stressors")[1].split()
        wanted = [s for s in stressors.split(",") if s in known]
        options = "--cpu-method all -t " + str(10 * seconds) if wanted == ["cpu"] else f"-t {seconds}"
        status, out = new_log(
            guest, "mkdir -p /tmp/stress; bad=; for s in " + " ".join(wanted) + "; do " +
            f"stress-ng --$s 2 {options} --verify --temp-path /tmp/stress >/tmp/stress.log 2>&1; s=$s:$?; "
            "grep -q 'stress-ng: fail' /tmp/stress.log && s=$s:fail; "
            "case $s in *:[034]) ;; *) bad=\"$bad $s\"; cat /tmp/stress.log;; esac; done; "
            "echo; echo bad: $bad; [ -z \"$bad\" ]")
        logged = re.search("segfault|general protection", re.sub(EXPECTED_FAULTS, "", out))
        tap.check(status == 0 and not logged and no_trouble(out), f"stress-ng: {name}: {len(wanted)} of its tests", out)
    return run


# Stressors whose business it is to fault.
EXPECTED_FAULTS = (r"stress-ng-(opcode|far-br|vm-seg|sigseg|priv-i|bad-al|sysbad|stack|fp-err|x86sys|rdrand|"
                   r"sigtra|null)[^\n]*")

# --- programs that compile themselves --------------------------------------------------------------


class Wanted:
    """What the programs say natively, by their parts."""

    def __init__(self, files):
        self.said = {}
        for name in ("node", "java"):
            with open(f"{files}/workloads/want/{name}", encoding="ascii") as f:
                self.said[name] = f.read().strip().split("\n")

    def lines(self, name, parts):
        return [line for line in self.said[name] if not parts or line.split()[0] in parts]


def program_point(wanted, program, flags, parts=()):
    command = {"node": f"node {flags} /work/work.mjs", "java": f"java -cp /work {flags} Work"}[program]

    def run(tap, guest):
        status, out = guest.run(f"{command} {' '.join(parts)} 2>&1")
        lines = [line for line in out.split("\n") if not line.startswith("Warning: ")]
        want = wanted.lines(program, parts)
        tap.check(status == 0 and sorted(lines) == sorted(want),
                  f"{program} {flags}: {' '.join(parts) or 'everything'}",
                  f"status {status}\n{out}\nwanted:\n" + "\n".join(want))
    return run


# V8's stress options make some parts very slow on any machine: those are left out.
MOST = ("integers", "doubles", "shapes", "generators", "patterns", "json", "collections", "functions")
SOME = ("shapes", "generators", "patterns", "collections", "functions", "wasm")
NODE = (
    ("", ()),
    ("--always-opt", MOST + ("bigints", "promises", "wasm")),
    ("--always-sparkplug", ()),
    ("--jitless", ("integers", "shapes", "generators", "patterns", "json")),
    ("--write-protect-code-memory", ("functions", "wasm", "shapes", "threads")),
    ("--deopt-every-n-times=200", SOME),
    ("--interrupt-budget=1000 --stress-inline", MOST),
    ("--gc-interval=3000 --stress-compaction", ("shapes", "promises", "functions", "wasm")),
    ("--stress-flush-code --stress-incremental-marking", ("functions", "patterns", "threads")),
    ("--liftoff-only", ("wasm",)),
    ("--no-liftoff --stress-wasm-code-gc", ("wasm",)),
    ("--no-enable-avx --no-enable-bmi1 --no-enable-bmi2", ("integers", "doubles", "wasm")),
)
JAVA = (
    ("", ()),
    ("-Xcomp", ("integers", "exact", "doubles", "vectors", "hashes", "strings", "exceptions", "calls", "threads")),
    ("-Xint", ("exact", "exceptions", "calls", "threads")),
    ("-XX:TieredStopAtLevel=1", ()),
    ("-XX:-TieredCompilation", ()),
    ("-XX:+UseSerialGC -XX:UseAVX=0", ()),
    ("-XX:+UseParallelGC -XX:UseAVX=1", ("doubles", "vectors", "hashes", "strings", "garbage")),
    ("-XX:+UseZGC", ("strings", "sorting", "garbage", "threads")),
    ("-XX:+UseShenandoahGC", ("strings", "sorting", "garbage", "threads")),
    ("-XX:+UnlockDiagnosticVMOptions -XX:+StressLCM -XX:+StressGCM -XX:+StressIGVN",
     ("integers", "doubles", "exact", "calls")),
)


def short_points(wanted):
    return {
        "test_bpf": bpf_jit, "test_user_copy": user_copy, "kprobes": lambda tap, guest: kprobes(tap, guest, 5),
        "stress-ng": stress_point("a few", "vecmath,str,icache,futex,mprotect,sigsegv,fork", seconds=1),
        "node": program_point(wanted, "node", "", ("integers", "patterns", "functions", "wasm")),
        "java": program_point(wanted, "java", "", ("vectors", "strings", "exceptions", "threads")),
    }


def groups(wanted):
    """{group: {name of a point: function}}."""
    return {
        "short": short_points(wanted),
        "kernel": KERNEL,
        "stress": {name: stress_point(name, stressors) for name, stressors in STRESS.items()},
        "node": {f"node {flags}": program_point(wanted, "node", flags, parts) for flags, parts in NODE},
        "java": {f"java {flags}": program_point(wanted, "java", flags, parts) for flags, parts in JAVA},
    }


# --- guests --------------------------------------------------------------------------------------


def start(lodge, files, engine, cpus):
    guest = Guest(lodge, "--engine", engine, "--cpus", cpus, "--kernel", f"{files}/generic/vmlinuz",
                  "--initrd", f"{files}/initramfs-generic", "--net", "none",
                  "--cmdline", "console=ttyS0 lodge.init=/work/init",
                  "--disk", f"{files}/workloads/disk.img,format=raw,readonly", memory="2G", patience=PATIENCE_S)
    guest.until("# ")
    guest.run("PS1=")
    return guest


def run_points(tap, points, new_guest):
    """All points in one guest; when it dies, in one more for those that are left."""
    left = list(points.items())
    while left:
        with new_guest() as guest:
            name = "its start"
            try:
                while left:
                    name, point = left.pop(0)
                    point(tap, guest)
                tap.no_complaint(guest.run("dmesg")[1])
                guest.send("echo o >/proc/sysrq-trigger")
                tap.check(guest.end() == 0, "power-off ends with status 0", guest.out)
            except Dead as e:
                tap.check(False, f"the guest outlives {name} ({e})", guest.out)


def choose(wanted, names):
    """{group: its chosen points}."""
    chosen, known = {}, groups(wanted)
    for name in names:
        group, _, part = name.partition(":")
        if group not in known:
            sys.exit(f"workloads_test: no group {group}; there are {', '.join(known)}")
        chosen.setdefault(group, {}).update({n: p for n, p in known[group].items() if part in n})
    return chosen


def main():
    if len(sys.argv) < 7:
        sys.exit(__doc__)
    lodge, tools, files, engine, cpus, *names = sys.argv[1:]
    done = subprocess.run([f"{tools}/guest-workloads", files], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode == 77:
        skip(done.stdout.strip().split("\n")[-1])
    if done.returncode:
        sys.exit(f"guest-workloads: {done.stdout}")
    tap = Tap()
    for points in choose(Wanted(files), names).values():
        run_points(tap, points, lambda: start(lodge, files, engine, cpus))
    return tap.end()


sys.exit(main())
