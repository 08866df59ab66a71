/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation. Four walls, one behind the other:
 *  1. no_new_privs: no program started from here gains rights.
 *  2. All capabilities are dropped (a guest started by root keeps none).
 *  3. Landlock, where the kernel has it: no file can be opened by its path;
 *     with user-mode networking but for the host's resolver configuration.
 *  4. seccomp: the system calls below, for every thread; any other kills the
 *     process. The janitor, outside of the sandbox, tidies up then.
 */
#include "vmm/sandbox.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <sched.h>
#include <seccomp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "base/util.h"

/*
 * A sanitizer's runtime makes calls and opens files of its own at any time. Such
 * a build is for tests and locks nothing in.
 */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED true
#endif
#endif
#ifndef SANITIZED
#define SANITIZED false
#endif

/* For whom a call is allowed. */
enum who {
	ALL,
	SOFT, /* the engine in this process */
	HARD, /* the kernel's engine */
	NET,  /* user-mode networking */
};

struct rule {
	enum who who;
	int call;
	/* Argument `arg` (1-based; 0: none) masked by `mask` must be `value`. */
	unsigned arg;
	uint64_t mask, value;
};

/* In place of a value: this process's number. */
#define OWN_PID UINT64_MAX

#define CALL(who, name)                      \
	{                                    \
		who, SCMP_SYS(name), 0, 0, 0 \
	}
#define CALL_IF(who, name, arg, mask, val)          \
	{                                           \
		who, SCMP_SYS(name), arg, mask, val \
	}
#define IOCTL(who, request) CALL_IF(who, ioctl, 2, UINT32_MAX, request)

static const struct rule rules[] = {
	/* The vCPUs: every request of KVM (type 0xae). First, as it is the most frequent. */
	CALL_IF(ALL, ioctl, 2, 0xff00, 0xae00),
	/* Locks and condition variables; waits of the software engine. */
	CALL(ALL, futex),
	CALL(ALL, sched_yield),
	/* The I/O loop, its wake-ups and eventfds of devices. */
	CALL(ALL, epoll_wait),
	CALL(ALL, epoll_pwait),
	CALL(ALL, epoll_pwait2),
	CALL(ALL, epoll_ctl),
	CALL(ALL, epoll_create1),
	CALL(ALL, eventfd2),
	CALL(ALL, poll),
	CALL(ALL, ppoll),
	/* Console, taps, eventfds, the janitor's pipe, kernels read again at a reset. */
	CALL(ALL, read),
	CALL(ALL, write),
	CALL(ALL, readv),
	CALL(ALL, writev),
	CALL(ALL, lseek),
	CALL(ALL, close),
	/* Disks: thread pool and io_uring. */
	CALL(ALL, pread64),
	CALL(ALL, pwrite64),
	CALL(ALL, preadv),
	CALL(ALL, pwritev),
	CALL(ALL, preadv2),
	CALL(ALL, pwritev2),
	CALL(ALL, fsync),
	CALL(ALL, fdatasync),
	CALL(ALL, fallocate),
	CALL(ALL, io_uring_enter),
	/* Block devices: discard and zeroes. */
	IOCTL(ALL, 0x1277), /* BLKDISCARD */
	IOCTL(ALL, 0x127f), /* BLKZEROOUT */
	/* Image locks are given back. */
	CALL(ALL, fcntl),
	/* stdio looks what a descriptor is; libslirp whether its configuration changed. */
	CALL(ALL, fstat),
	CALL(ALL, newfstatat),
	CALL(ALL, statx),
	/* The terminal's settings and size; bytes that wait. */
	IOCTL(ALL, 0x5401), /* TCGETS */
	IOCTL(ALL, 0x5402), /* TCSETS */
	IOCTL(ALL, 0x5403), /* TCSETSW */
	IOCTL(ALL, 0x5404), /* TCSETSF */
	IOCTL(ALL, 0x5413), /* TIOCGWINSZ */
	IOCTL(ALL, 0x541b), /* FIONREAD */
	IOCTL(ALL, 0x5421), /* FIONBIO */
	/* A tap's offloads, as the guest's driver chooses. */
	IOCTL(ALL, 0x400454d0), /* TUNSETOFFLOAD */
	/* The monitor's clients; connections of user-mode networking. */
	CALL(ALL, accept4),
	CALL(ALL, accept),
	CALL(ALL, recvfrom),
	CALL(ALL, recvmsg),
	CALL(ALL, sendto),
	CALL(ALL, sendmsg),
	CALL(ALL, shutdown),
	CALL(ALL, getsockopt),
	CALL(ALL, setsockopt),
	CALL(ALL, getsockname),
	CALL(ALL, getpeername),
	CALL_IF(NET, socket, 1, UINT32_MAX, AF_INET),
	CALL_IF(NET, socket, 1, UINT32_MAX, AF_INET6),
	CALL(NET, connect),
	CALL(NET, bind),
	CALL(NET, listen),
	/* Its name server: read only; Landlock says which file. */
	CALL_IF(NET, openat, 3, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY),
	/* Memory: malloc, thread stacks, the balloon. Code only where the engine makes it. */
	CALL(ALL, brk),
	CALL(ALL, munmap),
	CALL(ALL, mremap),
	CALL(ALL, madvise),
	CALL_IF(HARD, mmap, 3, PROT_EXEC, 0),
	CALL_IF(HARD, mprotect, 3, PROT_EXEC, 0),
	CALL(SOFT, mmap),
	CALL(SOFT, mprotect),
	CALL(SOFT, memfd_create),
	CALL(SOFT, ftruncate),
	CALL(SOFT, membarrier),
	/* The software engine copies its callers' structures so, to answer EFAULT: own memory only.
	 */
	CALL_IF(SOFT, process_vm_readv, 1, UINT32_MAX, OWN_PID),
	CALL_IF(SOFT, process_vm_writev, 1, UINT32_MAX, OWN_PID),
	/* Time. Usually answered without a call. */
	CALL(ALL, clock_gettime),
	CALL(ALL, clock_nanosleep),
	CALL(ALL, gettimeofday),
	CALL(ALL, nanosleep),
	CALL(ALL, timerfd_create),
	CALL(ALL, timerfd_settime),
	/* The guest's random numbers; malloc's. */
	CALL(ALL, getrandom),
	/* vCPUs are kicked; abort() names itself. */
	CALL(ALL, tgkill),
	CALL(ALL, getpid),
	CALL(ALL, gettid),
	CALL(ALL, rt_sigprocmask),
	CALL(ALL, rt_sigreturn),
	CALL(ALL, rt_sigaction),
	CALL(ALL, sigaltstack),
	/* Threads (no processes): the disks' pool grows on demand. */
	CALL_IF(ALL, clone, 1, CLONE_THREAD, CLONE_THREAD),
	CALL(ALL, set_robust_list),
	CALL(ALL, rseq),
	CALL(ALL, sched_getaffinity),
	CALL_IF(ALL, prctl, 1, UINT32_MAX, PR_SET_NAME),
	/* The end, with the janitor's. */
	CALL(ALL, wait4),
	CALL(ALL, exit),
	CALL(ALL, exit_group),
	CALL(ALL, restart_syscall),
};

/* What is refused with an error that its callers know to live with. */
static const struct {
	int call, error;
} refused[] = {
	{ SCMP_SYS(clone3), ENOSYS }, /* glibc then uses clone, whose flags can be seen */
	{ SCMP_SYS(open), EACCES },     { SCMP_SYS(openat), EACCES }, { SCMP_SYS(access), EACCES },
	{ SCMP_SYS(readlink), EACCES }, { SCMP_SYS(socket), EACCES },
};

static int fail(int err, const char *what, char *error, size_t error_size)
{
	snprintf(error, error_size, "sandbox: cannot %s: %s", what, strerror(-err));
	return err;
}

static int drop_capabilities(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = { 0 };

	return syscall(SYS_capset, &head, none) < 0 ? -errno : 0;
}

/* --- Landlock ------------------------------------------------------------------------ */

/* Every right of its first version. */
#define LANDLOCK_ALL_V1 ((LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1)

/* Let `path` be read: a file, or what lies in a directory. */
static void allow_reading(int ruleset, const char *path)
{
	AUTO_FD fd = open(path, O_PATH | O_CLOEXEC);
	struct landlock_path_beneath_attr rule = { .allowed_access = LANDLOCK_ACCESS_FS_READ_FILE,
						   .parent_fd = fd };

	if (fd >= 0) {
		/* Refused: then names do not resolve in the guest, nothing worse. */
		syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
	}
}

/*
 * The resolver's configuration. Where it is a link into a directory of its
 * keeper, the directory: the keeper replaces the file.
 */
static void allow_resolver(int ruleset)
{
	char *real = realpath("/etc/resolv.conf", NULL);
	char *slash = real ? strrchr(real, '/') : NULL;

	allow_reading(ruleset, "/etc/resolv.conf");
	if (slash && strncmp(real, "/run/", 5) == 0 && slash - real > 5) {
		*slash = '\0';
		allow_reading(ruleset, real);
	}
	free(real);
}

/* Kernels without it answer ENOSYS or EOPNOTSUPP: seccomp is the wall then. */
static int close_files(const struct sandbox_options *o)
{
	struct landlock_ruleset_attr attr = { .handled_access_fs = LANDLOCK_ALL_V1 };
	int ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
	int r = 0;

	if (ruleset < 0) {
		return errno == ENOSYS || errno == EOPNOTSUPP ? 0 : -errno;
	}
	if (o->user_net) {
		allow_resolver(ruleset);
	}
	if (syscall(SYS_landlock_restrict_self, ruleset, 0) < 0) {
		r = -errno;
	}
	close(ruleset);
	return r;
}

/* --- seccomp --------------------------------------------------------------------------- */

static bool concerns(enum who who, const struct sandbox_options *o)
{
	switch (who) {
	case SOFT:
		return o->soft_engine;
	case HARD:
		return !o->soft_engine;
	case NET:
		return o->user_net;
	default:
		return true;
	}
}

static int add_rule(scmp_filter_ctx ctx, const struct rule *r)
{
	uint64_t value = r->value == OWN_PID ? (uint64_t)getpid() : r->value;

	if (!r->arg) {
		return seccomp_rule_add(ctx, SCMP_ACT_ALLOW, r->call, 0);
	}
	return seccomp_rule_add(ctx, SCMP_ACT_ALLOW, r->call, 1,
				SCMP_CMP(r->arg - 1, SCMP_CMP_MASKED_EQ, r->mask, value));
}

/* Whether some rule of the table allows this call without a condition. */
static bool is_allowed(int call, const struct sandbox_options *o)
{
	for (size_t i = 0; i < ARRAY_SIZE(rules); i++) {
		if (rules[i].call == call && concerns(rules[i].who, o)) {
			return true;
		}
	}
	return false;
}

static int fill_filter(scmp_filter_ctx ctx, const struct sandbox_options *o)
{
	int r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, 1);

	for (size_t i = 0; i < ARRAY_SIZE(rules) && r == 0; i++) {
		if (concerns(rules[i].who, o)) {
			r = add_rule(ctx, &rules[i]);
		}
	}
	for (size_t i = 0; i < ARRAY_SIZE(refused) && r == 0; i++) {
		if (!is_allowed(refused[i].call, o)) {
			r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO((uint32_t)refused[i].error),
					     refused[i].call, 0);
		}
	}
	if (r == 0) {
		r = seccomp_syscall_priority(ctx, SCMP_SYS(ioctl), 255);
	}
	return r;
}

static int filter_calls(const struct sandbox_options *o)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int r = -ENOMEM;

	if (ctx) {
		r = fill_filter(ctx, o);
		r = r == 0 ? seccomp_load(ctx) : r;
		seccomp_release(ctx);
	}
	return r;
}

int sandbox_close_files(const struct sandbox_options *o, char *error, size_t error_size)
{
	int r;

	if (SANITIZED) {
		return 0;
	}
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
		return fail(-errno, "give up new rights", error, error_size);
	}
	r = drop_capabilities();
	if (r < 0) {
		return fail(r, "give up capabilities", error, error_size);
	}
	r = close_files(o);
	return r < 0 ? fail(r, "close the file system", error, error_size) : 0;
}

int sandbox_filter_calls(const struct sandbox_options *o, char *error, size_t error_size)
{
	int r = SANITIZED ? 0 : filter_calls(o);

	return r < 0 ? fail(r, "filter system calls", error, error_size) : 0;
}
