/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * On a host that forbids executable memory (SELinux's execmem, …) the engine cannot be opened. A
 * filter of system calls plays that host. A program of its own: the area is made once a process.
 */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "base/test.h"
#include "base/util.h"
#include "softkvm/softkvm.h"

/* mmap() of executable memory is EACCES from here on. */
static bool forbid_executable_memory(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EACCES),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { ARRAY_SIZE(code), code };

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static void test_refused(struct test *t)
{
	if (!forbid_executable_memory()) {
		SKIP(t, "no filters of system calls here");
	}
	CHECK_EQ(t, softkvm_open(), -EACCES);
	CHECK_EQ(t, softkvm_open(), -EACCES);
}

static const struct test_case cases[] = {
	{ "no executable memory, no engine", test_refused },
	{ 0 },
};

int main(int argc, char **argv)
{
	return test_main(argc, argv, cases);
}
