/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A whole board for tests: see the header. */
#include "machine/testboard.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/unix_socket.h"
#include "dev/char/chardev.h"

#define KERNEL_AT    0x100000u
#define KERNEL_FLAGS 0x10000u /* addresses in the header */
#define MULTIBOOT    0x1badb002u

/* A multiboot image: its header, then "hlt". */
static void write_kernel(const char *path)
{
	const uint32_t image[] = {
		MULTIBOOT, KERNEL_FLAGS,   -(MULTIBOOT + KERNEL_FLAGS),
		KERNEL_AT, KERNEL_AT,      0, /* all of the file */
		0,         KERNEL_AT + 32, 0xf4,
	};
	FILE *f = fopen(path, "wb");

	ASSERT(f && fwrite(image, sizeof(image), 1, f) == 1 && fclose(f) == 0);
}

static struct block *disk_new(struct loop *loop)
{
	struct block_options o = { .format = BLOCK_RAW, .no_lock = true, .no_uring = true };
	int fd = memfd_create("disk", MFD_CLOEXEC);
	struct block *b;
	char error[256];

	ASSERT(fd >= 0 && ftruncate(fd, TESTBOARD_DISK_BYTES) == 0);
	ASSERT(block_open_fd(loop, fd, "disk", &o, error, sizeof(error), &b) == 0);
	return b;
}

static void make_files(struct testboard *t)
{
	snprintf(t->dir, sizeof(t->dir), "/tmp/lodge-board-XXXXXX");
	ASSERT(mkdtemp(t->dir));
	snprintf(t->kernel, sizeof(t->kernel), "%s/kernel", t->dir);
	snprintf(t->socket, sizeof(t->socket), "%s/vsock", t->dir);
	write_kernel(t->kernel);
}

/* Nobody listens on the host. */
static int refuse(void *opaque, uint32_t port)
{
	return -ECONNREFUSED;
}

struct testboard *testboard_prepare(void)
{
	struct testboard *t = calloc(1, sizeof(*t));

	ASSERT(t);
	t->bus = testbus_new(0);
	make_files(t);
	ASSERT(chardev_memory_new(t->bus->loop, &t->console) == 0);
	ASSERT(chardev_memory_new(t->bus->loop, &t->virtio_console) == 0);
	ASSERT(netio_pair_new(t->bus->loop, &t->net, &t->net_peer) == 0);
	t->disk = disk_new(t->bus->loop);
	ASSERT(unix_listen(t->socket, 4, &t->vsock_fd) == 0);
	t->config = (struct machine_config){
		.cpus = 3,
		.memory_bytes = TESTBOARD_RAM_BYTES,
		.console = t->console,
		.virtio_console = t->virtio_console,
		.disks = { { t->disk, "serial" } },
		.disk_count = 1,
		.nics = { { t->net, { 0x52, 0x54, 0, 1, 2, 3 } } },
		.nic_count = 1,
		.rng = true,
		.balloon = true,
		.debug_exit = true,
		.vsock = { .cid = 3, .listen_fd = t->vsock_fd, .connect = refuse },
		.kernel = t->kernel,
		.cmdline = "hello",
	};
	return t;
}

struct testboard *testboard_new(void)
{
	struct testboard *t = testboard_prepare();
	char error[256];
	int r = machine_new(&t->bus->env, &t->config, error, sizeof(error), &t->machine);

	if (r < 0) {
		fprintf(stderr, "machine_new: %s\n", error);
	}
	ASSERT(r == 0);
	testbus_settle(t->bus);
	return t;
}

void testboard_free(struct testboard *t)
{
	machine_free(t->machine);
	block_close(t->disk);
	netio_free(t->net);
	netio_free(t->net_peer);
	chardev_free(t->console);
	chardev_free(t->virtio_console);
	testbus_free(t->bus);
	unlink(t->kernel);
	close(t->vsock_fd);
	unlink(t->socket);
	ASSERT(rmdir(t->dir) == 0);
	free(t);
}
