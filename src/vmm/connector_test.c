/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/connector.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/test.h"
#include "base/unix_socket.h"
#include "base/util.h"

static void test_connect(struct test *t)
{
	char dir[] = "/tmp/lodge-connector.XXXXXX", prefix[64], path[80];
	struct connector c;
	int server = -1, peer, fd;
	char word[3];

	CHECK(t, mkdtemp(dir) != NULL);
	snprintf(prefix, sizeof(prefix), "%s/v", dir);
	CHECK_EQ(t, connector_start(&c, prefix), 0);
	CHECK_EQ(t, connector_connect(&c, 5), -ENOENT);
	snprintf(path, sizeof(path), "%s_4294967295", prefix);
	CHECK_EQ(t, unix_listen(path, 4, &server), 0);
	for (unsigned i = 0; i < 3; i++) {
		fd = connector_connect(&c, UINT32_MAX);
		CHECK(t, fd >= 0);
		peer = accept(server, NULL, NULL);
		CHECK(t, peer >= 0);
		CHECK_EQ(t, write(fd, "abc", 3), 3);
		CHECK_EQ(t, read(peer, word, 3), 3);
		close(fd);
		close(peer);
	}
	close(server);
	CHECK_EQ(t, connector_connect(&c, UINT32_MAX), -ECONNREFUSED);
	connector_stop(&c);
	connector_stop(&c);
	CHECK_EQ(t, connector_connect(&c, 5), -EPIPE);
	unlink(path);
	rmdir(dir);
}

static void test_child_dies(struct test *t)
{
	struct connector c;

	CHECK_EQ(t, connector_start(&c, "/nonexistent/v"), 0);
	CHECK_EQ(t, kill(c.pid, SIGKILL), 0);
	CHECK_EQ(t, connector_connect(&c, 5), -EPIPE);
	CHECK_EQ(t, connector_connect(&c, 5), -EPIPE);
	connector_stop(&c);
}

static void test_long_prefix(struct test *t)
{
	char prefix[UNIX_PATH_MAX + 1];
	struct connector c;

	memset(prefix, 'x', sizeof(prefix));
	prefix[UNIX_PATH_MAX] = 0;
	CHECK_EQ(t, connector_start(&c, prefix), 0);
	CHECK_EQ(t, connector_connect(&c, 5), -ENAMETOOLONG);
	connector_stop(&c);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
		{ "connect", test_connect },
		{ "child dies", test_child_dies },
		{ "long prefix", test_long_prefix },
		{ 0 },
	};

	return test_main(argc, argv, cases);
}
