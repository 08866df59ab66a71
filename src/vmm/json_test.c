/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/json.h"

#include <errno.h>
#include <string.h>

#include "base/test.h"
#include "base/util.h"

static struct json j;

static int parse(const char *text)
{
	return json_parse(&j, text, strlen(text));
}

static void test_accepts(struct test *t)
{
	static const char *const good[] = {
		"{}",
		"[]",
		" null ",
		"true",
		"false",
		"0",
		"-1",
		"1.5e+10",
		"12E-3",
		"\"\"",
		"\"a\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\"",
		"[1,2,[3,{}]]",
		"{\"a\":1,\"b\":[true,false,null],\"c\":{\"d\":\"e\"}}",
		"\t{ \"a\" : 1 }\r\n",
	};

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		if (parse(good[i]) != 0) {
			test_fail(t, __FILE__, __LINE__, "%s", good[i]);
		}
	}
}

static void test_refuses(struct test *t)
{
	static const char *const bad[] = {
		"",         " ",     "{",       "}",        "[",          "[1",
		"[1,",      "[1,]",  "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{1:2}",
		"tru",      "nul",   "01",      "1.",       "-",          "+1",
		"1e",       ".5",    "\"",      "\"\\x\"",  "\"\\u12\"",  "\"\\u12g4\"",
		"\"\x01\"", "{} {}", "1 2",     "'a'",      "[1 2]",      "nan",
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		if (parse(bad[i]) != -EBADMSG) {
			test_fail(t, __FILE__, __LINE__, "%s", bad[i]);
		}
	}
}

static void test_bounds(struct test *t)
{
	char text[4096];

	memset(text, '[', sizeof(text));
	CHECK_EQ(t, json_parse(&j, text, sizeof(text)), -E2BIG);
	for (size_t i = 0; i + 1 < sizeof(text); i += 2) {
		memcpy(text + i, i ? "1," : "[ ", 2);
	}
	CHECK_EQ(t, json_parse(&j, text, sizeof(text)), -E2BIG);
	/* The text need not end with a NUL: nothing behind it is read. */
	memcpy(text, "{\"a\":1}garbage", 14);
	CHECK_EQ(t, json_parse(&j, text, 7), 0);
	CHECK_EQ(t, json_parse(&j, text, 6), -EBADMSG);
	CHECK_EQ(t, json_parse(&j, "\"\\u00", 5), -EBADMSG);
}

static void test_get(struct test *t)
{
	const struct json_token *v;
	char buf[16];

	CHECK_EQ(t,
		 parse("{\"x\":{\"execute\":\"no\"},\"execute\":\"stop\",\"n\":[1,2],\"id\":-7}"),
		 0);
	CHECK_EQ(t, json_object_size(&j, j.tokens), 4);
	v = json_get(&j, j.tokens, "execute");
	CHECK(t, v && json_string(&j, v, buf, sizeof(buf)));
	CHECK_STR(t, buf, "stop");
	v = json_get(&j, j.tokens, "id");
	CHECK(t, v && v->kind == JSON_NUMBER);
	CHECK(t, v->len == 2 && memcmp(j.text + v->start, "-7", 2) == 0);
	CHECK(t, json_get(&j, j.tokens, "y") == NULL);
	v = json_get(&j, j.tokens, "x");
	CHECK(t, v && json_get(&j, v, "execute"));
	CHECK(t, !json_string(&j, v, buf, sizeof(buf)));
}

static void test_strings(struct test *t)
{
	char buf[8];

	CHECK_EQ(t, parse("\"\\u00e9\\ud83d\\ude00\""), 0);
	CHECK(t, json_string(&j, j.tokens, buf, sizeof(buf)));
	CHECK_STR(t, buf, "\xc3\xa9\xf0\x9f\x98\x80");
	CHECK_EQ(t, parse("\"\\ud83dx\""), 0);
	CHECK(t, json_string(&j, j.tokens, buf, sizeof(buf)));
	CHECK_STR(t, buf, "\xef\xbf\xbdx");
	CHECK_EQ(t, parse("\"1234567\""), 0);
	CHECK(t, json_string(&j, j.tokens, buf, sizeof(buf)));
	CHECK_EQ(t, parse("\"12345678\""), 0);
	CHECK(t, !json_string(&j, j.tokens, buf, sizeof(buf)));
	CHECK_EQ(t, parse("\"a\\u0000b\""), 0);
	CHECK(t, !json_string(&j, j.tokens, buf, sizeof(buf)));
	CHECK_EQ(t, parse("\"\\n\\t\\\"\\/\""), 0);
	CHECK(t, json_string(&j, j.tokens, buf, sizeof(buf)));
	CHECK_STR(t, buf, "\n\t\"/");
}

static const struct test_case cases[] = {
	{ "accepts JSON", test_accepts }, { "refuses what is not", test_refuses },
	{ "bounds", test_bounds },        { "look-up", test_get },
	{ "strings", test_strings },      { 0 },
};

int main(int argc, char **argv)
{
	return test_main(argc, argv, cases);
}
