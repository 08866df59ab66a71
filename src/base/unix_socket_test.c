/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/unix_socket.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/hint.h"
#include "base/test.h"
#include "base/util.h"

static void test_both_ends(struct test *t)
{
	char dir[] = "/tmp/lodge-unix-test.XXXXXX", path[64], longer[200];
	int server = -1, client = -1, second = -1;
	struct stat st;

	CHECK(t, mkdtemp(dir) != NULL);
	snprintf(path, sizeof(path), "%s/s", dir);
	CHECK_EQ(t, unix_connect(path, &client), -ENOENT);
	CHECK_EQ(t, unix_listen(path, 4, &server), 0);
	CHECK(t, stat(path, &st) == 0 && S_ISSOCK(st.st_mode) && (st.st_mode & 0777) == 0600);
	CHECK_EQ(t, unix_listen(path, 4, &second), -EADDRINUSE); /* somebody is there */
	CHECK_EQ(t, unix_connect(path, &client), 0);
	CHECK(t, fcntl(client, F_GETFL) & O_NONBLOCK);
	close(server);
	CHECK_EQ(t, unix_listen(path, 4, &second), 0); /* a dead one is replaced */
	close(second);
	close(client);
	unlink(path);
	memset(longer, 'x', sizeof(longer));
	longer[UNIX_PATH_MAX + 1] = 0;
	CHECK_EQ(t, unix_listen(longer, 4, &second), -ENAMETOOLONG);
	rmdir(dir);
}

/* A plain file refuses connections as a dead socket does. It is somebody's all the same. */
static void test_plain_file(struct test *t)
{
	char path[] = "/tmp/lodge-unix-test.XXXXXX";
	int fd = mkstemp(path), server = -1;

	CHECK(t, fd >= 0);
	CHECK_EQ(t, unix_listen(path, 4, &server), -EADDRINUSE);
	CHECK_EQ(t, access(path, F_OK), 0);
	close(fd);
	unlink(path);
}

static void test_hints(struct test *t)
{
	CHECK_STR(t, hint_path(-ENOENT), "; check the path");
	CHECK_STR(t, hint_path(ENOENT), "; check the path");
	CHECK_STR(t, hint_path(EIO), "");
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
		{ "both ends", test_both_ends },
		{ "plain file", test_plain_file },
		{ "hints", test_hints },
		{ 0 },
	};

	return test_main(argc, argv, cases);
}
