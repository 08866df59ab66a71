/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "kvm/kvm.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/test.h"
#include "kvm/measure.h"
#include "kvm/provider.h"

static char temp[64];

static const char *make_temp(void)
{
	snprintf(temp, sizeof(temp), "/tmp/lodge-kvm-test.XXXXXX");
	return mkdtemp(temp);
}

static void remove_temp(void)
{
	char path[96];

	snprintf(path, sizeof(path), "%s/kvm-speed", temp);
	unlink(path);
	rmdir(temp);
}

static void write_cache(const char *text)
{
	char path[96];
	int fd;

	snprintf(path, sizeof(path), "%s/kvm-speed", temp);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	(void)!write(fd, text, strlen(text));
	close(fd);
}

static void test_engine_names(struct test *t)
{
	enum kvm_engine e;

	for (unsigned i = 0; i < KVM_ENGINE_COUNT; i++) {
		CHECK(t, kvm_engine_parse(kvm_engine_name(i), &e));
		CHECK_EQ(t, e, i);
	}
	CHECK(t, !kvm_engine_parse("", &e));
	CHECK(t, !kvm_engine_parse("KVM", &e));
}

static void test_cache_round_trip(struct test *t)
{
	uint64_t speed = 0;

	CHECK(t, make_temp() != NULL);
	CHECK_EQ(t, kvm_measure_load(temp, "boot-a", &speed), -ENOENT);
	CHECK_EQ(t, kvm_measure_store(temp, "boot-a", 123456789), 0);
	CHECK_EQ(t, kvm_measure_load(temp, "boot-a", &speed), 0);
	CHECK_EQ(t, speed, 123456789);
	CHECK_EQ(t, kvm_measure_load(temp, "boot-b", &speed), -ESTALE);
	CHECK_EQ(t, kvm_measure_store(temp, "boot-b", 7), 0);
	CHECK_EQ(t, kvm_measure_load(temp, "boot-b", &speed), 0);
	CHECK_EQ(t, speed, 7);
	remove_temp();
}

static void test_damaged_cache_is_refused(struct test *t)
{
	static const char *const damaged[] = {
		"",
		"lodge-kvm-speed-1",
		"lodge-kvm-speed-1 boot",
		"lodge-kvm-speed-1 boot 12",
		"lodge-kvm-speed-1 boot 12x\n",
		"lodge-kvm-speed-9 boot 12\n",
		"\n\n\n",
	};
	uint64_t speed = 0;

	CHECK(t, make_temp() != NULL);
	for (size_t i = 0; i < ARRAY_SIZE(damaged); i++) {
		write_cache(damaged[i]);
		CHECK_EQ(t, kvm_measure_load(temp, "boot", &speed), -EBADMSG);
	}
	write_cache("lodge-kvm-speed-1 boot 12\n");
	CHECK_EQ(t, kvm_measure_load(temp, "boot", &speed), 0);
	CHECK_EQ(t, speed, 12);
	remove_temp();
}

static void test_cache_of_others_is_refused(struct test *t)
{
	uint64_t speed = 0;

	CHECK(t, make_temp() != NULL);
	write_cache("lodge-kvm-speed-1 boot 12\n");
	chmod(temp, 0777);
	CHECK_EQ(t, kvm_measure_load(temp, "boot", &speed), -EPERM);
	CHECK_EQ(t, kvm_measure_store(temp, "boot", 1), -EPERM);
	chmod(temp, 0700);
	CHECK_EQ(t, kvm_measure_load(temp, "boot", &speed), 0);
	remove_temp();
}

static void test_measure(struct test *t)
{
	char reason[128];
	uint64_t speed = 0;
	struct kvm *k;

	if (kvm_open(KVM_ENGINE_KERNEL, reason, sizeof(reason), &k) < 0) {
		SKIP(t, "no usable /dev/kvm");
	}
	CHECK_EQ(t, kvm_measure(k, &speed), 0);
	CHECK(t, speed > 0);
	printf("# %.1f M instructions/s\n", (double)speed / 1e6);
	CHECK(t, speed < 100000000000ull);
	kvm_close(k);
}

/* An engine that answers as told. */
static int fake_version = KVM_API_VERSION, fake_missing = -1, fake_opened, fake_error;

static int fake_open(void)
{
	if (fake_error < 0) {
		return fake_error;
	}
	fake_opened++;
	return 1000;
}

static int fake_ioctl(int fd, unsigned long request, unsigned long arg)
{
	switch (request) {
	case KVM_GET_API_VERSION:
		return fake_version;
	case KVM_GET_VCPU_MMAP_SIZE:
		return 12288;
	case KVM_CHECK_EXTENSION:
		return (int)arg != fake_missing;
	default:
		return -ENOTTY;
	}
}

static void fake_close(int fd)
{
	fake_opened--;
}

static const struct kvm_provider fake = { .open = fake_open,
					  .ioctl = fake_ioctl,
					  .close = fake_close };

static void test_refuses_what_lacks_abilities(struct test *t)
{
	char reason[128] = "";
	struct kvm *k = NULL;

	CHECK_EQ(t, kvm_open_provider(&fake, KVM_ENGINE_KERNEL, reason, sizeof(reason), &k), 0);
	CHECK_EQ(t, kvm_engine(k), KVM_ENGINE_KERNEL);
	kvm_close(k);
	fake_missing = KVM_CAP_IRQFD;
	CHECK_EQ(t, kvm_open_provider(&fake, KVM_ENGINE_KERNEL, reason, sizeof(reason), &k),
		 -ENOTSUP);
	CHECK_STR(t, reason, "/dev/kvm cannot run guests: it lacks irqfd");
	fake_missing = -1;
	fake_version = 11;
	CHECK_EQ(t, kvm_open_provider(&fake, KVM_ENGINE_SOFT, reason, sizeof(reason), &k),
		 -ENOTSUP);
	CHECK_STR(t, reason, "software KVM cannot run guests: its API version is 11, not 12");
	CHECK_EQ(t, fake_opened, 0);
}

static void test_says_why_it_cannot_open(struct test *t)
{
	char reason[128] = "";
	struct kvm *k = NULL;

	fake_error = -EACCES;
	CHECK_EQ(t, kvm_open_provider(&fake, KVM_ENGINE_SOFT, reason, sizeof(reason), &k), -EACCES);
	CHECK_STR(t, reason,
		  "software KVM cannot start: this host forbids to make code "
		  "(SELinux's execmem, vm.memfd_noexec)");
	CHECK_EQ(t, kvm_open_provider(&fake, KVM_ENGINE_KERNEL, reason, sizeof(reason), &k),
		 -EACCES);
	CHECK_STR(t, reason, "no right to open /dev/kvm (group kvm has it)");
	fake_error = -EMFILE;
	CHECK_EQ(t, kvm_open_provider(&fake, KVM_ENGINE_SOFT, reason, sizeof(reason), &k), -EMFILE);
	CHECK_STR(t, reason, "software KVM cannot start: Too many open files");
	fake_error = 0;
}

static void test_auto_says_why(struct test *t)
{
	char reason[256] = "";
	struct kvm *k;

	CHECK(t, make_temp() != NULL);
	setenv("XDG_CACHE_HOME", temp, 1);
	if (kvm_open(KVM_ENGINE_AUTO, reason, sizeof(reason), &k) == 0) {
		CHECK(t, kvm_engine(k) != KVM_ENGINE_AUTO);
		CHECK_STR(t, kvm_reason(k), reason);
		kvm_close(k);
	}
	printf("# %s\n", reason);
	CHECK(t, strstr(reason, "/dev/kvm") != NULL);
	CHECK(t, strchr(reason, '\n') == NULL);
	char path[128];

	snprintf(path, sizeof(path), "%s/lodge/kvm-speed", temp);
	unlink(path);
	snprintf(path, sizeof(path), "%s/lodge", temp);
	rmdir(path);
	remove_temp();
}

static const struct test_case cases[] = {
	{ "engine names", test_engine_names },
	{ "cache: round trip", test_cache_round_trip },
	{ "cache: a damaged file is refused", test_damaged_cache_is_refused },
	{ "cache: a file of others is refused", test_cache_of_others_is_refused },
	{ "measure /dev/kvm", test_measure },
	{ "refuses what lacks abilities", test_refuses_what_lacks_abilities },
	{ "says why it cannot open", test_says_why_it_cannot_open },
	{ "auto says why", test_auto_says_why },
	{ 0 },
};

int main(int argc, char **argv)
{
	return test_main(argc, argv, cases);
}
