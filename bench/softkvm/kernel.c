/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a kernel does for programs: system calls, signals, faults, processes.
 */
#include <err.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guestbench.h"

#define PAGE_BYTES 4096

static uint8_t *map_pages(size_t pages)
{
	uint8_t *p = mmap(NULL, pages * PAGE_BYTES, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED) {
		err(2, "mmap");
	}
	return p;
}

/* A unit is one getpid(). */
uint64_t kernel_syscall(uint64_t n)
{
	pid_t self = getpid();
	uint64_t right = 0;

	for (uint64_t i = 0; i < n; i++) {
		right += syscall(SYS_getpid) == self;
	}
	return right;
}

static volatile sig_atomic_t signals;

static void count_signal(int number)
{
	signals += number == SIGUSR1;
}

/* A unit is one signal to itself and its handler. */
uint64_t kernel_signal(uint64_t n)
{
	struct sigaction action = { .sa_handler = count_signal }, before;

	signals = 0;
	sigaction(SIGUSR1, &action, &before);
	for (uint64_t i = 0; i < n; i++) {
		raise(SIGUSR1);
	}
	sigaction(SIGUSR1, &before, NULL);
	return (uint64_t)signals;
}

#define FAULT_PAGES 1024

/* A unit is 4 MiB mapped, each page written, unmapped. */
uint64_t kernel_pagefault(uint64_t n)
{
	uint64_t sum = 0;

	for (uint64_t i = 0; i < n; i++) {
		uint8_t *p = map_pages(FAULT_PAGES);

		for (size_t k = 0; k < FAULT_PAGES; k++) {
			p[k * PAGE_BYTES + k] += (uint8_t)(i + k);
			sum += p[k * PAGE_BYTES + k];
		}
		munmap(p, (size_t)FAULT_PAGES * PAGE_BYTES);
	}
	return sum;
}

/* A unit is one page made read-only and writable again, with an access after each. */
uint64_t kernel_mprotect(uint64_t n)
{
	volatile uint8_t *p = map_pages(64);
	uint64_t sum = 0;

	memset((void *)p, 3, (size_t)64 * PAGE_BYTES);
	for (uint64_t i = 0; i < n; i++) {
		volatile uint8_t *page = p + i % 64 * PAGE_BYTES;

		mprotect((void *)page, PAGE_BYTES, PROT_READ);
		sum += page[i % PAGE_BYTES];
		mprotect((void *)page, PAGE_BYTES, PROT_READ | PROT_WRITE);
		page[i % PAGE_BYTES] = (uint8_t)i;
	}
	munmap((void *)p, (size_t)64 * PAGE_BYTES);
	return sum;
}

/* Wait for a child; its exit status. */
static unsigned int reap(pid_t pid)
{
	int status;

	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status)) {
		err(2, "a child did not end well");
	}
	return (unsigned int)WEXITSTATUS(status);
}

#define FORK_PAGES 512

/* A unit is one child, which writes 256 of 512 shared pages. */
uint64_t kernel_fork(uint64_t n)
{
	uint8_t *p = map_pages(FORK_PAGES);
	uint64_t sum = 0;

	memset(p, 1, (size_t)FORK_PAGES * PAGE_BYTES);
	for (uint64_t i = 0; i < n; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			uint8_t seen = 0;

			for (size_t k = 0; k < FORK_PAGES; k += 2) {
				seen = (uint8_t)(seen + p[k * PAGE_BYTES]++);
			}
			_exit((seen + (int)i) & 0x7f);
		}
		sum = mix(sum, reap(pid));
		p[i % FORK_PAGES * PAGE_BYTES]++;
	}
	munmap(p, (size_t)FORK_PAGES * PAGE_BYTES);
	return sum;
}

/* A unit is one child, which runs this program anew. */
uint64_t kernel_exec(uint64_t n)
{
	char word[] = KERNEL_EXEC_WORD, name[] = "guestbench";
	char *arguments[] = { name, word, NULL };
	uint64_t right = 0;

	for (uint64_t i = 0; i < n; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			execv("/proc/self/exe", arguments);
			_exit(127);
		}
		right += reap(pid) == KERNEL_EXEC_STATUS;
	}
	return right;
}

static void transfer(ssize_t (*call)(int, void *, size_t), int fd, uint64_t *word)
{
	if (call(fd, word, sizeof(*word)) != sizeof(*word)) {
		_exit(2);
	}
}

static ssize_t write_out(int fd, void *data, size_t len)
{
	return write(fd, data, len);
}

/* A unit is a word to another process and back: two switches. */
uint64_t kernel_ctxsw(uint64_t n)
{
	uint64_t word = 1;
	int there[2], back[2];
	pid_t pid;

	if (pipe(there) || pipe(back) || (pid = fork()) < 0) {
		err(2, "ctxsw");
	}
	if (pid == 0) {
		for (uint64_t i = 0; i < n; i++) {
			transfer(read, there[0], &word);
			word = mix(word, i);
			transfer(write_out, back[1], &word);
		}
		_exit(0);
	}
	for (uint64_t i = 0; i < n; i++) {
		transfer(write_out, there[1], &word);
		transfer(read, back[0], &word);
	}
	reap(pid);
	for (int i = 0; i < 2; i++) {
		close(there[i]);
		close(back[i]);
	}
	return word;
}
