/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside a guest: random reads of 4 KiB, past the guest's page cache, at a
 * constant depth, through Linux's AIO calls. Prints "bench: io IOPS".
 *
 * usage: guest-io DEVICE SECONDS DEPTH
 */
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define BLOCK_BYTES 4096
#define DEPTH_MAX   256

struct job {
	int fd;
	uint64_t blocks; /* of the device */
	unsigned depth;
	aio_context_t aio;
	uint8_t *buffers;
	struct iocb requests[DEPTH_MAX];
	uint64_t random;
};

static double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* xorshift64: any sequence will do, the same in each run. */
static uint64_t next_random(struct job *j)
{
	j->random ^= j->random << 13;
	j->random ^= j->random >> 7;
	j->random ^= j->random << 17;
	return j->random;
}

static void prepare(struct job *j, unsigned i)
{
	j->requests[i] = (struct iocb){
		.aio_data = i,
		.aio_lio_opcode = IOCB_CMD_PREAD,
		.aio_fildes = (uint32_t)j->fd,
		.aio_buf = (uintptr_t)(j->buffers + (size_t)i * BLOCK_BYTES),
		.aio_nbytes = BLOCK_BYTES,
		.aio_offset = (int64_t)(next_random(j) % j->blocks * BLOCK_BYTES),
	};
}

/* Hand over the requests in `which`; false: refused. */
static int submit(struct job *j, const unsigned *which, unsigned count)
{
	struct iocb *list[DEPTH_MAX];

	for (unsigned i = 0; i < count; i++) {
		prepare(j, which[i]);
		list[i] = &j->requests[which[i]];
	}
	return syscall(SYS_io_submit, j->aio, (long)count, list) == (long)count;
}

/* Run for `seconds`; requests done, or -1 with what failed on stderr. */
static int64_t run(struct job *j, double seconds)
{
	struct io_event events[DEPTH_MAX];
	unsigned which[DEPTH_MAX];
	double end = now_s() + seconds;
	int64_t done = 0;

	for (unsigned i = 0; i < j->depth; i++) {
		which[i] = i;
	}
	if (!submit(j, which, j->depth)) {
		perror("guest-io: io_submit");
		return -1;
	}
	for (unsigned flying = j->depth; flying;) {
		long n = syscall(SYS_io_getevents, j->aio, 1L, (long)j->depth, events, NULL);
		int go_on = now_s() < end;

		for (long i = 0; i < n; i++) {
			which[i] = (unsigned)events[i].data;
			if (events[i].res != BLOCK_BYTES) {
				fprintf(stderr, "guest-io: a read gave %lld\n",
					(long long)events[i].res);
				return -1;
			}
		}
		if (n < 0 || (go_on && !submit(j, which, (unsigned)n))) {
			perror("guest-io: io_getevents, io_submit");
			return -1;
		}
		done += n;
		flying -= go_on ? 0 : (unsigned)n;
	}
	return done;
}

int main(int argc, char **argv)
{
	struct job j = { .random = 0x9e3779b97f4a7c15 };
	double seconds = argc > 2 ? strtod(argv[2], NULL) : 0, begin;
	off_t size;
	int64_t done;

	j.depth = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 10) : 0;
	if (argc != 4 || seconds <= 0 || !j.depth || j.depth > DEPTH_MAX) {
		fprintf(stderr, "usage: guest-io DEVICE SECONDS DEPTH\n");
		return 2;
	}
	j.fd = open(argv[1], O_RDONLY | O_DIRECT | O_CLOEXEC);
	size = j.fd < 0 ? -1 : lseek(j.fd, 0, SEEK_END);
	j.buffers = aligned_alloc(BLOCK_BYTES, (size_t)j.depth * BLOCK_BYTES);
	if (size < BLOCK_BYTES || !j.buffers || syscall(SYS_io_setup, (long)j.depth, &j.aio) < 0) {
		perror("guest-io");
		return 1;
	}
	memset(j.buffers, 0, (size_t)j.depth * BLOCK_BYTES);
	j.blocks = (uint64_t)size / BLOCK_BYTES;
	if (run(&j, 0.3) < 0) { /* caches warm */
		return 1;
	}
	begin = now_s();
	done = run(&j, seconds);
	if (done < 0) {
		return 1;
	}
	printf("bench: io %.0f\n", (double)done / (now_s() - begin));
	return 0;
}
