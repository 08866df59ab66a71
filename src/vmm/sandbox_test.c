/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Each attempt in a child of its own: it returns an errno by its exit status,
 * or dies of SIGSYS.
 */
#include "vmm/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/test.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

#define KILLED (-SIGSYS)

static int do_nothing(void)
{
	return 0;
}

static void *thread_main(void *opaque)
{
	return opaque;
}

static int do_threads(void)
{
	pthread_t thread;
	char *big = malloc(10 << 20);

	if (!big) {
		return ENOMEM;
	}
	big[5 << 20] = 1;
	free(big);
	return pthread_create(&thread, NULL, thread_main, NULL) ? EAGAIN
								: pthread_join(thread, NULL);
}

static int do_open(void)
{
	return open("/etc/passwd", O_RDONLY) < 0 ? errno : 0;
}

static int do_create(void)
{
	return open("/tmp/lodge-sandbox-test", O_CREAT | O_WRONLY, 0600) < 0 ? errno : 0;
}

static int do_resolver(void)
{
	return open("/etc/resolv.conf", O_RDONLY) < 0 ? errno : 0;
}

static int do_unlink(void)
{
	return unlink("/tmp/nothing-there") < 0 ? errno : 0;
}

static int do_exec(void)
{
	char *argv[] = { "true", NULL };

	return execv("/bin/true", argv) < 0 ? errno : 0;
}

static int do_fork(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		_exit(0);
	}
	return pid < 0 ? errno : 0;
}

static int do_inet(void)
{
	return socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) < 0 ? errno : 0;
}

static int do_netlink(void)
{
	return socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0) < 0 ? errno : 0;
}

static int do_code(void)
{
	return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
			       MAP_FAILED
		       ? errno
		       : 0;
}

static int peek(pid_t pid)
{
	char from = 'x', to = 0;
	struct iovec local = { &to, 1 }, remote = { &from, 1 };

	return process_vm_readv(pid, &local, 1, &remote, 1, 0) < 0 ? errno : 0;
}

static int do_peek_self(void)
{
	return peek(getpid());
}

static int do_peek_other(void)
{
	return peek(1);
}

static int do_ptrace_flag(void)
{
	return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) < 0 ? errno : 0;
}

/* Exit status of the child, or minus the signal that killed it. */
static int attempt(int (*fn)(void), struct sandbox_options o)
{
	char error[256];
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		if (sandbox_close_files(&o, error, sizeof(error)) < 0 ||
		    sandbox_filter_calls(&o, error, sizeof(error)) < 0) {
			_exit(200);
		}
		_exit(fn());
	}
	waitpid(pid, &status, 0);
	return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static const struct sandbox_options hard = { 0 }, soft = { .soft_engine = true },
				    net = { .user_net = true };

#define NEED_PLAIN(t)                                                  \
	do {                                                           \
		if (SANITIZED) {                                       \
			SKIP(t, "a sanitizer makes calls of its own"); \
		}                                                      \
	} while (0)

static void test_what_a_guest_needs(struct test *t)
{
	NEED_PLAIN(t);
	CHECK_EQ(t, attempt(do_nothing, hard), 0);
	CHECK_EQ(t, attempt(do_threads, hard), 0);
	CHECK_EQ(t, attempt(do_threads, soft), 0);
	CHECK_EQ(t, attempt(do_code, soft), 0);
	CHECK_EQ(t, attempt(do_inet, net), 0);
	CHECK_EQ(t, attempt(do_peek_self, soft), 0);
}

static void test_files_are_closed(struct test *t)
{
	NEED_PLAIN(t);
	CHECK_EQ(t, attempt(do_open, hard), EACCES);
	CHECK_EQ(t, attempt(do_open, soft), EACCES);
	CHECK_EQ(t, attempt(do_create, hard), EACCES);
	CHECK(t, attempt(do_create, net) == KILLED);
	CHECK_EQ(t, attempt(do_resolver, hard), EACCES);
	CHECK(t, attempt(do_unlink, hard) == KILLED);
}

static void test_resolver_for_user_net(struct test *t)
{
	NEED_PLAIN(t);
	if (access("/etc/resolv.conf", R_OK) < 0) {
		SKIP(t, "no /etc/resolv.conf");
	}
	CHECK_EQ(t, attempt(do_resolver, net), 0);
}

static void test_no_way_out(struct test *t)
{
	NEED_PLAIN(t);
	CHECK(t, attempt(do_exec, hard) == KILLED);
	CHECK(t, attempt(do_fork, hard) == KILLED);
	CHECK(t, attempt(do_ptrace_flag, hard) == KILLED);
	CHECK(t, attempt(do_code, hard) == KILLED);
	CHECK_EQ(t, attempt(do_inet, hard), EACCES);
	CHECK(t, attempt(do_peek_other, soft) == KILLED);
	CHECK(t, attempt(do_peek_self, hard) == KILLED);
	CHECK(t, attempt(do_netlink, net) == KILLED);
}

static const struct test_case cases[] = {
	{ "what a guest needs", test_what_a_guest_needs },
	{ "files are closed", test_files_are_closed },
	{ "the resolver's file for user-mode networking", test_resolver_for_user_net },
	{ "no way out", test_no_way_out },
	{ 0 },
};

int main(int argc, char **argv)
{
	return test_main(argc, argv, cases);
}
