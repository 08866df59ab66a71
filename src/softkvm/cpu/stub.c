/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The cache of host-code stubs.
 *
 * Theory of operation: the code area is a memfd with a writable and an
 * executable mapping. Its first half holds handlers, each behind 8 bytes with
 * the address of its raw code; the second half holds raw code. So the address of a
 * SIGFPE tells how to leave: a handler's stack is that of its caller while its instruction runs.
 * The table is open-addressed and only grows: readers take no lock; an entry's
 * code is stored before its key (release), and read after it (acquire).
 */
#include "softkvm/cpu/stub.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "base/util.h"

/*
 * All forms of all instructions with all immediates are about 130,000 stubs of about 100 bytes;
 * Linux and its programs use some 600. Untouched pages cost nothing.
 */
#define AREA_BYTES  MIB(32)
#define HALF_BYTES  (AREA_BYTES / 2)
#define TABLE_BITS  18
#define TABLE_SLOTS (1u << TABLE_BITS)

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010u
#endif

struct slot {
	_Atomic uint64_t key;
	exec_fn *fn;
};

static struct {
	pthread_mutex_t lock; /* writers of everything below */
	int error;
	uint8_t *rw, *rx;
	size_t used[2]; /* handlers, raw code */
	unsigned count;
	struct slot table[TABLE_SLOTS];
	struct sigaction old_fpe;
	bool fpe_ours;
} cache = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* --- putting code together --------------------------------------------------------------- */

void stub_bytes(struct stub_code *c, unsigned n, const void *bytes)
{
	if (n > sizeof(c->b) - c->n) {
		c->overflow = true;
		return;
	}
	memcpy(c->b + c->n, bytes, n);
	c->n += n;
}

void stub_byte(struct stub_code *c, uint8_t b)
{
	stub_bytes(c, 1, &b);
}

void stub_u32(struct stub_code *c, uint32_t v)
{
	stub_bytes(c, 4, &v);
}

static void mov_rax(struct stub_code *c, const void *fn)
{
	uint64_t v = (uintptr_t)fn;

	stub_bytes(c, 2, "\x48\xb8");
	stub_bytes(c, 8, &v);
}

void stub_call(struct stub_code *c, const void *fn)
{
	mov_rax(c, fn);
	stub_bytes(c, 2, "\xff\xd0");
}

void stub_jump(struct stub_code *c, const void *fn)
{
	mov_rax(c, fn);
	stub_bytes(c, 2, "\xff\xe0");
}

unsigned stub_jcc(struct stub_code *c, unsigned cc)
{
	stub_byte(c, 0x0f);
	stub_byte(c, (uint8_t)(0x80 | cc));
	stub_u32(c, 0);
	return c->n;
}

void stub_land(struct stub_code *c, unsigned jump)
{
	if (!c->overflow) {
		store_le32(c->b + jump - 4, c->n - jump);
	}
}

/* --- the cache ------------------------------------------------------------------------------- */

int stub_map(const char *name, size_t size, uint8_t **ret_rw, uint8_t **ret_rx)
{
	AUTO_FD fd = memfd_create(name, MFD_CLOEXEC | MFD_EXEC);
	uint8_t *rw, *rx;

	if (fd < 0 && errno == EINVAL) {
		fd = memfd_create(name, MFD_CLOEXEC); /* before Linux 6.3 */
	}
	if (fd < 0 || ftruncate(fd, (off_t)size) < 0) {
		return -errno;
	}
	rw = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (rw == MAP_FAILED) {
		return -errno;
	}
	rx = mmap(NULL, size, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	if (rx == MAP_FAILED) {
		int error = -errno;

		munmap(rw, size);
		return error;
	}
	*ret_rw = rw;
	*ret_rx = rx;
	return 0;
}

static void cache_init_once(void)
{
	cache.error = stub_map("softkvm-stubs", AREA_BYTES, &cache.rw, &cache.rx);
}

int stub_init(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, cache_init_once);
	return cache.error;
}

static unsigned slot_of(uint64_t key)
{
	return (unsigned)((key * 0x9e3779b97f4a7c15ull) >> (64 - TABLE_BITS));
}

exec_fn *stub_find(uint64_t key)
{
	for (unsigned i = slot_of(key), n = 0; n < TABLE_SLOTS; i++, n++) {
		struct slot *s = &cache.table[i & (TABLE_SLOTS - 1)];
		uint64_t k = atomic_load_explicit(&s->key, memory_order_acquire);

		if (k == key) {
			return s->fn;
		}
		if (k == 0) {
			break;
		}
	}
	return NULL;
}

/* Copy code into one half, behind `head` bytes; NULL if that is full. */
static uint8_t *place(unsigned half, const struct stub_code *c, unsigned head)
{
	size_t at = cache.used[half] + head, end = ALIGN_UP(at + c->n, (size_t)16);

	if (c->overflow || end + head > HALF_BYTES) {
		return NULL;
	}
	at += half * HALF_BYTES;
	memcpy(cache.rw + at, c->b, c->n);
	cache.used[half] = end;
	return cache.rx + at;
}

static exec_fn *publish(uint64_t key, uint8_t *code)
{
	unsigned i = slot_of(key);

	if (cache.count >= TABLE_SLOTS / 4 * 3) {
		return NULL;
	}
	while (atomic_load_explicit(&cache.table[i & (TABLE_SLOTS - 1)].key,
				    memory_order_relaxed)) {
		i++;
	}
	cache.table[i & (TABLE_SLOTS - 1)].fn = (exec_fn *)(uintptr_t)code;
	atomic_store_explicit(&cache.table[i & (TABLE_SLOTS - 1)].key, key, memory_order_release);
	cache.count++;
	return (exec_fn *)(uintptr_t)code;
}

static exec_fn *add_locked(uint64_t key, const struct stub_code *handler,
			   const struct stub_code *raw)
{
	uint8_t *code, *raw_code = NULL;

	if (raw) {
		raw_code = place(1, raw, 0);
		if (!raw_code) {
			return NULL;
		}
	}
	code = place(0, handler, 16);
	if (!code) {
		return NULL;
	}
	memcpy(cache.rw + (code - cache.rx) - sizeof(raw_code), &raw_code, sizeof(raw_code));
	return publish(key, code);
}

exec_fn *stub_add(uint64_t key, const struct stub_code *handler, const struct stub_code *raw)
{
	exec_fn *fn;

	if (stub_init() < 0) {
		return NULL;
	}
	pthread_mutex_lock(&cache.lock);
	fn = stub_find(key);
	if (!fn) {
		fn = add_locked(key, handler, raw);
	}
	pthread_mutex_unlock(&cache.lock);
	return fn;
}

void stub_stats(unsigned *ret_stubs, size_t *ret_bytes)
{
	pthread_mutex_lock(&cache.lock);
	*ret_stubs = cache.count;
	*ret_bytes = cache.used[0] + cache.used[1];
	pthread_mutex_unlock(&cache.lock);
}

/* --- floating-point exceptions ------------------------------------------------------------------
 */

static int raw_fault(void)
{
	return 1;
}

/* Not ours: what would have happened without us. */
static void chain(int sig, siginfo_t *si, void *ctx)
{
	const struct sigaction *old = &cache.old_fpe;

	if (old->sa_flags & SA_SIGINFO) {
		old->sa_sigaction(sig, si, ctx);
	} else if (old->sa_handler == SIG_IGN && si->si_code <= 0) {
		return; /* sent, not raised */
	} else if (old->sa_handler == SIG_DFL || old->sa_handler == SIG_IGN) {
		signal(sig, SIG_DFL);
		raise(sig);
	} else {
		old->sa_handler(sig);
	}
}

static void on_sigfpe(int sig, siginfo_t *si, void *ctx)
{
	ucontext_t *uc = ctx;
	uintptr_t off = (uintptr_t)uc->uc_mcontext.gregs[REG_RIP] - (uintptr_t)cache.rx;

	if (off >= AREA_BYTES || si->si_code <= 0) {
		chain(sig, si, ctx);
		return;
	}
	/* RDI and RSI still are the arguments, the stack is that of the stub's caller. */
	uc->uc_mcontext.gregs[REG_RIP] =
		(greg_t)(off < HALF_BYTES ? (uintptr_t)stub_fp_fault : (uintptr_t)raw_fault);
}

void stub_claim_sigfpe(void)
{
	struct sigaction now,
		sa = { .sa_sigaction = on_sigfpe, .sa_flags = SA_SIGINFO | SA_ONSTACK };

	pthread_mutex_lock(&cache.lock);
	sigaction(SIGFPE, NULL, &now);
	if (!(now.sa_flags & SA_SIGINFO) || now.sa_sigaction != on_sigfpe) {
		cache.old_fpe = now;
		sigaction(SIGFPE, &sa, NULL);
	}
	pthread_mutex_unlock(&cache.lock);
}
