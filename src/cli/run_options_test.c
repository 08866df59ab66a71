/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli/run_options.h"

#include <stdio.h>

#include "base/test.h"

#define ARGS_MAX 64

static struct run_options o;
static char error[512];
static enum run_action action;

/* Arguments in one string, separated by '|'. */
static bool parse(const char *line)
{
	static char copy[16384];
	char *argv[ARGS_MAX], *at = copy;
	int argc = 0;

	snprintf(copy, sizeof(copy), "%s", line);
	while (at && *line && argc < ARGS_MAX) {
		argv[argc++] = strsep(&at, "|");
	}
	error[0] = '\0';
	return run_options_parse(&o, argc, argv, &action, error, sizeof(error));
}

static void test_defaults(struct test *t)
{
	CHECK(t, parse("--kernel|k"));
	CHECK_EQ(t, action, RUN_GUEST);
	CHECK_EQ(t, o.config.engine, KVM_ENGINE_AUTO);
	CHECK_EQ(t, o.config.cpus, 1);
	CHECK_EQ(t, o.config.memory_bytes, MIB(512));
	CHECK_STR(t, o.config.kernel, "k");
	CHECK_STR(t, o.config.cmdline, "console=ttyS0");
	CHECK(t, !o.config.initrd && !o.config.monitor_path && !o.config.debug_exit);
	CHECK_EQ(t, o.config.disk_count + o.config.net_count, 0);
	CHECK_EQ(t, o.config.console, VMM_CONSOLE_STDIO);
}

static void test_everything(struct test *t)
{
	CHECK(t, parse("--engine|soft|--cpus=2|--memory|1G|--kernel|k|--initrd|i|--cmdline||"
		       "--disk|a,format=raw,readonly|--disk|b|--net|user,forward=2222:22,"
		       "forward=80:8080|--net=tap=tap0|--console|log|--monitor|m|--name|x|"
		       "--vsock|3,path=a,b|"
		       "--debug-exit|--dry-run|--no-sandbox"));
	CHECK_EQ(t, o.config.engine, KVM_ENGINE_SOFT);
	CHECK_EQ(t, o.config.cpus, 2);
	CHECK_EQ(t, o.config.memory_bytes, GIB(1));
	CHECK_STR(t, o.config.cmdline, "");
	CHECK_EQ(t, o.config.disk_count, 2);
	CHECK_STR(t, o.config.disks[0].path, "a");
	CHECK(t, o.config.disks[0].options.readonly && !o.config.disks[1].options.readonly);
	CHECK_STR(t, o.config.disks[1].path, "b");
	CHECK_EQ(t, o.config.net_count, 2);
	CHECK_EQ(t, o.config.nets[0].forward_count, 2);
	CHECK_EQ(t, o.config.nets[0].forwards[1].host_port, 80);
	CHECK_EQ(t, o.config.nets[0].forwards[1].guest_port, 8080);
	CHECK_EQ(t, o.config.nets[1].kind, VMM_NET_TAP);
	CHECK_STR(t, o.config.nets[1].ifname, "tap0");
	CHECK_EQ(t, o.config.vsock_cid, 3);
	CHECK_STR(t, o.config.vsock_path, "a,b");
	CHECK_EQ(t, o.config.console, VMM_CONSOLE_FILE);
	CHECK_STR(t, o.config.console_path, "log");
	CHECK(t, o.config.debug_exit && o.config.dry_run && o.config.no_sandbox);
}

static void test_memory_sizes(struct test *t)
{
	static const struct {
		const char *line;
		uint64_t want;
	} rows[] = {
		{ "--kernel|k|--memory|64", MIB(64) },     { "--kernel|k|--memory|64m", MIB(64) },
		{ "--kernel|k|--memory|65536K", MIB(64) }, { "--kernel|k|--memory|2GiB", GIB(2) },
		{ "--kernel|k|--memory|960G", GIB(960) },  { "--kernel|k|--memory|16MB", MIB(16) },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		CHECK(t, parse(rows[i].line));
		CHECK_EQ(t, o.config.memory_bytes, rows[i].want);
	}
}

static void test_actions(struct test *t)
{
	CHECK(t, parse("--cpus|1000|--help"));
	CHECK_EQ(t, action, RUN_HELP);
	CHECK(t, parse("--version"));
	CHECK_EQ(t, action, RUN_VERSION);
	CHECK(t, parse("--kernel|k|--net|none"));
	CHECK_EQ(t, o.config.net_count, 0);
}

/* Each error line, whole. */
static void test_errors(struct test *t)
{
	static const struct {
		const char *line, *want;
	} rows[] = {
		{ "",
		  "--kernel: is missing; give a kernel to start (firmware is not supported yet)" },
		{ "--cpus", "--cpus: its value is missing; see: lodge run --help" },
		{ "--cpu|2", "--cpu: there is no such option; see: lodge run --help" },
		{ "k", "k: there is no such option; see: lodge run --help" },
		{ "--", "--: there is no such option; see: lodge run --help" },
		{ "--=", "--=: there is no such option; see: lodge run --help" },
		{ "--dry-run=1", "--dry-run: takes no value; give it alone" },
		{ "--cpus|1|--cpus|1", "--cpus: is given twice; give it once" },
		{ "--engine|tcg", "--engine tcg: there is no such engine; give auto, kvm or soft" },
		{ "--cpus|0", "--cpus 0: not a number of processors; give 1 to 255" },
		{ "--cpus|256", "--cpus 256: not a number of processors; give 1 to 255" },
		{ "--cpus|2x", "--cpus 2x: not a number of processors; give 1 to 255" },
		{ "--cpus|-1", "--cpus -1: not a number of processors; give 1 to 255" },
		{ "--cpus|99999999999999999999",
		  "--cpus 99999999999999999999: not a number of processors; give 1 to 255" },
		{ "--memory|lots",
		  "--memory lots: not a size; give a number with K, M, G or T, like 512M" },
		{ "--memory|1X",
		  "--memory 1X: not a size; give a number with K, M, G or T, like 512M" },
		{ "--memory|1Mb",
		  "--memory 1Mb: not a size; give a number with K, M, G or T, like 512M" },
		{ "--memory|8M", "--memory 8M: too small; give at least 16M" },
		{ "--memory|961G", "--memory 961G: too large; give at most 960G" },
		{ "--memory|5T", "--memory 5T: too large; give at most 960G" },
		{ "--memory|18446744073709551615T",
		  "--memory 18446744073709551615T: too large; give at most 960G" },
		{ "--memory|20000001K", "--memory 20000001K: not a multiple of 1M" },
		{ "--kernel|", "--kernel: an empty name; give the kernel's file" },
		{ "--initrd=", "--initrd: an empty name; give the file, or leave the option out" },
		{ "--disk|,readonly", "--disk ,readonly: the file's name is missing; "
				      "give FILE[,format=raw|qcow2][,readonly]" },
		{ "--disk|a,backing=b",
		  "--disk a,backing=b: the format of backing=b is not stated; "
		  "give backing-format=raw|qcow2 behind it" },
		{ "--disk|a,backing=b,backing-format=raw",
		  "--disk a,backing=b,backing-format=raw: a raw disk has no backing and no data "
		  "file; format=qcow2 has" },
		{ "--disk|a,format=vmdk",
		  "--disk a,format=vmdk: unknown format 'vmdk'; give raw or qcow2" },
		{ "--disk|a,ro", "--disk a,ro: unknown property 'ro'; give format=raw|qcow2, "
				 "readonly, backing=, backing-format= or data-file=" },
		{ "--disk|a,", "--disk a,: unknown property ''; give format=raw|qcow2, "
			       "readonly, backing=, backing-format= or data-file=" },
		{ "--net|bridge",
		  "--net bridge: there is no such network; give user, tap=IF or none" },
		{ "--net|user,foo",
		  "--net user,foo: unknown property 'foo'; give forward=HOST:GUEST" },
		{ "--net|user,forward=22", "--net user,forward=22: '22' is no forward; give two "
					   "ports like forward=2222:22" },
		{ "--net|user,forward=0:22", "--net user,forward=0:22: '0:22' is no forward; give "
					     "two ports like forward=2222:22" },
		{ "--net|user,forward=1:65536",
		  "--net user,forward=1:65536: '1:65536' is no forward; give two ports like "
		  "forward=2222:22" },
		{ "--net|tap=", "--net tap=: not the name of an interface; give tap=IF, like "
				"tap=tap0" },
		{ "--net|tap=averyveryverylongname",
		  "--net tap=averyveryverylongname: not the name of an interface; give tap=IF, "
		  "like tap=tap0" },
		{ "--kernel|k|--net|none|--net|user",
		  "--net none: is given with another --net; give one of them" },
		{ "--console=", "--console: an empty name; give stdio, pty or a file" },
		{ "--monitor=", "--monitor: an empty name; give the socket's path" },
		{ "--vsock|3", "--vsock 3: give CID,path=SOCKET, like 3,path=guest.vsock" },
		{ "--vsock|x,path=a",
		  "--vsock x,path=a: give CID,path=SOCKET, like 3,path=guest.vsock" },
		{ "--vsock|3,path=", "--vsock 3,path=: give CID,path=SOCKET, like "
				     "3,path=guest.vsock" },
		{ "--vsock|2,path=a",
		  "--vsock 2,path=a: no guest has that number; give one from 3 to 4294967294" },
		{ "--vsock|4294967295,path=a", "--vsock 4294967295,path=a: no guest has that "
					       "number; give one from 3 to 4294967294" },
		{ "--name|a\nb", "--name: has control characters; give plain text" },
		{ "--name=", "--name : give 1 to 64 characters" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		CHECK(t, !parse(rows[i].line));
		CHECK_STR(t, error, rows[i].want);
	}
}

/* Put `part` behind `line` (4096 bytes) `times` times. */
static void append(char *line, const char *part, unsigned times)
{
	size_t len = strlen(line);

	for (unsigned i = 0; i < times; i++) {
		len += (size_t)snprintf(line + len, 4096 - len, "%s", part);
	}
}

static void test_too_many(struct test *t)
{
	char disks[4096] = "--kernel|k", nets[4096] = "--kernel|k", forwards[4096] = "--net|user";

	append(disks, "|--disk|d", MACHINE_DISKS_MAX);
	CHECK(t, parse(disks));
	CHECK_EQ(t, o.config.disk_count, MACHINE_DISKS_MAX);
	append(disks, "|--disk|e", 1);
	CHECK(t, !parse(disks));
	CHECK_STR(t, error, "--disk e: one too many; at most 16 are possible");
	append(nets, "|--net|user", MACHINE_NICS_MAX + 1);
	CHECK(t, !parse(nets));
	CHECK_STR(t, error, "--net user: one too many; at most 8 are possible");
	append(forwards, ",forward=1:1", VMM_FORWARDS_MAX + 1);
	CHECK(t, !parse(forwards));
	CHECK(t, strstr(error, "too many forwards; at most 32") != NULL);
}

static const struct test_case cases[] = {
	{ "defaults", test_defaults },
	{ "every option", test_everything },
	{ "sizes of memory", test_memory_sizes },
	{ "help and version", test_actions },
	{ "every error line", test_errors },
	{ "too many", test_too_many },
	{ 0 },
};

int main(int argc, char **argv)
{
	return test_main(argc, argv, cases);
}
