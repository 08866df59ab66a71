/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation
 *
 * vmm_run() builds the guest from the bottom (engine, VM, back ends, board,
 * vCPUs), locks itself in (sandbox), lets the vCPUs go and serves the I/O loop
 * until somebody calls vmm_end(). All that ends or resets a guest is done on
 * the loop's thread; other threads leave a wish in `wanted` and wake it.
 *
 * Invariants
 *  1. `lock` guards wanted, debug_value and failed; it is never held over a call.
 *  2. machine_reset() and vcpu_group_reset() are only called with all vCPUs paused.
 *  3. vmm_free() takes a guest apart that was built to any point.
 */
#include "vmm/vmm.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/stat.h>

#include "base/hint.h"
#include "base/unix_socket.h"
#include "vmm/monitor.h"
#include "vmm/report.h"
#include "vmm/sandbox.h"
#include "vmm/vmm_int.h"

/* Programs that connect at once; more wait in their connect(). */
#define VSOCK_BACKLOG 64

/* --- what devices may ask for -------------------------------------------------- */

static void env_irq_set(void *opaque, unsigned gsi, bool level)
{
	gsi_line_set(&((struct vmm *)opaque)->gsi, gsi, level);
}

static int env_msi_send(void *opaque, uint64_t address, uint32_t data)
{
	return gsi_msi_send(&((struct vmm *)opaque)->gsi, address, data);
}

static int env_ioeventfd_add(void *opaque, enum dev_space space, uint64_t addr, unsigned len,
			     const uint64_t *match, int eventfd)
{
	return gsi_ioeventfd(&((struct vmm *)opaque)->gsi, true, space, addr, len, match, eventfd);
}

static void env_ioeventfd_del(void *opaque, enum dev_space space, uint64_t addr, unsigned len,
			      const uint64_t *match, int eventfd)
{
	gsi_ioeventfd(&((struct vmm *)opaque)->gsi, false, space, addr, len, match, eventfd);
}

static int env_irqfd_set(void *opaque, int eventfd, uint64_t address, uint32_t data, int *route)
{
	return gsi_irqfd_set(&((struct vmm *)opaque)->gsi, eventfd, address, data, route);
}

static void env_irqfd_clear(void *opaque, int eventfd, int *route)
{
	gsi_irqfd_clear(&((struct vmm *)opaque)->gsi, eventfd, route);
}

static void serve_wanted(void *opaque);

static void env_request(void *opaque, enum dev_request what, unsigned value)
{
	struct vmm *v = opaque;

	pthread_mutex_lock(&v->lock);
	v->wanted |= BIT(what);
	if (what == DEV_REQUEST_DEBUG_EXIT) {
		v->debug_value = value;
	}
	pthread_mutex_unlock(&v->lock);
	vcpu_group_hold(&v->cpus);
	loop_post(v->loop, serve_wanted, v);
}

static const struct dev_env_impl env_impl = {
	.irq_set = env_irq_set,
	.msi_send = env_msi_send,
	.ioeventfd_add = env_ioeventfd_add,
	.ioeventfd_del = env_ioeventfd_del,
	.irqfd_set = env_irqfd_set,
	.irqfd_clear = env_irqfd_clear,
	.request = env_request,
};

static void vcpu_request(void *opaque, enum dev_request what)
{
	env_request(opaque, what, 0);
}

static void vcpu_failed(void *opaque, struct vcpu *c)
{
	struct vmm *v = opaque;

	pthread_mutex_lock(&v->lock);
	if (!v->failed) {
		v->failed = c;
	}
	pthread_mutex_unlock(&v->lock);
	loop_post(v->loop, serve_wanted, v);
}

static const struct vcpu_events vcpu_events = { .failed = vcpu_failed, .request = vcpu_request };

/* --- steering --------------------------------------------------------------------- */

void vmm_end(struct vmm *v, int status, const char *reason)
{
	if (v->status < 0) {
		v->status = status;
		v->end_reason = reason;
	}
	loop_quit(v->loop);
}

void vmm_pause(struct vmm *v)
{
	if (!vcpu_group_is_paused(&v->cpus)) {
		vcpu_group_pause(&v->cpus);
		monitor_event(v->monitor, "STOP", NULL);
	}
}

void vmm_resume(struct vmm *v)
{
	if (vcpu_group_is_paused(&v->cpus)) {
		vcpu_group_resume(&v->cpus);
		monitor_event(v->monitor, "RESUME", NULL);
	}
}

bool vmm_is_paused(struct vmm *v)
{
	return vcpu_group_is_paused(&v->cpus);
}

void vmm_power_button(struct vmm *v)
{
	machine_power_button(v->machine);
	monitor_event(v->monitor, "POWERDOWN", NULL);
}

void vmm_reset(struct vmm *v, bool by_guest)
{
	bool was_paused = vcpu_group_is_paused(&v->cpus);
	int r;

	if (by_guest && reset_guard_trips(&v->reset_guard, loop_now_ns(v->loop))) {
		snprintf(v->error, sizeof(v->error),
			 "guest %s: has reset itself %u times in %lld seconds: is its kernel or "
			 "disk broken?",
			 v->config->name, RESET_GUARD_MAX + 1, RESET_GUARD_WINDOW_NS / NS_PER_S);
		vmm_end(v, 1, "guest-panic");
		return;
	}
	vcpu_group_pause(&v->cpus);
	/* This reset serves all who have asked until now. */
	pthread_mutex_lock(&v->lock);
	v->wanted &= ~BIT(DEV_REQUEST_RESET);
	pthread_mutex_unlock(&v->lock);
	r = machine_reset(v->machine, v->error, sizeof(v->error));
	if (r == 0) {
		r = vm_reset(&v->vm);
		r = r < 0 ? r : vcpu_group_reset(&v->cpus, machine_start(v->machine), false);
		if (r < 0) {
			snprintf(v->error, sizeof(v->error), "engine: cannot reset the guest: %s",
				 strerror(-r));
		}
	}
	if (r < 0) {
		vmm_end(v, 1, "host-error");
		return;
	}
	monitor_event(v->monitor, "RESET",
		      by_guest ? "{\"guest\": true, \"reason\": \"guest-reset\"}"
			       : "{\"guest\": false, \"reason\": \"host-qmp-system-reset\"}");
	if (!was_paused) {
		vcpu_group_resume(&v->cpus);
	}
}

static void serve_failure(struct vmm *v, struct vcpu *c)
{
	vcpu_group_pause(&v->cpus);
	v->report = report_crash(c, v->mem, v->console);
	snprintf(v->error, sizeof(v->error), "guest %s: stopped", v->config->name);
	vmm_end(v, 1, "guest-panic");
}

/* What the guest, or its processors, asked for. */
static void serve_wanted(void *opaque)
{
	struct vmm *v = opaque;
	unsigned wanted, value;
	struct vcpu *failed;

	pthread_mutex_lock(&v->lock);
	wanted = v->wanted;
	value = v->debug_value;
	failed = v->failed;
	v->wanted = 0;
	pthread_mutex_unlock(&v->lock);
	if (v->status >= 0) {
		return;
	}
	if (wanted & BIT(DEV_REQUEST_DEBUG_EXIT)) {
		vmm_end(v, (int)((value << 1 | 1) & 0xff), "guest-shutdown");
	} else if (failed) {
		serve_failure(v, failed);
	} else if (wanted & BIT(DEV_REQUEST_POWEROFF)) {
		vmm_end(v, 0, "guest-shutdown");
	} else if (wanted & BIT(DEV_REQUEST_RESET)) {
		vmm_reset(v, true);
	}
}

static void on_quit_key(void *opaque)
{
	vmm_end(opaque, 0, "host-ui");
}

static void on_signal(void *opaque, uint32_t events)
{
	struct signalfd_siginfo info;
	struct vmm *v = opaque;

	if (read(v->signal_fd, &info, sizeof(info)) == sizeof(info)) {
		vmm_end(v, 128 + (int)info.ssi_signo, "host-signal");
	}
}

/* --- building ----------------------------------------------------------------------- */

static int fail(struct vmm *v, int err, const char *what)
{
	snprintf(v->error, sizeof(v->error), "%s: %s", what, strerror(-err));
	return err;
}

static int build_signals(struct vmm *v)
{
	sigset_t set;
	int r;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	/* Every thread is started later and inherits it. */
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	/* A write beyond the limit of a file's size fails; it need not end the guest. */
	signal(SIGXFSZ, SIG_IGN);
	v->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (v->signal_fd < 0) {
		return fail(v, -errno, "signals");
	}
	r = loop_watch_fd(v->loop, v->signal_fd, EPOLLIN, on_signal, v);
	return r < 0 ? fail(v, r, "signals") : 0;
}

static int build_base(struct vmm *v)
{
	bool has_tty = v->config->console == VMM_CONSOLE_STDIO && isatty(STDIN_FILENO);
	int r = janitor_start(&v->janitor, has_tty ? STDIN_FILENO : -1,
			      v->config->monitor_path || v->config->vsock_path);

	if (r < 0) {
		return fail(v, r, "cannot start a process that cleans up");
	}
	if (v->config->vsock_path) {
		r = connector_start(&v->connector, v->config->vsock_path);
		if (r < 0) {
			return fail(v, r, "cannot start a process that connects vsock");
		}
	}
	r = loop_new(NULL, &v->loop);
	if (r == 0) {
		r = mem_new(&v->mem);
	}
	if (r == 0) {
		r = bus_new(&v->bus);
	}
	return r < 0 ? fail(v, r, "cannot start") : build_signals(v);
}

static int build_engine(struct vmm *v)
{
	char reason[sizeof(v->engine_reason)];
	int r = kvm_open(v->config->engine, reason, sizeof(reason), &v->kvm);

	if (r < 0) {
		snprintf(v->error, sizeof(v->error), "engine: %s", reason);
		return r;
	}
	memcpy(v->engine_reason, reason, sizeof(reason));
	r = vm_init(&v->vm, v->kvm, v->error, sizeof(v->error));
	if (r < 0) {
		return r;
	}
	r = gsi_init(&v->gsi, &v->vm);
	return r < 0 ? fail(v, r, "cannot start") : 0;
}

static int build_disks(struct vmm *v)
{
	const struct vmm_config *c = v->config;
	int r = 0;

	for (unsigned i = 0; i < c->disk_count && r == 0; i++) {
		r = block_open(v->loop, c->disks[i].path, &c->disks[i].options, v->error,
			       sizeof(v->error), &v->blocks[i]);
	}
	return r;
}

static int build_nets(struct vmm *v)
{
	const struct vmm_config *c = v->config;
	int r = 0;

	for (unsigned i = 0; i < c->net_count && r == 0; i++) {
		const struct vmm_net *n = &c->nets[i];
		struct netio_user_options user = { .forwards = n->forwards,
						   .forward_count = n->forward_count };

		r = n->kind == VMM_NET_USER ? netio_user_new(v->loop, &user, v->error,
							     sizeof(v->error), &v->netios[i])
					    : netio_tap_new(v->loop, n->ifname, 1, v->error,
							    sizeof(v->error), &v->netios[i]);
	}
	return r;
}

/* The file is emptied when all is built, not before: see start_console_file(). */
static int build_console_file(struct vmm *v)
{
	const char *path = v->config->console_path;
	int flags = O_WRONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
	AUTO_FD fd = open(path, flags | O_CREAT | O_EXCL, 0644);
	int r;

	v->console_is_new = fd >= 0;
	if (fd < 0 && errno == EEXIST) {
		fd = open(path, flags);
	}
	r = fd < 0 ? -errno : chardev_fd_new(v->loop, -1, fd, &v->console);
	if (r < 0) {
		snprintf(v->error, sizeof(v->error), "console %s: cannot be opened: %s%s", path,
			 strerror(-r), hint_path(r));
		return r;
	}
	v->console_fd = TAKE_FD(fd);
	return 0;
}

static int start_console_file(struct vmm *v)
{
	struct stat st;

	v->console_is_new = false;
	if (v->console_fd < 0 || fstat(v->console_fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		return 0;
	}
	return ftruncate(v->console_fd, 0) < 0 ? fail(v, -errno, "console: cannot be emptied") : 0;
}

static int build_console(struct vmm *v)
{
	const struct vmm_config *c = v->config;
	int r;

	switch (c->console) {
	case VMM_CONSOLE_STDIO:
		r = chardev_stdio_new(v->loop, on_quit_key, v, &v->console);
		break;
	case VMM_CONSOLE_PTY:
		r = chardev_pty_new(v->loop, &v->console);
		break;
	default:
		return build_console_file(v);
	}
	return r < 0 ? fail(v, r, "console: cannot be opened") : 0;
}

static int connect_host(void *opaque, uint32_t port)
{
	return connector_connect(&((struct vmm *)opaque)->connector, port);
}

static int build_vsock(struct vmm *v)
{
	const char *path = v->config->vsock_path;
	int r;

	if (!path) {
		return 0;
	}
	r = unix_listen(path, VSOCK_BACKLOG, &v->vsock_fd);
	if (r < 0) {
		snprintf(v->error, sizeof(v->error), "vsock %s: cannot listen: %s%s", path,
			 strerror(-r), hint_path(r));
		return r;
	}
	r = janitor_add_socket(&v->janitor, path);
	return r < 0 ? fail(v, r, "vsock: the process that cleans up has gone") : 0;
}

/* A locally administered address of the range that virtual machines use. */
static int make_mac(uint8_t mac[6])
{
	static const uint8_t prefix[3] = { 0x52, 0x54, 0x00 };

	memcpy(mac, prefix, sizeof(prefix));
	return getrandom(mac + 3, 3, 0) == 3 ? 0 : -EIO;
}

static int build_machine(struct vmm *v)
{
	const struct vmm_config *c = v->config;
	struct machine_config m = {
		.cpus = c->cpus,
		.memory_bytes = c->memory_bytes,
		.console = v->console,
		.disk_count = c->disk_count,
		.nic_count = c->net_count,
		.rng = true,
		.balloon = true,
		.debug_exit = c->debug_exit,
		.vsock = { c->vsock_cid, v->vsock_fd, connect_host, v },
		.kernel = c->kernel,
		.initrd = c->initrd,
		.cmdline = c->cmdline,
	};

	for (unsigned i = 0; i < c->disk_count; i++) {
		m.disks[i].block = v->blocks[i];
	}
	for (unsigned i = 0; i < c->net_count; i++) {
		m.nics[i].netio = v->netios[i];
		if (make_mac(m.nics[i].mac) < 0) {
			return fail(v, -EIO, "network card: no random address");
		}
	}
	v->env = (struct dev_env){
		.impl = &env_impl, .opaque = v, .mem = v->mem, .loop = v->loop, .bus = v->bus
	};
	return machine_new(&v->env, &m, v->error, sizeof(v->error), &v->machine);
}

static int build_cpus(struct vmm *v)
{
	int r = vm_add_memory(&v->vm, v->mem, v->error, sizeof(v->error));

	if (r == 0) {
		r = vcpu_group_init(&v->cpus, &v->vm, v->bus, v->config->cpus, &vcpu_events, v,
				    v->error, sizeof(v->error));
	}
	if (r < 0) {
		return r;
	}
	r = vcpu_group_reset(&v->cpus, machine_start(v->machine), true);
	return r < 0 ? fail(v, r, "engine: cannot start the vCPUs") : 0;
}

static int build_threads(struct vmm *v)
{
	int r = vcpu_group_start(&v->cpus);

	return r < 0 ? fail(v, r, "engine: cannot start the vCPUs' threads") : 0;
}

static int build_monitor(struct vmm *v)
{
	int r = 0;

	if (v->config->monitor_path) {
		r = monitor_new(v, v->config->monitor_path, v->error, sizeof(v->error),
				&v->monitor);
		if (r == 0) {
			r = janitor_add_socket(&v->janitor, v->config->monitor_path);
		}
	}
	return r;
}

static struct sandbox_options sandbox_options(const struct vmm *v)
{
	struct sandbox_options o = { .soft_engine = kvm_engine(v->kvm) == KVM_ENGINE_SOFT };

	for (unsigned i = 0; i < v->config->net_count; i++) {
		o.user_net |= v->config->nets[i].kind == VMM_NET_USER;
	}
	return o;
}

/* All is open: from here on nothing is found by its path. */
static int build_walls(struct vmm *v)
{
	struct sandbox_options options = sandbox_options(v);

	if (v->config->no_sandbox || v->config->dry_run) {
		return 0;
	}
	return sandbox_close_files(&options, v->error, sizeof(v->error));
}

static int build(struct vmm *v)
{
	static int (*const steps[])(struct vmm * v) = {
		build_base,    build_engine,  build_disks, build_nets,  build_console, build_vsock,
		build_machine, build_monitor, build_cpus,  build_walls, build_threads,
	};
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(steps) && r == 0; i++) {
		r = steps[i](v);
	}
	return r;
}

static void vmm_free(struct vmm *v)
{
	vcpu_group_done(&v->cpus);
	monitor_free(v->monitor);
	machine_free(v->machine);
	chardev_free(v->console);
	if (v->console_is_new) {
		unlink(v->config->console_path);
	}
	for (unsigned i = 0; i < v->config->net_count; i++) {
		netio_free(v->netios[i]);
	}
	for (unsigned i = 0; i < v->config->disk_count; i++) {
		block_close(v->blocks[i]);
	}
	gsi_done(&v->gsi);
	vm_done(&v->vm);
	kvm_close(v->kvm);
	bus_free(v->bus);
	mem_free(v->mem);
	if (v->loop) {
		loop_unwatch_fd(v->loop, v->signal_fd);
	}
	fd_closep(&v->signal_fd);
	fd_closep(&v->vsock_fd);
	loop_free(v->loop);
	connector_stop(&v->connector);
	janitor_finish(&v->janitor);
}

/* Once nothing can fail any more: an error is one line, with none before it. */
static void say_start(const struct vmm *v)
{
	fprintf(stderr, "lodge: engine %s: %s\n", kvm_engine_name(kvm_engine(v->kvm)),
		v->engine_reason);
	if (v->config->console == VMM_CONSOLE_PTY) {
		fprintf(stderr, "lodge: console on %s\n", chardev_path(v->console));
	}
}

static void say_what_would_run(const struct vmm *v)
{
	static const char *const kinds[] = {
		[MACHINE_KERNEL_BZIMAGE] = "Linux bzImage",
		[MACHINE_KERNEL_PVH] = "ELF with a PVH note",
		[MACHINE_KERNEL_MULTIBOOT] = "multiboot image",
	};
	const struct vmm_config *c = v->config;

	printf("guest %s: %u vCPU%s, %llu MiB, %u disk%s, %u network card%s, kernel %s (%s)\n",
	       c->name, c->cpus, c->cpus == 1 ? "" : "s",
	       (unsigned long long)(c->memory_bytes >> 20), c->disk_count,
	       c->disk_count == 1 ? "" : "s", c->net_count, c->net_count == 1 ? "" : "s", c->kernel,
	       kinds[machine_start(v->machine)->kind]);
}

static void say_end(struct vmm *v)
{
	char data[96];

	snprintf(data, sizeof(data), "{\"guest\": %s, \"reason\": \"%s\"}",
		 strncmp(v->end_reason, "guest", 5) == 0 ? "true" : "false", v->end_reason);
	monitor_event(v->monitor, "SHUTDOWN", data);
}

static int run_to_end(struct vmm *v)
{
	struct sandbox_options options = sandbox_options(v);

	if (start_console_file(v) < 0) {
		return 1;
	}
	if (!v->config->no_sandbox &&
	    sandbox_filter_calls(&options, v->error, sizeof(v->error)) < 0) {
		return 1;
	}
	vcpu_group_resume(&v->cpus);
	loop_run(v->loop);
	say_end(v);
	return v->status;
}

int vmm_run(const struct vmm_config *c)
{
	struct vmm *v = calloc(1, sizeof(*v));
	int status = 1;

	if (!v) {
		fprintf(stderr, "lodge: out of memory\n");
		return 1;
	}
	v->config = c;
	v->status = -1;
	v->signal_fd = -1;
	v->vsock_fd = v->console_fd = -1;
	v->janitor.pipe_fd = -1;
	v->connector.fd = -1;
	pthread_mutex_init(&v->lock, NULL);
	if (build(v) == 0) {
		say_start(v);
		if (c->dry_run) {
			say_what_would_run(v);
			status = 0;
		} else {
			status = run_to_end(v);
		}
	}
	vmm_free(v);
	/* The terminal is itself again: now lines come out straight. */
	if (v->error[0]) {
		fprintf(stderr, "lodge: %s\n", v->error);
	}
	if (v->report) {
		fputs(v->report, stderr);
	}
	free(v->report);
	pthread_mutex_destroy(&v->lock);
	free(v);
	return status;
}
