/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation. A VM with 128 KiB of RAM and one vCPU is set straight
 * into 64-bit mode, ring 0, on its own page tables (one 2 MiB page). It counts
 * in RDI up to RSI and then writes a port, which ends the run. A repeating
 * timer signals the thread, so a KVM that crawls is left after KVM_MEASURE_MAX_MS
 * and the count up to then taken. The timer repeats since its first signal
 * may fall just before KVM_RUN.
 */
#include "kvm/measure.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#include "base/clock.h"

#define GUEST_BYTES    KIB(128)
#define GUEST_PML4     0x1000
#define GUEST_PDPT     0x2000
#define GUEST_PD       0x3000
#define GUEST_SCRATCH  0x5000
#define GUEST_STACK    0x7000
#define GUEST_CODE     0x8000
#define LOOP_INSNS     17
#define LOOP_COUNT     20000 /* a third of a million instructions: 1 ms on real hardware */
#define RUNS           3
#define MSR_GS_BASE_NO 0xc0000101u

static const uint8_t guest_code[] = {
	0x0f, 0x20, 0xc0,       /* 1: mov %cr0,%rax */
	0x48, 0x01, 0xc3,       /* add %rax,%rbx */
	0x0f, 0x20, 0xd2,       /* mov %cr2,%rdx (CR4 would exit on AMD) */
	0x48, 0x31, 0xd3,       /* xor %rdx,%rbx */
	0x0f, 0x32,             /* rdmsr (ECX: GS base) */
	0x48, 0x8d, 0x1c, 0x43, /* lea (%rbx,%rax,2),%rbx */
	0x0f, 0x01, 0xf8,       /* swapgs */
	0x48, 0xc1, 0xcb, 0x07, /* ror $7,%rbx */
	0x0f, 0x01, 0xf8,       /* swapgs */
	0x48, 0x0f, 0xaf, 0xd3, /* imul %rbx,%rdx */
	0x49, 0x89, 0x10,       /* mov %rdx,(%r8) */
	0x49, 0x03, 0x18,       /* add (%r8),%rbx */
	0x9c,                   /* pushf */
	0x9d,                   /* popf */
	0x48, 0xff, 0xc7,       /* inc %rdi */
	0x48, 0x39, 0xf7,       /* cmp %rsi,%rdi */
	0x72, 0xd0,             /* jb 1b */
	0xe6, 0x80,             /* out %al,$0x80 */
};

struct guest {
	struct kvm *kvm;
	int vm_fd, vcpu_fd;
	uint8_t *ram;
	struct kvm_run *run;
};

static void guest_done(struct guest *g)
{
	kvm_unmap_run(g->kvm, g->run);
	kvm_fd_close(g->kvm, &g->vcpu_fd);
	kvm_fd_close(g->kvm, &g->vm_fd);
	if (g->ram) {
		munmap(g->ram, GUEST_BYTES);
	}
}

static int fill_ram(struct guest *g)
{
	void *ram =
		mmap(NULL, GUEST_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (ram == MAP_FAILED) {
		return -errno;
	}
	g->ram = ram;
	store_le64(g->ram + GUEST_PML4, GUEST_PDPT | 3);
	store_le64(g->ram + GUEST_PDPT, GUEST_PD | 3);
	store_le64(g->ram + GUEST_PD, 0x83); /* present, writable, 2 MiB */
	memcpy(g->ram + GUEST_CODE, guest_code, sizeof(guest_code));
	return 0;
}

static int create_vcpu(struct guest *g)
{
	struct kvm_userspace_memory_region region = { .memory_size = GUEST_BYTES };
	int r;

	g->vm_fd = kvm_sys_ioctl_int(g->kvm, KVM_CREATE_VM, 0);
	if (g->vm_fd < 0) {
		return g->vm_fd;
	}
	region.userspace_addr = (uintptr_t)g->ram;
	/* Only Intel processors without unrestricted guests care for these two. */
	kvm_ioctl_int(g->kvm, g->vm_fd, KVM_SET_TSS_ADDR, 0xfeffd000);
	r = kvm_ioctl(g->kvm, g->vm_fd, KVM_SET_USER_MEMORY_REGION, &region);

	if (r < 0) {
		return r;
	}
	g->vcpu_fd = kvm_ioctl_int(g->kvm, g->vm_fd, KVM_CREATE_VCPU, 0);
	if (g->vcpu_fd < 0) {
		return g->vcpu_fd;
	}
	g->run = kvm_map_run(g->kvm, g->vcpu_fd);
	return g->run ? 0 : -errno;
}

/* Long mode is only entered by a processor that has it in its CPUID. */
static int set_cpuid(struct guest *g)
{
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + 128 * sizeof(c->entries[0]));
	int r;

	if (!c) {
		return -ENOMEM;
	}
	c->nent = 128;
	r = kvm_sys_ioctl(g->kvm, KVM_GET_SUPPORTED_CPUID, c);
	if (r >= 0) {
		r = kvm_ioctl(g->kvm, g->vcpu_fd, KVM_SET_CPUID2, c);
	}
	free(c);
	return r;
}

static int set_registers(struct guest *g)
{
	struct kvm_segment code = {
		.limit = 0xffffffff, .selector = 8, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1
	};
	struct kvm_segment data = { .limit = 0xffffffff,
				    .selector = 16,
				    .type = 3,
				    .present = 1,
				    .s = 1,
				    .db = 1,
				    .g = 1 };
	struct kvm_regs regs = { .rip = GUEST_CODE,
				 .rsp = GUEST_STACK,
				 .rflags = 2,
				 .rsi = LOOP_COUNT,
				 .r8 = GUEST_SCRATCH,
				 .rcx = MSR_GS_BASE_NO };
	struct kvm_sregs s;
	int r = kvm_ioctl(g->kvm, g->vcpu_fd, KVM_GET_SREGS, &s);

	if (r < 0) {
		return r;
	}
	s.cs = code;
	s.ds = s.es = s.fs = s.gs = s.ss = data;
	s.cr0 = 0x80000011; /* PG, ET, PE */
	s.cr3 = GUEST_PML4;
	s.cr4 = 0x20;   /* PAE */
	s.efer = 0x500; /* LME, LMA */
	r = kvm_ioctl(g->kvm, g->vcpu_fd, KVM_SET_SREGS, &s);
	return r < 0 ? r : kvm_ioctl(g->kvm, g->vcpu_fd, KVM_SET_REGS, &regs);
}

static int start_timer(timer_t *ret)
{
	struct sigevent ev = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = KVM_KICK_SIGNAL };
	struct itimerspec when = { .it_value.tv_nsec = KVM_MEASURE_MAX_MS * NS_PER_MS,
				   .it_interval.tv_nsec = 5 * NS_PER_MS };

	ev._sigev_un._tid = (pid_t)syscall(SYS_gettid);
	if (timer_create(CLOCK_MONOTONIC, &ev, ret) < 0) {
		return -errno;
	}
	timer_settime(*ret, 0, &when, NULL);
	return 0;
}

/* Run to the port write or the signal; *ret_insns: how far it came. */
static int run_timed(struct guest *g, uint64_t *ret_insns, ns_t *ret_ns)
{
	struct kvm_regs regs;
	timer_t timer;
	ns_t start;
	int r = start_timer(&timer);

	if (r < 0) {
		return r;
	}
	start = clock_now_ns();
	r = kvm_run(g->kvm, g->vcpu_fd);
	*ret_ns = clock_now_ns() - start;
	timer_delete(timer);
	if (r < 0 && r != -EINTR) {
		return r;
	}
	if (r == 0 && g->run->exit_reason != KVM_EXIT_IO) {
		return -ENOEXEC;
	}
	r = kvm_ioctl(g->kvm, g->vcpu_fd, KVM_GET_REGS, &regs);
	*ret_insns = MIN(regs.rdi, LOOP_COUNT) * LOOP_INSNS;
	return r;
}

/*
 * The best of some runs: the first also fills the host's caches, and those of
 * an emulator below it. One that came to its time limit is enough.
 */
static int run_some(struct guest *g, uint64_t *ret_insns_per_s)
{
	uint64_t best = 0, insns = 0;
	ns_t took_ns = 0, sum_ns = 0;
	int r = 0;

	for (unsigned i = 0; i < RUNS && sum_ns < KVM_MEASURE_MAX_MS * NS_PER_MS; i++) {
		r = set_registers(g);
		if (r >= 0) {
			r = run_timed(g, &insns, &took_ns);
		}
		if (r < 0) {
			return r;
		}
		sum_ns += took_ns;
		best = MAX(best, insns * NS_PER_S / (uint64_t)MAX(took_ns, 1));
	}
	*ret_insns_per_s = best;
	return 0;
}

int kvm_measure(struct kvm *k, uint64_t *ret_insns_per_s)
{
	struct guest g = { .kvm = k, .vm_fd = -1, .vcpu_fd = -1 };
	int r = fill_ram(&g);

	if (r == 0) {
		r = create_vcpu(&g);
	}
	if (r == 0) {
		r = set_cpuid(&g);
	}
	if (r == 0) {
		r = run_some(&g, ret_insns_per_s);
	}
	guest_done(&g);
	return r;
}

/* --- remembered per boot --------------------------------------------------- */

#define BOOT_ID_BYTES 37 /* a UUID in text and a NUL */
#define FILE_NAME     "kvm-speed"
#define FILE_MAGIC    "lodge-kvm-speed-1"

static bool read_boot_id(char id[BOOT_ID_BYTES])
{
	AUTO_FD fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, id, BOOT_ID_BYTES - 1);

	id[n == BOOT_ID_BYTES - 1 ? n : 0] = '\0';
	return id[0] != '\0';
}

/* The directory, if it is ours alone to write. */
static int open_dir(const char *dir)
{
	AUTO_FD fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0) {
		return -errno;
	}
	if (st.st_uid != geteuid() || (st.st_mode & (S_IWGRP | S_IWOTH))) {
		return -EPERM;
	}
	return TAKE_FD(fd);
}

int kvm_measure_load(const char *dir, const char *boot_id, uint64_t *ret_insns_per_s)
{
	char text[160], magic[32], id[64], end;
	AUTO_FD fd = -1;
	unsigned long long speed;
	ssize_t n;
	AUTO_FD dir_fd = open_dir(dir);

	if (dir_fd < 0) {
		return dir_fd;
	}
	fd = openat(dir_fd, FILE_NAME, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0) {
		return -errno;
	}
	n = read(fd, text, sizeof(text) - 1);
	if (n < 0) {
		return -errno;
	}
	text[n] = '\0';
	if (sscanf(text, "%31s %63s %llu%c", magic, id, &speed, &end) != 4 || end != '\n' ||
	    strcmp(magic, FILE_MAGIC) != 0) {
		return -EBADMSG;
	}
	if (strcmp(id, boot_id) != 0) {
		return -ESTALE;
	}
	*ret_insns_per_s = speed;
	return 0;
}

int kvm_measure_store(const char *dir, const char *boot_id, uint64_t insns_per_s)
{
	char name[64];
	AUTO_FD fd = -1;
	int len;
	AUTO_FD dir_fd = -1;

	if (mkdir(dir, 0700) < 0 && errno != EEXIST) {
		return -errno;
	}
	dir_fd = open_dir(dir);
	if (dir_fd < 0) {
		return dir_fd;
	}
	snprintf(name, sizeof(name), "." FILE_NAME ".%ld", (long)getpid());
	fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0) {
		return -errno;
	}
	len = dprintf(fd, FILE_MAGIC " %s %llu\n", boot_id, (unsigned long long)insns_per_s);
	if (len < 0 || renameat(dir_fd, name, dir_fd, FILE_NAME) < 0) {
		int err = -errno;

		unlinkat(dir_fd, name, 0);
		return err;
	}
	return 0;
}

#define CACHE_DIRS 4
struct cache_dirs {
	char path[CACHE_DIRS][256];
	unsigned count;
};

static void add_dir(struct cache_dirs *d, const char *base, const char *rest)
{
	int n;

	/* The base directory specification lets relative paths be ignored. */
	if (!base || base[0] != '/') {
		return;
	}
	n = snprintf(d->path[d->count], sizeof(d->path[0]), "%s%s", base, rest);
	if (n > 0 && (size_t)n < sizeof(d->path[0])) {
		d->count++;
	}
}

/* Where the file may lie, the best place first. */
static void list_dirs(struct cache_dirs *d)
{
	char own[48];

	d->count = 0;
	add_dir(d, getenv("XDG_CACHE_HOME"), "/lodge");
	if (geteuid() == 0) {
		add_dir(d, "/run", "/lodge");
	} else {
		add_dir(d, getenv("HOME"), "/.cache/lodge");
	}
	snprintf(own, sizeof(own), "/lodge-%u", (unsigned)geteuid());
	add_dir(d, "/tmp", own);
}

int kvm_measure_cached(struct kvm *k, uint64_t *ret_insns_per_s)
{
	char boot_id[BOOT_ID_BYTES];
	struct cache_dirs dirs;
	bool known = read_boot_id(boot_id);
	int r;

	list_dirs(&dirs);
	for (unsigned i = 0; known && i < dirs.count; i++) {
		if (kvm_measure_load(dirs.path[i], boot_id, ret_insns_per_s) == 0) {
			return 0;
		}
	}
	r = kvm_measure(k, ret_insns_per_s);
	if (r < 0 || !known) {
		return r;
	}
	for (unsigned i = 0; i < dirs.count; i++) {
		if (kvm_measure_store(dirs.path[i], boot_id, *ret_insns_per_s) == 0) {
			break;
		}
	}
	/* Nowhere to write: the next start measures again. */
	return 0;
}
