/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The native side of difftest.h: a child process that runs each case's
 * instruction on this machine's processor.
 */
#include "softkvm/cpu/difftest.h"

#include <asm/prctl.h>
#include <cpuid.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>

/* Linux's user segments. */
enum { CS_64 = 0x33, CS_32 = 0x23, DS_ANY = 0x2b };
/* Of the signal frame's XSAVE area (asm/sigcontext.h). */
enum { FRAME_MAGIC1 = 464, FRAME_XFEATURES = 472 };

/*
 * dt_enter: load the state at DT_STATE and go to its RIP. dt_leave: where the
 * signal handler sends the thread when the case is over.
 */
void dt_enter(void);
void dt_leave(void);
extern uint64_t dt_saved_rsp;

_Static_assert(DT_STATE == 0x50010000 && XS_SIZE == 832 && offsetof(struct dt_state, gpr) == 832 &&
		       offsetof(struct dt_state, far_rip) == 832 + 152,
	       "the code below has them as numbers");

__asm__(".data\n"
	".globl dt_saved_rsp\n"
	"dt_saved_rsp: .quad 0\n"
	".text\n"
	".globl dt_enter\n"
	".type dt_enter, @function\n"
	"dt_enter:\n"
	"	push %rbx\n	push %rbp\n	push %r12\n	push %r13\n"
	"	push %r14\n	push %r15\n"
	"	mov %rsp, dt_saved_rsp(%rip)\n"
	"	mov $0x50010000, %rbx\n"
	"	mov $7, %eax\n"
	"	xor %edx, %edx\n"
	"	xrstor (%rbx)\n"
	"	pushq 832+136(%rbx)\n"
	"	popfq\n"
	"	mov 832+0(%rbx), %rax\n	mov 832+8(%rbx), %rcx\n"
	"	mov 832+16(%rbx), %rdx\n"
	"	mov 832+32(%rbx), %rsp\n	mov 832+40(%rbx), %rbp\n"
	"	mov 832+48(%rbx), %rsi\n	mov 832+56(%rbx), %rdi\n"
	"	mov 832+64(%rbx), %r8\n	mov 832+72(%rbx), %r9\n"
	"	mov 832+80(%rbx), %r10\n	mov 832+88(%rbx), %r11\n"
	"	mov 832+96(%rbx), %r12\n	mov 832+104(%rbx), %r13\n"
	"	mov 832+112(%rbx), %r14\n	mov 832+120(%rbx), %r15\n"
	"	mov 832+24(%rbx), %rbx\n"
	"	ljmp *0x50010000+832+152\n"
	".globl dt_leave\n"
	".type dt_leave, @function\n"
	"dt_leave:\n"
	"	fninit\n"
	"	mov dt_saved_rsp(%rip), %rsp\n"
	"	movl $0x1f80, -4(%rsp)\n"
	"	ldmxcsr -4(%rsp)\n"
	"	pop %r15\n	pop %r14\n	pop %r13\n	pop %r12\n"
	"	pop %rbp\n	pop %rbx\n"
	"	ret\n");

static struct dt_result *now; /* where the handler puts the result; NULL: no case is under way */

static void copy_xsave(const ucontext_t *uc, uint8_t *out)
{
	const uint8_t *fp = (const uint8_t *)uc->uc_mcontext.fpregs;
	uint64_t bv = XFEATURE_X87 | XFEATURE_SSE;

	memset(out, 0, XS_SIZE);
	store_le16(out + FXS_FCW, FCW_INIT);
	if (load_le32(fp + FRAME_MAGIC1) == 0x46505853u) {
		bv = load_le64(fp + XS_HEADER);
	}
	if (bv & XFEATURE_X87) {
		memcpy(out, fp, FXS_XMM);
	}
	store_le32(out + FXS_MXCSR, load_le32(fp + FXS_MXCSR));
	if (bv & XFEATURE_SSE) {
		memcpy(out + FXS_XMM, fp + FXS_XMM, 256);
	}
	if (bv & XFEATURE_AVX) {
		memcpy(out + XS_AVX, fp + XS_AVX, XS_AVX_SIZE);
	}
}

static void on_signal(int sig, siginfo_t *si, void *ctx)
{
	/* ucontext's order of R8..R15, RDI, RSI, RBP, RBX, RDX, RAX, RCX, RSP by our numbers */
	static const uint8_t order[16] = { REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
					   REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
					   REG_R12, REG_R13, REG_R14, REG_R15 };
	ucontext_t *uc = ctx;
	greg_t *g = uc->uc_mcontext.gregs;

	if (!now && sig == SIGVTALRM) {
		return; /* it came late */
	}
	if (!now) {
		_exit(3); /* a bug of the test itself */
	}
	for (unsigned i = 0; i < 16; i++) {
		now->state.gpr[i] = (uint64_t)g[order[i]];
	}
	now->state.rip = (uint64_t)g[REG_RIP];
	now->state.rflags = (uint64_t)g[REG_EFL];
	now->vector = (uint8_t)g[REG_TRAPNO];
	now->error = (uint32_t)g[REG_ERR];
	now->cr2 = (uint64_t)g[REG_CR2];
	copy_xsave(uc, now->state.xsave);
	if (sig == SIGVTALRM) {
		now->vector = DT_VECTOR_BROKEN; /* a loop */
	} else if (sig == SIGTRAP && now->vector == 3) {
		now->vector = DT_VECTOR_NONE;
		now->state.rip--;
	}
	g[REG_RIP] = (greg_t)(uintptr_t)dt_leave;
	g[REG_EFL] = 0x202;
	g[REG_CSGSFS] = (greg_t)(((uint64_t)g[REG_CSGSFS] & ~0xffffull) | CS_64);
}

static bool map_at(uint64_t addr, size_t len, int prot)
{
	void *p = mmap((void *)(uintptr_t)addr, len, prot,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	return p == (void *)(uintptr_t)addr;
}

static uint8_t *code_rw;

/* The code page, twice: nothing is writable and executable at one address. */
static bool map_code(void)
{
	AUTO_FD fd = memfd_create("difftest-code", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, DT_PAGE) < 0) {
		return false;
	}
	code_rw = mmap(NULL, DT_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	return code_rw != MAP_FAILED &&
	       mmap((void *)(uintptr_t)DT_CODE, DT_PAGE, PROT_READ | PROT_EXEC,
		    MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0) == (void *)(uintptr_t)DT_CODE;
}

static bool child_setup(void)
{
	static const int signals[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGVTALRM };
	static uint8_t stack[65536];
	struct sigaction sa = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	stack_t ss = { .ss_sp = stack, .ss_size = sizeof(stack) };

	/* 32-bit code needs them; 64-bit code does not care */
	__asm__ volatile("mov %0, %%ds\n\tmov %0, %%es" : : "r"(DS_ANY));
	sigfillset(&sa.sa_mask);
	sigaltstack(&ss, NULL);
	for (unsigned i = 0; i < ARRAY_SIZE(signals); i++) {
		sigaction(signals[i], &sa, NULL);
	}
	return map_code() && map_at(DT_STATE, DT_PAGE, PROT_READ | PROT_WRITE) &&
	       map_at(DT_WINDOW, DT_WINDOW_BYTES, PROT_READ | PROT_WRITE) &&
	       map_at(DT_WINDOW_RO, DT_PAGE, PROT_READ | PROT_WRITE);
}

static void run_case(struct dt_case *c, const uint8_t *window, const uint8_t *window_ro)
{
	uint8_t *w = (uint8_t *)(uintptr_t)DT_WINDOW, *ro = (uint8_t *)(uintptr_t)DT_WINDOW_RO;
	struct dt_state *st = (struct dt_state *)(uintptr_t)DT_STATE;
	bool patch_ro = c->patch_len && c->patch_at >= DT_WINDOW_RO;

	memcpy(w, window, DT_WINDOW_BYTES);
	if (patch_ro) {
		mprotect(ro, DT_PAGE, PROT_READ | PROT_WRITE);
	}
	if (c->patch_len) {
		memcpy((void *)(uintptr_t)c->patch_at, c->patch, c->patch_len);
	}
	if (patch_ro) {
		mprotect(ro, DT_PAGE, PROT_READ);
	}
	memset(code_rw, 0xcc, DT_PAGE);
	memcpy(code_rw + (c->in.rip - DT_CODE), c->code, c->len);
	*st = c->in;
	st->far_rip = (uint32_t)c->in.rip;
	st->far_cs = c->m32 ? CS_32 : CS_64;
	syscall(SYS_arch_prctl, ARCH_SET_GS, c->in.gs_base);
	now = &c->native;
	now->vector = DT_VECTOR_BROKEN;
	dt_enter();
	now = NULL;
	memcpy(c->native.window, w, DT_WINDOW_BYTES);
	if (patch_ro) {
		mprotect(ro, DT_PAGE, PROT_READ | PROT_WRITE);
		memcpy(ro, window_ro, DT_PAGE);
		mprotect(ro, DT_PAGE, PROT_READ);
	}
}

static void child(struct dt_case *cases, unsigned n, _Atomic unsigned *done)
{
	static uint8_t window[DT_WINDOW_BYTES], window_ro[DT_PAGE];

	if (!child_setup()) {
		_exit(2);
	}
	dt_window_fill(window, window_ro);
	memcpy((void *)(uintptr_t)DT_WINDOW_RO, window_ro, DT_PAGE);
	mprotect((void *)(uintptr_t)DT_WINDOW_RO, DT_PAGE, PROT_READ);
	for (unsigned i = *done; i < n; i++) {
		*done = i;
		setitimer(ITIMER_VIRTUAL, &(struct itimerval){ .it_value.tv_usec = 100000 }, NULL);
		run_case(&cases[i], window, window_ro);
	}
	*done = n;
	_exit(0);
}

struct dt_case *dt_cases_new(unsigned n)
{
	void *p = mmap(NULL, n * sizeof(struct dt_case), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static bool has_xsave(void)
{
	uint32_t a, b, c, d;

	return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_OSXSAVE);
}

bool dt_run_native(struct dt_case *cases, unsigned n)
{
	static _Atomic unsigned *done;

	if (!has_xsave()) {
		return false;
	}
	if (!done) {
		void *p = mmap(NULL, DT_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			       -1, 0);

		if (p == MAP_FAILED) {
			return false;
		}
		done = p;
	}
	*done = 0;
	while (*done < n) {
		int status;
		pid_t pid;

		fflush(NULL);
		pid = fork();
		if (pid == 0) {
			child(cases, n, done);
		}
		if (pid < 0 || waitpid(pid, &status, 0) < 0 ||
		    (WIFEXITED(status) && WEXITSTATUS(status) >= 2)) {
			return false;
		}
		if (*done < n) {
			cases[*done].native.vector = DT_VECTOR_BROKEN;
			(*done)++;
		}
	}
	return true;
}
