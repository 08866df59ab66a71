/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The monitor against a guest that only writes down what it is told.
 */
#include "vmm/monitor.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/test.h"
#include "vmm/vmm_int.h"

static char did[128];
static bool paused;

static void note(const char *what)
{
	size_t used = strlen(did);

	snprintf(did + used, sizeof(did) - used, "%s ", what);
}

void vmm_pause(struct vmm *v)
{
	note("pause");
	paused = true;
	monitor_event(v->monitor, "STOP", NULL);
}

void vmm_resume(struct vmm *v)
{
	note("resume");
	paused = false;
}

bool vmm_is_paused(struct vmm *v)
{
	return paused;
}

void vmm_power_button(struct vmm *v)
{
	note("button");
}

void vmm_reset(struct vmm *v, bool by_guest)
{
	note(by_guest ? "guest-reset" : "reset");
}

void vmm_end(struct vmm *v, int status, const char *reason)
{
	note(reason);
}

struct fixture {
	struct vmm_config config;
	struct vmm vmm;
	struct vcpu cpus[2];
	char dir[48], path[64], error[256];
	int fd;
	char reply[70000];
};

static bool setup(struct fixture *x)
{
	memset(x, 0, sizeof(*x));
	x->fd = -1;
	did[0] = '\0';
	paused = false;
	snprintf(x->dir, sizeof(x->dir), "/tmp/lodge-monitor-test.XXXXXX");
	if (!mkdtemp(x->dir) || loop_new(NULL, &x->vmm.loop) < 0) {
		return false;
	}
	snprintf(x->path, sizeof(x->path), "%s/m", x->dir);
	x->config.name = "na\"me";
	x->vmm.config = &x->config;
	x->cpus[0].thread_id = 11;
	x->cpus[1].thread_id = 22;
	x->vmm.cpus.cpus = x->cpus;
	x->vmm.cpus.count = 2;
	return true;
}

static void teardown(struct fixture *x)
{
	fd_closep(&x->fd);
	monitor_free(x->vmm.monitor);
	loop_free(x->vmm.loop);
	unlink(x->path);
	rmdir(x->dir);
}

static int connect_to(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
		fd_closep(&fd);
	}
	return fd;
}

static void turn(struct fixture *x)
{
	while (loop_poll(x->vmm.loop, 0)) {
	}
}

/* Send text, let the monitor work, return what it said. */
static const char *say(struct fixture *x, const char *text)
{
	ssize_t n;

	(void)!write(x->fd, text, strlen(text));
	turn(x);
	n = recv(x->fd, x->reply, sizeof(x->reply) - 1, MSG_DONTWAIT);
	x->reply[n > 0 ? n : 0] = '\0';
	return x->reply;
}

static bool start(struct fixture *x, bool negotiate)
{
	if (!setup(x) ||
	    monitor_new(&x->vmm, x->path, x->error, sizeof(x->error), &x->vmm.monitor) < 0) {
		printf("# %s\n", x->error);
		return false;
	}
	x->fd = connect_to(x->path);
	say(x, "");
	if (negotiate) {
		say(x, "{\"execute\":\"qmp_capabilities\"}\n");
	}
	return x->fd >= 0;
}

static void test_greeting_and_negotiation(struct test *t)
{
	static struct fixture x;

	CHECK(t, start(&x, false));
	CHECK_STR(t, x.reply,
		  "{\"QMP\": {\"version\": {\"qemu\": {\"major\": 7, \"minor\": 2, \"micro\": 0}, "
		  "\"package\": \"lodge " LODGE_VERSION "\"}, \"capabilities\": []}}\r\n");
	CHECK_STR(t, say(&x, "{\"execute\":\"stop\"}\n"),
		  "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"'stop' comes after "
		  "capabilities negotiation: send qmp_capabilities\"}}\r\n");
	monitor_event(x.vmm.monitor, "RESET", NULL);
	CHECK_STR(t, say(&x, "{\"execute\":\"qmp_capabilities\",\"id\":{\"a\":[1]}}\n"),
		  "{\"return\": {}, \"id\": {\"a\":[1]}}\r\n");
	CHECK(t, strstr(say(&x, "{\"execute\":\"qmp_capabilities\"}\n"), "CommandNotFound"));
	CHECK_STR(t, did, "");
	teardown(&x);
}

static void test_commands(struct test *t)
{
	static struct fixture x;

	CHECK(t, start(&x, true));
	CHECK_STR(t, say(&x, "{\"execute\":\"query-status\"}\n"),
		  "{\"return\": {\"running\": true, \"singlestep\": false, "
		  "\"status\": \"running\"}}\r\n");
	CHECK(t,
	      strstr(say(&x, "{\"execute\":\"stop\"}\n"), "\"event\": \"STOP\"}\r\n{\"return\""));
	CHECK(t, strstr(say(&x, "{\"execute\":\"query-status\"}\n"), "\"status\": \"paused\""));
	/* Two in one packet, a line in two packets. */
	CHECK_STR(
		t,
		say(&x, "{\"execute\":\"cont\"}\r\n\r\n{\"execute\":\"system_powerdown\"}\n{\"exe"),
		"{\"return\": {}}\r\n{\"return\": {}}\r\n");
	CHECK_STR(t, say(&x, "cute\":\"system_reset\"}\n"), "{\"return\": {}}\r\n");
	CHECK_STR(t, say(&x, "{\"execute\":\"query-name\"}\n"),
		  "{\"return\": {\"name\": \"na\\\"me\"}}\r\n");
	CHECK(t, strstr(say(&x, "{\"execute\":\"query-cpus-fast\"}\n"), "\"thread-id\": 22"));
	CHECK(t, strstr(say(&x, "{\"execute\":\"query-commands\"}\n"), "{\"name\": \"quit\"}"));
	CHECK(t, strstr(say(&x, "{\"execute\":\"query-version\"}\n"), "\"major\": 7"));
	CHECK_STR(t, say(&x, "{\"execute\":\"quit\"}\n"), "{\"return\": {}}\r\n");
	CHECK_STR(t, did, "pause resume button reset host-qmp-quit ");
	teardown(&x);
}

static void test_errors(struct test *t)
{
	static const struct {
		const char *line, *want;
	} rows[] = {
		{ "nonsense\n", "this line is not valid JSON, or too large" },
		{ "[1]\n", "a command is a JSON object" },
		{ "{}\n", "the command lacks a member 'execute' with its name" },
		{ "{\"execute\":7}\n", "the command lacks a member 'execute' with its name" },
		{ "{\"execute\":\"stop\",\"x\":1}\n", "nothing else" },
		{ "{\"execute\":\"stop\",\"execute\":\"quit\"}\n", "nothing else" },
		{ "{\"execute\":\"stop\",\"arguments\":1}\n", "'arguments' is not an object" },
		{ "{\"execute\":\"boom\"}\n", "there is no command 'boom'" },
	};
	static struct fixture x;

	CHECK(t, start(&x, true));
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		CHECK(t, strstr(say(&x, rows[i].line), rows[i].want) != NULL);
		CHECK(t, strncmp(x.reply, "{\"error\": {\"class\": \"", 20) == 0);
	}
	CHECK_STR(t, did, "");
	teardown(&x);
}

static void test_too_long_a_line(struct test *t)
{
	static struct fixture x;
	static char text[70000];

	CHECK(t, start(&x, true));
	memset(text, ' ', sizeof(text) - 1);
	say(&x, text);
	CHECK(t, strstr(x.reply, "a line is too long") != NULL);
	/* It is gone; the next one is served. */
	fd_closep(&x.fd);
	x.fd = connect_to(x.path);
	CHECK(t, strstr(say(&x, ""), "\"QMP\"") != NULL);
	teardown(&x);
}

/* Who asks and never reads is served no more, and costs no more than the bound. */
static void test_client_that_does_not_read(struct test *t)
{
	static struct fixture x;
	static const char line[] = "{\"execute\":\"query-commands\"}\n";
	int accepted = 0;

	CHECK(t, start(&x, true));
	for (int i = 0; i < 100000; i++) {
		ssize_t n = write(x.fd, line, sizeof(line) - 1);

		turn(&x);
		if (n != sizeof(line) - 1) {
			break;
		}
		accepted++;
	}
	CHECK(t, accepted > 0 && accepted < 100000);
	/* It reads at last: all is answered. */
	for (int i = 0; i < 1000 && recv(x.fd, x.reply, sizeof(x.reply), MSG_DONTWAIT) > 0; i++) {
		turn(&x);
	}
	for (int i = 0; i < 20000; i++) {
		monitor_event(x.vmm.monitor, "RESET", NULL);
	}
	fd_closep(&x.fd);
	turn(&x);
	x.fd = connect_to(x.path);
	CHECK(t, strstr(say(&x, ""), "\"QMP\"") != NULL);
	teardown(&x);
}

static void test_second_client_waits(struct test *t)
{
	static struct fixture x;
	int second;
	char buf[256];

	CHECK(t, start(&x, true));
	second = connect_to(x.path);
	CHECK(t, second >= 0);
	turn(&x);
	CHECK(t, recv(second, buf, sizeof(buf), MSG_DONTWAIT) < 0);
	fd_closep(&x.fd);
	turn(&x);
	CHECK(t, recv(second, buf, sizeof(buf), MSG_DONTWAIT) > 0);
	close(second);
	teardown(&x);
}

static void test_socket_files(struct test *t)
{
	static struct fixture x, y;
	struct stat st;
	char longpath[200];

	CHECK(t, start(&x, false));
	CHECK_EQ(t, lstat(x.path, &st), 0);
	CHECK_EQ(t, st.st_mode & 0777, 0600);
	/* A live one is another guest's. */
	CHECK(t, setup(&y));
	CHECK_EQ(t, monitor_new(&y.vmm, x.path, y.error, sizeof(y.error), &y.vmm.monitor),
		 -EADDRINUSE);
	CHECK(t, strstr(y.error, "is it another guest's? give another path") != NULL);
	CHECK(t, strstr(y.error, x.path) != NULL);
	/* A dead one is replaced; another kind of file is not. */
	monitor_free(x.vmm.monitor);
	x.vmm.monitor = NULL;
	CHECK_EQ(t, monitor_new(&y.vmm, x.path, y.error, sizeof(y.error), &y.vmm.monitor), 0);
	close(open(y.path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	CHECK_EQ(t, monitor_new(&x.vmm, y.path, x.error, sizeof(x.error), &x.vmm.monitor),
		 -EADDRINUSE);
	memset(longpath, 'x', sizeof(longpath) - 1);
	longpath[sizeof(longpath) - 1] = '\0';
	CHECK_EQ(t, monitor_new(&x.vmm, longpath, x.error, sizeof(x.error), &x.vmm.monitor),
		 -ENAMETOOLONG);
	CHECK_EQ(
		t,
		monitor_new(&x.vmm, "/nonexistent/dir/m", x.error, sizeof(x.error), &x.vmm.monitor),
		-ENOENT);
	CHECK_STR(t, x.error,
		  "monitor /nonexistent/dir/m: cannot listen: No such file or directory; "
		  "check the path");
	teardown(&y);
	teardown(&x);
}

static const struct test_case cases[] = {
	{ "greeting and negotiation", test_greeting_and_negotiation },
	{ "commands", test_commands },
	{ "errors", test_errors },
	{ "too long a line", test_too_long_a_line },
	{ "a client that does not read", test_client_that_does_not_read },
	{ "a second client waits", test_second_client_waits },
	{ "socket files", test_socket_files },
	{ 0 },
};

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	return test_main(argc, argv, cases);
}
