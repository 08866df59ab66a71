/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation. The listener is watched while there is no client. A
 * client's input is cut into lines; each line is one command and is answered
 * before the next is looked at. Output that the client does not take is kept
 * up to OUT_MAX; until it is taken, no more input is read, so a client that
 * floods and never reads costs a bounded amount. Who breaks the bounds is
 * disconnected.
 *
 * All on the loop's thread.
 */
#include "vmm/monitor.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/hint.h"
#include "base/unix_socket.h"
#include "vmm/json.h"
#include "vmm/vmm_int.h"

#define LINE_MAX_BYTES 65536u
#define OUT_MAX_BYTES  262144u
#define BACKLOG        4

struct monitor {
	struct vmm *vmm;
	int listen_fd, fd; /* fd -1: no client */
	bool negotiated;
	char in[LINE_MAX_BYTES];
	size_t in_len;
	char *out;
	size_t out_len, out_cap;
	struct json json;
};

/* What a command function gets, and where its answer goes. */
struct call {
	struct monitor *m;
	const struct json_token *arguments; /* an object, or NULL */
	FILE *reply;                        /* the value of "return"; nothing written: {} */
	const char *error_class;            /* set: it failed */
	char error[160];
	bool end_after; /* quit once the answer is out */
};

static void drop_client(struct monitor *m);

/* --- output ------------------------------------------------------------------------ */

static void on_client(void *opaque, uint32_t events);

static void watch_client(struct monitor *m)
{
	loop_watch_fd(m->vmm->loop, m->fd, m->out_len ? EPOLLOUT : EPOLLIN, on_client, m);
}

/* Give the socket what it takes. */
static void flush_out(struct monitor *m)
{
	size_t done = 0;

	while (done < m->out_len) {
		ssize_t n =
			send(m->fd, m->out + done, m->out_len - done, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n < 0 && errno != EAGAIN) {
			drop_client(m);
			return;
		}
		if (n < 0) {
			break;
		}
		done += (size_t)n;
	}
	memmove(m->out, m->out + done, m->out_len - done);
	m->out_len -= done;
}

static void send_text(struct monitor *m, const char *text, size_t len)
{
	if (m->fd < 0) {
		return;
	}
	if (len > OUT_MAX_BYTES - m->out_len) {
		drop_client(m);
		return;
	}
	if (m->out_len + len > m->out_cap) {
		char *bigger = realloc(m->out, m->out_len + len);

		if (!bigger) {
			drop_client(m);
			return;
		}
		m->out = bigger;
		m->out_cap = m->out_len + len;
	}
	memcpy(m->out + m->out_len, text, len);
	m->out_len += len;
	flush_out(m);
	if (m->fd >= 0) {
		watch_client(m);
	}
}

static void __attribute__((format(printf, 2, 3))) send_line(struct monitor *m, const char *fmt, ...)
{
	char *text;
	va_list ap;
	int len;

	va_start(ap, fmt);
	len = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (len < 0) {
		drop_client(m);
		return;
	}
	send_text(m, text, (size_t)len);
	free(text);
}

/* A string as JSON has it. */
static void put_string(FILE *f, const char *s)
{
	fputc('"', f);
	for (; *s; s++) {
		if (*s == '"' || *s == '\\') {
			fprintf(f, "\\%c", *s);
		} else if ((unsigned char)*s < 0x20) {
			fprintf(f, "\\u%04x", (unsigned char)*s);
		} else {
			fputc(*s, f);
		}
	}
	fputc('"', f);
}

/* --- commands ----------------------------------------------------------------------- */

static void __attribute__((format(printf, 3, 4)))
call_fail(struct call *c, const char *cls, const char *fmt, ...)
{
	va_list ap;

	c->error_class = cls;
	va_start(ap, fmt);
	vsnprintf(c->error, sizeof(c->error), fmt, ap);
	va_end(ap);
}

static void cmd_capabilities(struct call *c)
{
	c->m->negotiated = true;
}

static void cmd_query_status(struct call *c)
{
	bool paused = vmm_is_paused(c->m->vmm);

	fprintf(c->reply, "{\"running\": %s, \"singlestep\": false, \"status\": \"%s\"}",
		paused ? "false" : "true", paused ? "paused" : "running");
}

static void cmd_stop(struct call *c)
{
	vmm_pause(c->m->vmm);
}

static void cmd_cont(struct call *c)
{
	vmm_resume(c->m->vmm);
}

static void cmd_powerdown(struct call *c)
{
	vmm_power_button(c->m->vmm);
}

static void cmd_reset(struct call *c)
{
	vmm_reset(c->m->vmm, false);
}

static void cmd_quit(struct call *c)
{
	c->end_after = true;
}

#define VERSION_OBJECT                                                         \
	"{\"qemu\": {\"major\": 7, \"minor\": 2, \"micro\": 0}, \"package\": " \
	"\"lodge " LODGE_VERSION "\"}"

static void cmd_query_version(struct call *c)
{
	fputs(VERSION_OBJECT, c->reply);
}

static void cmd_query_name(struct call *c)
{
	fputs("{\"name\": ", c->reply);
	put_string(c->reply, c->m->vmm->config->name);
	fputc('}', c->reply);
}

static void cmd_query_kvm(struct call *c)
{
	/* `enabled` is the kernel's; guests run either way. */
	fprintf(c->reply, "{\"enabled\": %s, \"present\": true}",
		kvm_engine(c->m->vmm->kvm) == KVM_ENGINE_KERNEL ? "true" : "false");
}

static void cmd_query_cpus(struct call *c)
{
	const struct vcpu_group *g = &c->m->vmm->cpus;

	fputc('[', c->reply);
	for (unsigned i = 0; i < g->count; i++) {
		fprintf(c->reply,
			"%s{\"thread-id\": %d, \"props\": {\"core-id\": %u, \"thread-id\": 0, "
			"\"socket-id\": 0}, \"qom-path\": \"/machine/cpu[%u]\", "
			"\"cpu-index\": %u, \"target\": \"x86_64\"}",
			i ? ", " : "", g->cpus[i].thread_id, i, i, i);
	}
	fputc(']', c->reply);
}

static void cmd_query_commands(struct call *c);

static const struct command {
	const char *name;
	void (*fn)(struct call *c);
} commands[] = {
	{ "qmp_capabilities", cmd_capabilities },
	{ "query-status", cmd_query_status },
	{ "stop", cmd_stop },
	{ "cont", cmd_cont },
	{ "system_powerdown", cmd_powerdown },
	{ "system_reset", cmd_reset },
	{ "quit", cmd_quit },
	{ "query-version", cmd_query_version },
	{ "query-name", cmd_query_name },
	{ "query-kvm", cmd_query_kvm },
	{ "query-cpus-fast", cmd_query_cpus },
	{ "query-commands", cmd_query_commands },
};

static void cmd_query_commands(struct call *c)
{
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		fprintf(c->reply, "%s{\"name\": \"%s\"}", i ? ", " : "[", commands[i].name);
	}
	fputc(']', c->reply);
}

static const struct command *find_command(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		if (strcmp(commands[i].name, name) == 0) {
			return &commands[i];
		}
	}
	return NULL;
}

/* --- one line ------------------------------------------------------------------------- */

/* Look at the object, call the command. */
static void dispatch(struct call *c, const struct json *j)
{
	const struct json_token *top = j->tokens, *execute, *id;
	const struct command *cmd;
	char name[64];

	if (top->kind != JSON_OBJECT) {
		call_fail(c, "GenericError", "a command is a JSON object");
		return;
	}
	execute = json_get(j, top, "execute");
	id = json_get(j, top, "id");
	c->arguments = json_get(j, top, "arguments");
	if (!execute || !json_string(j, execute, name, sizeof(name))) {
		call_fail(c, "GenericError", "the command lacks a member 'execute' with its name");
		return;
	}
	if (json_object_size(j, top) != 1u + (id != NULL) + (c->arguments != NULL)) {
		call_fail(c, "GenericError",
			  "a command has 'execute', 'arguments' and 'id', nothing else");
		return;
	}
	if (c->arguments && c->arguments->kind != JSON_OBJECT) {
		call_fail(c, "GenericError", "'arguments' is not an object");
		return;
	}
	cmd = find_command(name);
	if (!cmd) {
		call_fail(c, "CommandNotFound", "there is no command '%.64s'", name);
	} else if (!c->m->negotiated && cmd->fn != cmd_capabilities) {
		call_fail(c, "CommandNotFound",
			  "'%.64s' comes after capabilities negotiation: send qmp_capabilities",
			  name);
	} else if (c->m->negotiated && cmd->fn == cmd_capabilities) {
		call_fail(c, "CommandNotFound", "capabilities are negotiated already");
	} else {
		cmd->fn(c);
	}
}

/* The answer's end: the client's own id, as it was written. */
static void send_answer(struct call *c, const char *value, const struct json_token *id)
{
	struct monitor *m = c->m;
	char *text = NULL;
	size_t size = 0;
	FILE *f = open_memstream(&text, &size);

	if (!f) {
		drop_client(m);
		return;
	}
	if (c->error_class) {
		fprintf(f, "{\"error\": {\"class\": \"%s\", \"desc\": ", c->error_class);
		put_string(f, c->error);
		fputc('}', f);
	} else {
		fprintf(f, "{\"return\": %s", value[0] ? value : "{}");
	}
	if (id) {
		fprintf(f, ", \"id\": %.*s", (int)id->len, m->json.text + id->start);
	}
	fputs("}\r\n", f);
	fclose(f);
	if (text) {
		send_text(m, text, size);
	}
	free(text);
}

static void serve_line(struct monitor *m, const char *line, size_t len)
{
	const struct json_token *id = NULL;
	struct call c = { .m = m };
	char *value = NULL;
	size_t size = 0;

	if (strspn(line, " \t\r") == len) {
		return;
	}
	c.reply = open_memstream(&value, &size);
	if (!c.reply) {
		drop_client(m);
		return;
	}
	if (json_parse(&m->json, line, len) < 0) {
		call_fail(&c, "GenericError", "this line is not valid JSON, or too large");
	} else {
		id = json_get(&m->json, m->json.tokens, "id");
		dispatch(&c, &m->json);
	}
	fclose(c.reply);
	if (value) {
		send_answer(&c, value, id);
	}
	free(value);
	if (c.end_after) {
		vmm_end(m->vmm, 0, "host-qmp-quit");
	}
}

/* --- the client ------------------------------------------------------------------------ */

/* Serve the whole lines that are there, as long as answers go out. */
static void serve_lines(struct monitor *m)
{
	char *end;

	while (m->fd >= 0 && !m->out_len && (end = memchr(m->in, '\n', m->in_len))) {
		size_t len = (size_t)(end - m->in);

		*end = '\0';
		serve_line(m, m->in, len);
		m->in_len -= MIN(len + 1, m->in_len);
		memmove(m->in, end + 1, m->in_len);
	}
	if (m->fd >= 0 && !m->out_len && m->in_len == sizeof(m->in)) {
		send_line(m, "{\"error\": {\"class\": \"GenericError\", "
			     "\"desc\": \"a line is too long\"}}\r\n");
		drop_client(m);
	}
}

static void on_client(void *opaque, uint32_t events)
{
	struct monitor *m = opaque;
	ssize_t n;

	if (m->out_len) {
		flush_out(m);
	} else {
		n = recv(m->fd, m->in + m->in_len, sizeof(m->in) - m->in_len, MSG_DONTWAIT);
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
			drop_client(m);
			return;
		}
		m->in_len += n > 0 ? (size_t)n : 0;
	}
	if (m->fd >= 0) {
		serve_lines(m);
	}
	if (m->fd >= 0) {
		watch_client(m);
	}
}

static void on_connect(void *opaque, uint32_t events)
{
	struct monitor *m = opaque;
	int fd = accept4(m->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0) {
		return;
	}
	loop_unwatch_fd(m->vmm->loop, m->listen_fd);
	m->fd = fd;
	m->negotiated = false;
	m->in_len = m->out_len = 0;
	send_line(m, "{\"QMP\": {\"version\": " VERSION_OBJECT ", \"capabilities\": []}}\r\n");
}

static void drop_client(struct monitor *m)
{
	if (m->fd < 0) {
		return;
	}
	loop_unwatch_fd(m->vmm->loop, m->fd);
	fd_closep(&m->fd);
	m->negotiated = false;
	m->in_len = m->out_len = 0;
	loop_watch_fd(m->vmm->loop, m->listen_fd, EPOLLIN, on_connect, m);
}

void monitor_event(struct monitor *m, const char *name, const char *data)
{
	uint64_t now_us;

	if (!m || m->fd < 0 || !m->negotiated) {
		return;
	}
	now_us = clock_wall_ns() / 1000;
	send_line(m,
		  "{\"timestamp\": {\"seconds\": %llu, \"microseconds\": %llu}, "
		  "\"event\": \"%s\"%s%s}\r\n",
		  (unsigned long long)(now_us / 1000000), (unsigned long long)(now_us % 1000000),
		  name, data ? ", \"data\": " : "", data ? data : "");
}

/* --- opening ------------------------------------------------------------------------------ */

int monitor_new(struct vmm *v, const char *path, char *error, size_t error_size,
		struct monitor **ret)
{
	AUTO_FD fd = -1;
	struct monitor *m;
	int r = unix_listen(path, BACKLOG, &fd);

	if (r < 0) {
		snprintf(error, error_size, "monitor %s: cannot listen: %s%s", path, strerror(-r),
			 hint_path(r));
		return r;
	}
	m = calloc(1, sizeof(*m));
	if (!m) {
		unlink(path);
		snprintf(error, error_size, "monitor: out of memory");
		return -ENOMEM;
	}
	m->vmm = v;
	m->fd = -1;
	m->listen_fd = TAKE_FD(fd);
	r = loop_watch_fd(v->loop, m->listen_fd, EPOLLIN, on_connect, m);
	if (r < 0) {
		unlink(path);
		monitor_free(m);
		snprintf(error, error_size, "monitor %s: %s", path, strerror(-r));
		return r;
	}
	*ret = m;
	return 0;
}

void monitor_free(struct monitor *m)
{
	if (!m) {
		return;
	}
	drop_client(m);
	loop_unwatch_fd(m->vmm->loop, m->listen_fd);
	fd_closep(&m->listen_fd);
	free(m->out);
	free(m);
}
