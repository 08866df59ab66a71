/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli/run_options.h"

#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/assert.h"
#include "block/image.h"
#include "base/unix_socket.h"

/* 0 to 2 are the hypervisor, the local end and the host; all ones means any. */
#define VSOCK_CID_MIN 3u
#define VSOCK_CID_MAX (UINT32_MAX - 1)
/* Behind it comes "_" and a port. */
#define VSOCK_PATH_MAX (UNIX_PATH_MAX - 11)

const char run_help[] =
	"usage: lodge run --kernel FILE [OPTION]...\n"
	"\n"
	"Run one guest in this process until it powers off.\n"
	"\n"
	"  --engine auto|kvm|soft    the processor: /dev/kvm, emulation, or the faster (auto)\n"
	"  --cpus N                  number of processors, 1 to 255 (1)\n"
	"  --memory SIZE             memory, with unit K, M, G or T; without one MiB (512M)\n"
	"  --kernel FILE             kernel: bzImage, ELF with PVH note, or multiboot image\n"
	"  --initrd FILE             initial RAM disk; multiboot: modules FILE,FILE...\n"
	"  --cmdline STRING          kernel command line (console=ttyS0)\n"
	"  --disk FILE[,format=raw|qcow2][,readonly]\n"
	"                            a disk; may be given up to 16 times; qcow2 may have also\n"
	"                            backing=FILE,backing-format=raw|qcow2 (again for the next\n"
	"                            one behind), backing=header (trust the images), "
	"data-file=FILE\n"
	"  --net user[,forward=HOST:GUEST]...\n"
	"                            a network card with the host's network behind it, no rights\n"
	"                            needed; forward: the host's TCP port HOST (on 127.0.0.1)\n"
	"                            leads to the guest's port GUEST\n"
	"  --net tap=IF              a network card on the existing tap interface IF\n"
	"  --net none                no network card (default)\n"
	"  --console stdio|pty|FILE  where the first serial port goes (stdio; Ctrl-A x ends)\n"
	"  --monitor PATH            control socket, QMP's words in JSON lines\n"
	"  --vsock CID,path=SOCKET   sockets between guest and host, the guest being number CID "
	"(3\n"
	"                            or more): a program connects to SOCKET and says \"CONNECT\n"
	"                            PORT\"; port PORT of the host is the socket SOCKET_PORT\n"
	"  --name STRING             name of the guest in messages\n"
	"  --debug-exit              a write of V to port 0xf4 ends with status V*2+1\n"
	"  --dry-run                 set everything up, say what would run, and end\n"
	"  --no-sandbox              for debugging: do not lock the process in\n"
	"  --version, --help\n"
	"\n"
	"Exit status: 0 power-off or quit, 1 failure, 2 wrong usage, 128+N ended by signal N.\n";

struct parser {
	struct run_options *o;
	char *error;
	size_t error_size;
	bool no_net;
};

static bool __attribute__((format(printf, 2, 3))) fail(struct parser *p, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(p->error, p->error_size, fmt, ap);
	va_end(ap);
	return false;
}

/* Digits at *s; moves behind them. False: none, or too large. */
static bool read_number(const char **s, uint64_t *ret)
{
	const char *at = *s;
	uint64_t v = 0;

	for (; *at >= '0' && *at <= '9'; at++) {
		if (__builtin_mul_overflow(v, 10, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(*at - '0'), &v)) {
			return false;
		}
	}
	*ret = v;
	if (at == *s) {
		return false;
	}
	*s = at;
	return true;
}

/* Bits to shift for a unit; -1: there is none such. "M", "MB" and "MiB" are the same. */
static int unit_shift(const char *unit)
{
	static const char letters[] = "KMGT";
	const char *at = *unit ? strchr(letters, *unit & ~0x20) : NULL;

	if (!*unit) {
		return 20;
	}
	if (!at || (unit[1] && strcmp(unit + 1, "B") != 0 && strcmp(unit + 1, "iB") != 0)) {
		return -1;
	}
	return 10 * (int)(at - letters + 1);
}

/* --- one function an option ------------------------------------------------------ */

static bool opt_engine(struct parser *p, const char *value)
{
	return kvm_engine_parse(value, &p->o->config.engine) ||
	       fail(p, "--engine %s: there is no such engine; give auto, kvm or soft", value);
}

static bool opt_cpus(struct parser *p, const char *value)
{
	const char *at = value;
	uint64_t n;

	if (!read_number(&at, &n) || *at || n < 1 || n > MACHINE_CPUS_MAX) {
		return fail(p, "--cpus %s: not a number of processors; give 1 to %u", value,
			    MACHINE_CPUS_MAX);
	}
	p->o->config.cpus = (unsigned)n;
	return true;
}

static bool opt_memory(struct parser *p, const char *value)
{
	const char *at = value;
	uint64_t n;
	int shift;

	if (!read_number(&at, &n) || (shift = unit_shift(at)) < 0) {
		return fail(p,
			    "--memory %s: not a size; give a number with K, M, G or T, like 512M",
			    value);
	}
	if (n > RUN_MEMORY_MAX >> shift) {
		return fail(p, "--memory %s: too large; give at most %lluG", value,
			    (unsigned long long)(RUN_MEMORY_MAX >> 30));
	}
	n <<= shift;
	if (n < RUN_MEMORY_MIN) {
		return fail(p, "--memory %s: too small; give at least %lluM", value,
			    (unsigned long long)(RUN_MEMORY_MIN >> 20));
	}
	if (n % MIB(1)) {
		return fail(p, "--memory %s: not a multiple of 1M", value);
	}
	p->o->config.memory_bytes = n;
	return true;
}

static bool opt_kernel(struct parser *p, const char *value)
{
	p->o->config.kernel = value;
	return *value || fail(p, "--kernel: an empty name; give the kernel's file");
}

static bool opt_initrd(struct parser *p, const char *value)
{
	p->o->config.initrd = value;
	return *value || fail(p, "--initrd: an empty name; give the file, or leave the option out");
}

static bool opt_cmdline(struct parser *p, const char *value)
{
	p->o->config.cmdline = value;
	return true;
}

/* The next image of the chain behind the disk. Its format must be stated next. */
static bool add_backing(struct parser *p, const char *whole, char *path, struct block_options *o)
{
	struct block_source *chain = p->o->backing[p->o->config.disk_count];

	if (strcmp(path, "header") == 0) {
		o->backing_from_header = true;
		return true;
	}
	if (!*path || o->backing_count == RUN_BACKING_MAX) {
		return fail(p, "--disk %s: %s", whole,
			    *path ? "the chain is too long; let the headers say it: backing=header"
				  : "the backing file's name is missing");
	}
	chain[o->backing_count++] =
		(struct block_source){ .path = path, .format = BLOCK_FORMAT_COUNT };
	o->backing = chain;
	return true;
}

static bool set_backing_format(struct parser *p, const char *whole, const char *name,
			       struct block_options *o)
{
	struct block_source *chain = p->o->backing[p->o->config.disk_count];

	if (!o->backing_count) {
		return fail(p, "--disk %s: backing-format= follows the backing= that it is of",
			    whole);
	}
	return block_format_parse(name, &chain[o->backing_count - 1].format) ||
	       fail(p, "--disk %s: unknown format '%s'; give raw or qcow2", whole, name);
}

static bool disk_property(struct parser *p, const char *whole, char *word, struct block_options *o)
{
	if (strcmp(word, "readonly") == 0) {
		o->readonly = true;
		return true;
	}
	if (strncmp(word, "format=", 7) == 0) {
		return block_format_parse(word + 7, &o->format) ||
		       fail(p, "--disk %s: unknown format '%s'; give raw or qcow2", whole,
			    word + 7);
	}
	if (strncmp(word, "backing=", 8) == 0) {
		return add_backing(p, whole, word + 8, o);
	}
	if (strncmp(word, "backing-format=", 15) == 0) {
		return set_backing_format(p, whole, word + 15, o);
	}
	if (strncmp(word, "data-file=", 10) == 0 && word[10]) {
		o->data_file = word + 10;
		return true;
	}
	return fail(p,
		    "--disk %s: unknown property '%s'; give format=raw|qcow2, readonly, "
		    "backing=, backing-format= or data-file=",
		    whole, word);
}

static bool check_disk(struct parser *p, const char *whole, const struct block_options *o)
{
	for (unsigned i = 0; i < o->backing_count; i++) {
		if (o->backing[i].format == BLOCK_FORMAT_COUNT) {
			return fail(p,
				    "--disk %s: the format of backing=%s is not stated; give "
				    "backing-format=raw|qcow2 behind it",
				    whole, o->backing[i].path);
		}
	}
	if (o->format == BLOCK_RAW &&
	    (o->backing_count || o->backing_from_header || o->data_file)) {
		return fail(p,
			    "--disk %s: a raw disk has no backing and no data file; "
			    "format=qcow2 has",
			    whole);
	}
	return true;
}

static bool opt_disk(struct parser *p, const char *value)
{
	struct vmm_config *c = &p->o->config;
	struct vmm_disk *d = &c->disks[c->disk_count];
	size_t len = strcspn(value, ","), all = strlen(value);
	char *words;

	if (c->disk_count == MACHINE_DISKS_MAX) {
		return fail(p, "--disk %s: one too many; at most %u are possible", value,
			    MACHINE_DISKS_MAX);
	}
	words = p->o->disk_paths[c->disk_count];
	if (!len || all >= sizeof(p->o->disk_paths[0])) {
		return fail(p, "--disk %.64s: %s; give FILE[,format=raw|qcow2][,readonly]", value,
			    len ? "the name is too long" : "the file's name is missing");
	}
	memcpy(words, value, all + 1);
	words[len] = '\0';
	*d = (struct vmm_disk){ .path = words };
	for (size_t at = len; value[at]; at += len) {
		at++;
		len = strcspn(value + at, ",");
		words[at + len] = '\0';
		if (!disk_property(p, value, words + at, &d->options)) {
			return false;
		}
	}
	if (!check_disk(p, value, &d->options)) {
		return false;
	}
	c->disk_count++;
	return true;
}

/* "HOST:GUEST", both TCP ports. */
static bool add_forward(struct parser *p, const char *whole, const char *word, size_t len,
			struct vmm_net *n)
{
	const char *at = word;
	uint64_t host, guest;

	if (!read_number(&at, &host) || *at++ != ':' || !read_number(&at, &guest) ||
	    at != word + len || !host || host > 65535 || !guest || guest > 65535) {
		return fail(p,
			    "--net %s: '%.*s' is no forward; give two ports like forward=2222:22",
			    whole, (int)len, word);
	}
	if (n->forward_count == VMM_FORWARDS_MAX) {
		return fail(p, "--net %s: too many forwards; at most %u are possible", whole,
			    VMM_FORWARDS_MAX);
	}
	n->forwards[n->forward_count++] = (struct netio_forward){ .host_port = (uint16_t)host,
								  .guest_port = (uint16_t)guest };
	return true;
}

static bool parse_user_net(struct parser *p, const char *value, struct vmm_net *n)
{
	size_t len;

	n->kind = VMM_NET_USER;
	for (const char *at = value + strlen("user"); *at; at += len) {
		at++;
		len = strcspn(at, ",");
		if (len < 8 || memcmp(at, "forward=", 8) != 0) {
			return fail(p, "--net %s: unknown property '%.*s'; give forward=HOST:GUEST",
				    value, (int)len, at);
		}
		if (!add_forward(p, value, at + 8, len - 8, n)) {
			return false;
		}
	}
	return true;
}

static bool parse_tap(struct parser *p, const char *value, struct vmm_net *n)
{
	char *ifname = p->o->ifnames[p->o->config.net_count];
	size_t len = strlen(value + 4);

	if (!len || len >= IF_NAMESIZE || strpbrk(value + 4, "/, \t")) {
		return fail(p, "--net %s: not the name of an interface; give tap=IF, like tap=tap0",
			    value);
	}
	memcpy(ifname, value + 4, len + 1);
	n->kind = VMM_NET_TAP;
	n->ifname = ifname;
	return true;
}

static bool opt_net(struct parser *p, const char *value)
{
	struct vmm_config *c = &p->o->config;
	struct vmm_net *n;
	bool ok;

	if (strcmp(value, "none") == 0) {
		p->no_net = true;
		return true;
	}
	if (c->net_count == MACHINE_NICS_MAX) {
		return fail(p, "--net %s: one too many; at most %u are possible", value,
			    MACHINE_NICS_MAX);
	}
	n = &c->nets[c->net_count];
	*n = (struct vmm_net){ 0 };
	if (strcmp(value, "user") == 0 || strncmp(value, "user,", 5) == 0) {
		ok = parse_user_net(p, value, n);
	} else if (strncmp(value, "tap=", 4) == 0) {
		ok = parse_tap(p, value, n);
	} else {
		ok = fail(p, "--net %s: there is no such network; give user, tap=IF or none",
			  value);
	}
	c->net_count += ok;
	return ok;
}

static bool opt_console(struct parser *p, const char *value)
{
	struct vmm_config *c = &p->o->config;

	if (!*value) {
		return fail(p, "--console: an empty name; give stdio, pty or a file");
	}
	c->console = strcmp(value, "stdio") == 0 ? VMM_CONSOLE_STDIO
		     : strcmp(value, "pty") == 0 ? VMM_CONSOLE_PTY
						 : VMM_CONSOLE_FILE;
	c->console_path = c->console == VMM_CONSOLE_FILE ? value : NULL;
	return true;
}

static bool opt_monitor(struct parser *p, const char *value)
{
	p->o->config.monitor_path = value;
	return *value || fail(p, "--monitor: an empty name; give the socket's path");
}

/* CID,path=PATH. The path is the rest: it may hold commas. */
static bool opt_vsock(struct parser *p, const char *value)
{
	struct vmm_config *c = &p->o->config;
	const char *at = value;
	uint64_t cid;

	if (!read_number(&at, &cid) || strncmp(at, ",path=", 6) != 0 || !at[6]) {
		return fail(p, "--vsock %s: give CID,path=SOCKET, like 3,path=guest.vsock", value);
	}
	if (cid < VSOCK_CID_MIN || cid > VSOCK_CID_MAX) {
		return fail(p, "--vsock %s: no guest has that number; give one from %u to %u",
			    value, VSOCK_CID_MIN, VSOCK_CID_MAX);
	}
	if (strlen(at + 6) > VSOCK_PATH_MAX) {
		return fail(p, "--vsock %s: the path is too long; give one of at most %u bytes",
			    value, VSOCK_PATH_MAX);
	}
	c->vsock_cid = (uint32_t)cid;
	c->vsock_path = at + 6;
	return true;
}

static bool opt_name(struct parser *p, const char *value)
{
	for (const char *s = value; *s; s++) {
		if ((unsigned char)*s < 0x20 || *s == 0x7f) {
			return fail(p, "--name: has control characters; give plain text");
		}
	}
	p->o->config.name = value;
	return (*value && strlen(value) <= 64) ||
	       fail(p, "--name %.80s: give 1 to 64 characters", value);
}

static bool opt_debug_exit(struct parser *p, const char *value)
{
	return p->o->config.debug_exit = true;
}

static bool opt_dry_run(struct parser *p, const char *value)
{
	return p->o->config.dry_run = true;
}

static bool opt_no_sandbox(struct parser *p, const char *value)
{
	return p->o->config.no_sandbox = true;
}

static const struct {
	const char *name;
	bool has_value, repeats;
	bool (*fn)(struct parser *p, const char *value);
} options[] = {
	{ "engine", true, false, opt_engine },
	{ "cpus", true, false, opt_cpus },
	{ "memory", true, false, opt_memory },
	{ "kernel", true, false, opt_kernel },
	{ "initrd", true, false, opt_initrd },
	{ "cmdline", true, false, opt_cmdline },
	{ "disk", true, true, opt_disk },
	{ "net", true, true, opt_net },
	{ "console", true, false, opt_console },
	{ "monitor", true, false, opt_monitor },
	{ "vsock", true, false, opt_vsock },
	{ "name", true, false, opt_name },
	{ "debug-exit", false, false, opt_debug_exit },
	{ "dry-run", false, false, opt_dry_run },
	{ "no-sandbox", false, false, opt_no_sandbox },
};
#define OPTION_COUNT ARRAY_SIZE(options)

/* Which option `arg` is ("--cpus", "--cpus=2"); OPTION_COUNT: none. *ret_value behind "=". */
static size_t find_option(const char *arg, const char **ret_value)
{
	size_t len = strcspn(arg, "="), i;

	*ret_value = arg[len] ? arg + len + 1 : NULL;
	if (len < 3 || memcmp(arg, "--", 2) != 0) {
		return OPTION_COUNT;
	}
	for (i = 0; i < OPTION_COUNT; i++) {
		if (strlen(options[i].name) == len - 2 &&
		    memcmp(options[i].name, arg + 2, len - 2) == 0) {
			break;
		}
	}
	return i;
}

static bool parse_all(struct parser *p, int argc, char *const *argv)
{
	bool seen[OPTION_COUNT] = { false };

	for (int i = 0; i < argc; i++) {
		const char *value;
		size_t n = find_option(argv[i], &value);

		if (n == OPTION_COUNT) {
			return fail(p, "%.64s: there is no such option; see: lodge run --help",
				    argv[i]);
		}
		if (seen[n] && !options[n].repeats) {
			return fail(p, "--%s: is given twice; give it once", options[n].name);
		}
		seen[n] = true;
		if (!options[n].has_value && value) {
			return fail(p, "--%s: takes no value; give it alone", options[n].name);
		}
		if (options[n].has_value && !value) {
			if (++i == argc) {
				return fail(p, "--%s: its value is missing; see: lodge run --help",
					    options[n].name);
			}
			value = argv[i];
		}
		if (!options[n].fn(p, value)) {
			return false;
		}
	}
	return true;
}

static bool check_whole(struct parser *p)
{
	struct vmm_config *c = &p->o->config;

	if (!c->kernel) {
		return fail(p, "--kernel: is missing; give a kernel to start "
			       "(firmware is not supported yet)");
	}
	if (p->no_net && c->net_count) {
		return fail(p, "--net none: is given with another --net; give one of them");
	}
	if (!c->cmdline) {
		c->cmdline = "console=ttyS0";
	}
	return true;
}

bool run_options_parse(struct run_options *o, int argc, char *const *argv,
		       enum run_action *ret_action, char *error, size_t error_size)
{
	struct parser p = { .o = o, .error = error, .error_size = error_size };

	memset(o, 0, sizeof(*o));
	o->config.cpus = 1;
	o->config.memory_bytes = RUN_MEMORY_DEFAULT;
	o->config.name = "lodge";
	*ret_action = RUN_GUEST;
	for (int i = 0; i < argc; i++) {
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "--version") == 0) {
			*ret_action = argv[i][2] == 'h' ? RUN_HELP : RUN_VERSION;
			return true;
		}
	}
	return parse_all(&p, argc, argv) && check_whole(&p);
}
