/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The tables as a kernel finds them; each one through Intel's compiler, if it is there. */
#include "machine/acpi.h"

#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/test.h"
#include "machine/aml.h"
#include "machine/smbios.h"
#include "mem/mem.h"

extern char **environ;

static struct mem *tables_new(unsigned cpus, uint64_t memory_bytes, struct board_layout *l)
{
	struct mem *m;

	if (mem_new(&m) < 0 || mem_add(m, 0, MIB(1), 0, "ram") < 0) {
		abort();
	}
	*l = (struct board_layout){ .cpus = cpus,
				    .low_ram_bytes = MIN(memory_bytes, GIB(2)),
				    .high_ram_bytes = memory_bytes - MIN(memory_bytes, GIB(2)),
				    .pci64 = GIB(8),
				    .pci64_end = GIB(40),
				    .has_com1 = true };
	if (acpi_place(m, l) < 0 || smbios_place(m, l) < 0) {
		abort();
	}
	return m;
}

static uint8_t *at(struct mem *m, uint64_t gpa)
{
	return mem_map(m, gpa, 1, false);
}

static uint8_t sum(const uint8_t *p, size_t len)
{
	uint8_t s = 0;

	while (len--) {
		s = (uint8_t)(s + *p++);
	}
	return s;
}

/* Table `index` of the XSDT; NULL behind the last one. */
static uint8_t *xsdt_table(struct mem *m, unsigned index)
{
	uint8_t *xsdt = at(m, load_le64(at(m, BOARD_RSDP) + 24));

	if (ACPI_HEADER_BYTES + 8 * (index + 1) > load_le32(xsdt + 4)) {
		return NULL;
	}
	return at(m, load_le64(xsdt + ACPI_HEADER_BYTES + 8 * index));
}

static uint8_t *find_table(struct mem *m, const char *signature)
{
	uint8_t *t;

	for (unsigned i = 0; (t = xsdt_table(m, i)); i++) {
		if (memcmp(t, signature, 4) == 0) {
			return t;
		}
	}
	return NULL;
}

static void test_pointers(struct test *t)
{
	struct board_layout l;
	struct mem *m = tables_new(255, GIB(4), &l);
	uint8_t *rsdp = at(m, BOARD_RSDP), *fadt, *dsdt;

	CHECK(t, memcmp(rsdp, "RSD PTR ", 8) == 0);
	CHECK_EQ(t, sum(rsdp, 20), 0);
	CHECK_EQ(t, sum(rsdp, 36), 0);
	for (unsigned i = 0; i < 3; i++) {
		uint8_t *table = xsdt_table(m, i);

		CHECK_EQ(t, sum(table, load_le32(table + 4)), 0);
	}
	CHECK(t, !xsdt_table(m, 3));
	fadt = find_table(m, "FACP");
	CHECK_EQ(t, load_le32(fadt + 40), load_le64(fadt + 140));
	dsdt = at(m, load_le32(fadt + 40));
	CHECK(t, memcmp(dsdt, "DSDT", 4) == 0);
	CHECK_EQ(t, sum(dsdt, load_le32(dsdt + 4)), 0);
	CHECK(t, memcmp(at(m, load_le32(fadt + 36)), "FACS", 4) == 0);
	CHECK_EQ(t, load_le32(fadt + 36) % 64, 0);
	/* PM1a event, control, timer: the same in both forms. */
	CHECK_EQ(t, load_le32(fadt + 56), 0x600);
	CHECK_EQ(t, load_le64(fadt + 148 + 4), 0x600);
	CHECK_EQ(t, load_le64(fadt + 172 + 4), load_le32(fadt + 64));
	CHECK_EQ(t, load_le64(fadt + 208 + 4), load_le32(fadt + 76));
	CHECK_EQ(t, load_le64(fadt + 116 + 4), 0xcf9);
	mem_free(m);
}

static void test_madt(struct test *t)
{
	struct board_layout l;
	struct mem *m = tables_new(3, MIB(64), &l);
	uint8_t *madt = find_table(m, "APIC"), *end = madt + load_le32(madt + 4);
	unsigned cpus = 0, ioapics = 0, overrides = 0;

	for (uint8_t *p = madt + 44; p < end; p += p[1]) {
		CHECK(t, p[1] >= 6 && p + p[1] <= end);
		if (p[0] == 0) {
			CHECK_EQ(t, p[3], cpus);
			cpus++;
		} else if (p[0] == 1) {
			CHECK_EQ(t, load_le32(p + 4), BOARD_IOAPIC);
			ioapics++;
		} else if (p[0] == 2) {
			CHECK_EQ(t, load_le32(p + 4), p[3] == 0 ? 2 : 9);
			overrides++;
		}
	}
	CHECK_EQ(t, cpus, 3);
	CHECK_EQ(t, ioapics, 1);
	CHECK_EQ(t, overrides, 2);
	mem_free(m);
}

static void test_smbios(struct test *t)
{
	struct board_layout l;
	struct mem *m = tables_new(2, GIB(3), &l);
	uint8_t *entry = at(m, BOARD_SMBIOS), *p, *end;
	uint64_t seen[2] = { 0 };
	bool last = false;

	CHECK(t, memcmp(entry, "_SM3_", 5) == 0);
	CHECK_EQ(t, sum(entry, entry[6]), 0);
	p = at(m, load_le64(entry + 16));
	end = p + load_le32(entry + 12);
	while (p < end && !last) {
		seen[p[0] / 64] |= BIT64(p[0] % 64);
		last = p[0] == 127;
		p += p[1];
		while (p[0] || p[1]) {
			p++;
		}
		p += 2;
	}
	CHECK(t, last && p == end);
	CHECK_EQ(t, seen[0],
		 BIT64(0) | BIT64(1) | BIT64(3) | BIT64(4) | BIT64(16) | BIT64(17) | BIT64(19) |
			 BIT64(32));
	mem_free(m);
}

static void test_aml_lengths(struct test *t)
{
	uint8_t buf[8192];
	struct aml a;

	/* Each form of a PkgLength, at its borders (ACPI 20.2.4). */
	for (unsigned n = 0; n < 5000; n += n < 70 || (n > 4080 && n < 4110) ? 1 : 10) {
		unsigned lead, bytes, total;

		aml_init(&a, buf, sizeof(buf));
		aml_else_begin(&a);
		for (unsigned i = 0; i < n; i++) {
			aml_byte(&a, 0xa3);
		}
		aml_end(&a);
		lead = buf[1];
		bytes = lead >> 6;
		total = bytes ? (lead & 0xf) | (unsigned)buf[2] << 4 : lead & 0x3f;
		total |= bytes > 1 ? (unsigned)buf[3] << 12 : 0;
		CHECK_EQ(t, total + 1, a.len);
		CHECK_EQ(t, 1 + 1 + bytes + n, a.len);
	}
	aml_init(&a, buf, sizeof(buf));
	aml_eisa_id(&a, "PNP0A03");
	CHECK_EQ(t, load_le32(buf + 1), 0x030ad041);
	aml_init(&a, buf, sizeof(buf));
	aml_uuid(&a, "33db4d5b-1ff7-401c-9657-7441c03dd766");
	CHECK_EQ(t, load_le32(buf + 4), 0x33db4d5b);
	CHECK_EQ(t, buf[19], 0x66);
	aml_init(&a, buf, sizeof(buf));
	aml_int(&a, 0x100);
	aml_path(&a, "\\AB.CDEF");
	CHECK(t, a.len == 13 && memcmp(buf, "\x0b\x00\x01\\.AB__CDEF", 13) == 0);
}

/* ---- through iasl ---- */

static void write_file(const char *path, const uint8_t *data, size_t len)
{
	FILE *f = fopen(path, "wb");

	if (!f || fwrite(data, 1, len, f) != len || fclose(f) != 0) {
		abort();
	}
}

/* Run a program quietly in `dir`; its exit status, or -1 if it is not there. */
static int run(const char *dir, const char *const argv[])
{
	posix_spawn_file_actions_t actions;
	int status, r;
	pid_t pid;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addchdir_np(&actions, dir);
	posix_spawn_file_actions_addopen(&actions, 1, "log", O_WRONLY | O_CREAT | O_APPEND, 0600);
	posix_spawn_file_actions_adddup2(&actions, 1, 2);
	r = posix_spawnp(&pid, argv[0], &actions, NULL, (char *const *)argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (r != 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status) ||
	    WEXITSTATUS(status) == 127) {
		return -1;
	}
	return WEXITSTATUS(status);
}

/* Does iasl's log speak of an error or a warning? */
static bool log_is_clean(const char *dir)
{
	char path[256], line[512];
	bool clean = true;
	FILE *f;

	snprintf(path, sizeof(path), "%s/log", dir);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f)) {
		if (strncmp(line, "Error ", 6) == 0 || strncmp(line, "Warning ", 8) == 0 ||
		    strstr(line, "Incorrect checksum")) {
			printf("# %s", line);
			clean = false;
		}
	}
	if (f) {
		fclose(f);
	}
	return clean;
}

static void check_table(struct test *t, const char *dir, const uint8_t *table, size_t len)
{
	static const char *const disassemble[] = { "iasl", "-d", "table.dat", NULL };
	static const char *const compile[] = { "iasl", "-p", "again", "table.dsl", NULL };
	char path[256];

	snprintf(path, sizeof(path), "%s/table.dat", dir);
	write_file(path, table, len);
	CHECK_EQ(t, run(dir, disassemble), 0);
	CHECK_EQ(t, run(dir, compile), 0);
	CHECK(t, log_is_clean(dir));
}

static void remove_dir(const char *dir)
{
	static const char *const names[] = { "table.dat", "table.dsl", "again.aml", "log" };
	char path[256];

	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		unlink(path);
	}
	rmdir(dir);
}

static void test_iasl(struct test *t)
{
	static const char *const version[] = { "iasl", "-v", NULL };
	static const unsigned cpus[] = { 1, 255 };
	char dir[] = "/tmp/lodge-acpi-XXXXXX";

	if (!mkdtemp(dir)) {
		SKIP(t, "no temporary directory");
	}
	if (run(dir, version) < 0) {
		remove_dir(dir);
		SKIP(t, "iasl is not installed");
	}
	for (unsigned i = 0; i < ARRAY_SIZE(cpus) && !t->failed; i++) {
		struct board_layout l;
		struct mem *m = tables_new(cpus[i], GIB(1), &l);
		uint8_t *fadt = find_table(m, "FACP"), *dsdt = at(m, load_le32(fadt + 40)), *table;
		uint8_t *facs = at(m, load_le32(fadt + 36));

		check_table(t, dir, dsdt, load_le32(dsdt + 4));
		check_table(t, dir, facs, load_le32(facs + 4));
		for (unsigned k = 0; (table = xsdt_table(m, k)) && !t->failed; k++) {
			check_table(t, dir, table, load_le32(table + 4));
		}
		mem_free(m);
	}
	remove_dir(dir);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
		{ "pointers and checksums", test_pointers },
		{ "madt", test_madt },
		{ "smbios", test_smbios },
		{ "aml lengths", test_aml_lengths },
		{ "iasl", test_iasl },
		{ 0 },
	};

	return test_main(argc, argv, cases);
}
