/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Image locks, byte for byte those of QEMU's raw driver, so that it and we
 * keep each other out.
 *
 * A user of an image has permissions (bit 0 read, 1 write, 2 write what is
 * there already, 3 resize) and says which permissions of others it can live with.
 * Each permission that it has is a shared lock on byte 100 + bit; each one
 * that it does not grant to others is a shared lock on byte 200 + bit. It sets its
 * locks first and looks for a conflict after, so of two that come at the
 * same time at least one sees the other. Locks are open-file-description
 * locks: they go with the last descriptor.
 */
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "block/block_int.h"

#define LOCK_PERM_BASE   100
#define LOCK_SHARED_BASE 200
#define PERM_READ        BIT(0)
#define PERM_WRITE       BIT(1)
#define PERM_RESIZE      BIT(3)
#define PERM_BITS        4

static int lock_byte(int fd, off_t byte)
{
	struct flock l = { .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };

	return fcntl(fd, F_OFD_SETLK, &l) < 0 ? -errno : 0;
}

/* 0: nobody else has the byte; -EBUSY. */
static int check_byte(int fd, off_t byte)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };

	if (fcntl(fd, F_OFD_GETLK, &l) < 0) {
		return -errno;
	}
	return l.l_type == F_UNLCK ? 0 : -EBUSY;
}

static int for_bits(int fd, unsigned bits, off_t base, int (*fn)(int fd, off_t byte))
{
	for (unsigned i = 0; i < PERM_BITS; i++) {
		int r = bits & BIT(i) ? fn(fd, base + i) : 0;

		if (r < 0) {
			return r;
		}
	}
	return 0;
}

/* --- who has it ------------------------------------------------------------------ */

/* Does this process's descriptor hold a lock? The kernel tells in fdinfo. */
static bool fd_has_lock(const char *pid, const char *fd)
{
	char path[64], line[256];
	bool found = false;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%.16s/fdinfo/%.16s", pid, fd);
	f = fopen(path, "re");
	if (!f) {
		return false;
	}
	while (!found && fgets(line, sizeof(line), f)) {
		found = strncmp(line, "lock:", 5) == 0;
	}
	fclose(f);
	return found;
}

static bool process_holds(const char *pid, const struct stat *image, int own_fd)
{
	char path[64];
	struct dirent *e;
	bool found = false;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%.16s/fd", pid);
	d = opendir(path);
	if (!d) {
		return false;
	}
	while (!found && (e = readdir(d))) {
		struct stat st;

		if (!isdigit((unsigned char)e->d_name[0]) ||
		    fstatat(dirfd(d), e->d_name, &st, 0) < 0 || st.st_ino != image->st_ino ||
		    st.st_dev != image->st_dev) {
			continue;
		}
		if (strtol(pid, NULL, 10) == getpid() && strtol(e->d_name, NULL, 10) == own_fd) {
			continue;
		}
		found = fd_has_lock(pid, e->d_name);
	}
	closedir(d);
	return found;
}

static void describe_process(const char *pid, char *buf, size_t size)
{
	char path[64], comm[32] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%.16s/comm", pid);
	f = fopen(path, "re");
	if (f) {
		if (fgets(comm, sizeof(comm), f)) {
			comm[strcspn(comm, "\n")] = '\0';
		}
		fclose(f);
	}
	snprintf(buf, size, "process %.16s (%s)", pid, comm[0] ? comm : "?");
}

/* An OFD lock has no owner, so look for a process that has the file open and locked. */
static void find_holder(int fd, char *holder, size_t size)
{
	struct stat image;
	struct dirent *e;
	DIR *d;

	if (fstat(fd, &image) < 0) {
		return;
	}
	d = opendir("/proc");
	if (!d) {
		return;
	}
	while ((e = readdir(d))) {
		if (isdigit((unsigned char)e->d_name[0]) && process_holds(e->d_name, &image, fd)) {
			describe_process(e->d_name, holder, size);
			break;
		}
	}
	closedir(d);
}

int block_lock(int fd, bool readonly, char *holder, size_t holder_size)
{
	unsigned have = PERM_READ | (readonly ? 0 : PERM_WRITE | PERM_RESIZE);
	unsigned deny = PERM_WRITE | PERM_RESIZE;
	int r;

	holder[0] = '\0';
	r = for_bits(fd, have, LOCK_PERM_BASE, lock_byte);
	if (!r) {
		r = for_bits(fd, deny, LOCK_SHARED_BASE, lock_byte);
	}
	if (!r) {
		r = for_bits(fd, deny, LOCK_PERM_BASE, check_byte);
	}
	if (!r) {
		r = for_bits(fd, have, LOCK_SHARED_BASE, check_byte);
	}
	if (r == -EBUSY || r == -EAGAIN || r == -EACCES) {
		find_holder(fd, holder, holder_size);
		return -EBUSY;
	}
	return 0;
}
