/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The preload shim: a program that opens /dev/kvm gets libsoftkvm instead.
 *
 * Theory of operation
 *  Each function here takes the place of libc's. What concerns one of our descriptors
 *  goes to the library, all else on to libc. The library's own calls pass through here
 *  too: they name descriptors that are not registered (yet, or any more), or set `inside`.
 *
 *  Signals: KVM_RUN of the kernel returns when a signal was handled. So handlers that
 *  the program installs are wrapped: the wrapper asks the vCPU that its thread runs to leave, then
 *  calls the program's handler. Faults (SIGSEGV and its kin) are not wrapped: they
 *  come from instructions, and the engine handles some of them itself.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/util.h"
#include "softkvm/softkvm.h"

#define DEVICE   "/dev/kvm"
#define SIGNALS  65
#define EXPORTED __attribute__((visibility("default")))

/* libc's function behind ours. Resolved at the first call: others may call us before any start-up
 * code. */
#define REAL(name)                                                                 \
	({                                                                         \
		static _Atomic(void *) real__;                                     \
		void *p__ = atomic_load_explicit(&real__, memory_order_relaxed);   \
		if (!p__) {                                                        \
			p__ = dlsym(RTLD_NEXT, #name);                             \
			atomic_store_explicit(&real__, p__, memory_order_relaxed); \
		}                                                                  \
		(__typeof__(&name))p__;                                            \
	})

static __thread bool inside __attribute__((tls_model("initial-exec")));

static int result(int r)
{
	if (r < 0) {
		errno = -r;
		return -1;
	}
	return r;
}

static bool is_device(const char *path)
{
	return path && strcmp(path, DEVICE) == 0;
}

/* --- opening ---------------------------------------------------------------------------- */
static bool takes_mode(int flags)
{
	return (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE;
}

static mode_t mode_arg(int flags, va_list args)
{
	return takes_mode(flags) ? (mode_t)va_arg(args, int) : 0;
}

#define DEFINE_OPEN(name)                                                                        \
	EXPORTED int name(const char *path, int flags, ...)                                      \
	{                                                                                        \
		va_list args;                                                                    \
		mode_t mode;                                                                     \
		va_start(args, flags);                                                           \
		mode = mode_arg(flags, args);                                                    \
		va_end(args);                                                                    \
		return is_device(path) ? result(softkvm_open()) : REAL(name)(path, flags, mode); \
	}
#define DEFINE_OPENAT(name)                                                  \
	EXPORTED int name(int dir, const char *path, int flags, ...)         \
	{                                                                    \
		va_list args;                                                \
		mode_t mode;                                                 \
		va_start(args, flags);                                       \
		mode = mode_arg(flags, args);                                \
		va_end(args);                                                \
		return is_device(path) ? result(softkvm_open())              \
				       : REAL(name)(dir, path, flags, mode); \
	}
DEFINE_OPEN(open)
DEFINE_OPEN(open64)
DEFINE_OPENAT(openat)
DEFINE_OPENAT(openat64)

/* What fortified programs call instead of open(path, flags). */
EXPORTED int __open_2(const char *path, int flags);
EXPORTED int __open64_2(const char *path, int flags);

EXPORTED int __open_2(const char *path, int flags)
{
	return is_device(path) ? result(softkvm_open()) : REAL(__open_2)(path, flags);
}

EXPORTED int __open64_2(const char *path, int flags)
{
	return is_device(path) ? result(softkvm_open()) : REAL(__open64_2)(path, flags);
}

EXPORTED int access(const char *path, int mode)
{
	return is_device(path) && !(mode & X_OK) ? 0 : REAL(access)(path, mode);
}

/* --- calls on descriptors ------------------------------------------------------------------ */
EXPORTED int ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	unsigned long arg;

	va_start(args, request);
	arg = va_arg(args, unsigned long);
	va_end(args);
	if (_IOC_TYPE(request) == KVMIO && softkvm_owns(fd)) {
		return result(softkvm_ioctl(fd, request, arg));
	}
	return REAL(ioctl)(fd, request, arg);
}

static void *map(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	void *p;

	/* The usual way to map a vCPU: whole, anywhere. */
	if (fd < 0 || inside || addr || offset != 0 || !softkvm_owns(fd)) {
		return REAL(mmap64)(addr, len, prot, flags, fd, offset);
	}
	inside = true;
	p = softkvm_mmap_run(fd);
	inside = false;
	if (!p) {
		return MAP_FAILED;
	}
	if (len != (size_t)softkvm_run_size()) {
		softkvm_munmap_run(p);
		return REAL(mmap64)(addr, len, prot, flags, fd, offset);
	}
	return p;
}

EXPORTED void *mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	return map(addr, len, prot, flags, fd, offset);
}

EXPORTED void *mmap64(void *addr, size_t len, int prot, int flags, int fd, off64_t offset)
{
	return map(addr, len, prot, flags, fd, offset);
}

EXPORTED int close(int fd)
{
	return softkvm_owns(fd) ? result(softkvm_close(fd)) : REAL(close)(fd);
}

EXPORTED int close_range(unsigned int first, unsigned int last, int flags)
{
	for (unsigned fd = first; !(flags & CLOSE_RANGE_CLOEXEC) && fd <= MIN(last, 1u << 20);
	     fd++) {
		softkvm_forget((int)fd);
	}
	return REAL(close_range)(first, last, flags);
}

static int duplicated(int fd, int newfd)
{
	if (newfd >= 0 && newfd != fd) {
		if (softkvm_owns(fd)) {
			softkvm_dup(fd, newfd);
		} else {
			softkvm_forget(newfd);
		}
	}
	return newfd;
}

EXPORTED int dup(int fd)
{
	return duplicated(fd, REAL(dup)(fd));
}

EXPORTED int dup2(int fd, int newfd)
{
	return duplicated(fd, REAL(dup2)(fd, newfd));
}

EXPORTED int dup3(int fd, int newfd, int flags)
{
	return duplicated(fd, REAL(dup3)(fd, newfd, flags));
}

static int control(int fd, int command, unsigned long arg)
{
	int r = REAL(fcntl64)(fd, command, arg);

	return command == F_DUPFD || command == F_DUPFD_CLOEXEC ? duplicated(fd, r) : r;
}

EXPORTED int fcntl(int fd, int command, ...)
{
	va_list args;
	unsigned long arg;

	va_start(args, command);
	arg = va_arg(args, unsigned long);
	va_end(args);
	return control(fd, command, arg);
}

EXPORTED int fcntl64(int fd, int command, ...)
{
	va_list args;
	unsigned long arg;

	va_start(args, command);
	arg = va_arg(args, unsigned long);
	va_end(args);
	return control(fd, command, arg);
}

/* --- signals -----------------------------------------------------------------------------------
 */
static struct {
	_Atomic(void *) handler; /* the program's; NULL: not wrapped */
	_Atomic int flags;       /* as the program gave them */
} wrapped[SIGNALS];

static void on_signal(int sig, siginfo_t *info, void *context)
{
	void *handler = atomic_load(&wrapped[sig].handler);

	softkvm_kick_self();
	if (!handler) {
		return;
	}
	if (atomic_load(&wrapped[sig].flags) & SA_SIGINFO) {
		((void (*)(int, siginfo_t *, void *))handler)(sig, info, context);
	} else {
		((void (*)(int))handler)(sig);
	}
}

static bool may_wrap(int sig)
{
	return sig > 0 && sig < SIGNALS && sig != SIGSEGV && sig != SIGBUS && sig != SIGFPE &&
	       sig != SIGILL && sig != SIGTRAP && sig != SIGKILL && sig != SIGSTOP;
}

static bool is_function(const struct sigaction *act)
{
	return act->sa_handler != SIG_DFL && act->sa_handler != SIG_IGN;
}

/* What the program believes to be installed, from what is. */
static void unwrap(int sig, struct sigaction *old, void *handler, int flags)
{
	if (old->sa_sigaction == on_signal) {
		old->sa_handler = (void (*)(int))handler;
		old->sa_flags = flags;
	}
}

EXPORTED int sigaction(int sig, const struct sigaction *act, struct sigaction *old)
{
	struct sigaction mine, before;
	void *handler;
	int flags, r;

	if (!may_wrap(sig)) {
		return REAL(sigaction)(sig, act, old);
	}
	handler = atomic_load(&wrapped[sig].handler);
	flags = atomic_load(&wrapped[sig].flags);
	if (act) {
		mine = *act;
		if (is_function(act)) {
			mine.sa_sigaction = on_signal;
			mine.sa_flags |= SA_SIGINFO;
			atomic_store(&wrapped[sig].flags, act->sa_flags);
			atomic_store(&wrapped[sig].handler, (void *)act->sa_handler);
		}
	}
	r = REAL(sigaction)(sig, act ? &mine : NULL, &before);
	if (r == 0 && old) {
		*old = before;
		unwrap(sig, old, handler, flags);
	}
	return r;
}

EXPORTED __sighandler_t signal(int sig, __sighandler_t handler)
{
	struct sigaction act = { .sa_handler = handler, .sa_flags = SA_RESTART }, old;

	sigemptyset(&act.sa_mask);
	return sigaction(sig, &act, &old) == 0 ? old.sa_handler : SIG_ERR;
}

/* A cancelled thread leaves KVM_RUN, and is cancelled then. */
EXPORTED int pthread_cancel(pthread_t thread)
{
	int r = REAL(pthread_cancel)(thread);

	softkvm_kick_thread(thread);
	return r;
}
