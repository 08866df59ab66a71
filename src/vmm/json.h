/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A reader for one JSON text (RFC 8259) from a client that may be hostile: no
 * allocation, bounded depth and size. Tokens lie in the order of the text; a
 * value's `next` is the index behind it and all that it holds.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The monitor's commands need a dozen; these bound what one line can cost. */
#define JSON_TOKENS_MAX 256u
#define JSON_DEPTH_MAX  16u

enum json_kind {
	JSON_NULL,
	JSON_TRUE,
	JSON_FALSE,
	JSON_NUMBER,
	JSON_STRING,
	JSON_ARRAY,
	JSON_OBJECT
};

struct json_token {
	enum json_kind kind;
	uint32_t start, len; /* in the text, with quotes or brackets */
	uint32_t next;
};

struct json {
	const char *text; /* borrowed */
	unsigned count;
	struct json_token tokens[JSON_TOKENS_MAX]; /* [0] is the whole */
};

/* 0, -EBADMSG: not JSON, -E2BIG: too deep or too many values. */
int json_parse(struct json *j, const char *text, size_t len);
/* The value of `key` in an object; the first if there are several. NULL: none. */
const struct json_token *json_get(const struct json *j, const struct json_token *object,
				  const char *key);
/* Number of an object's keys. */
unsigned json_object_size(const struct json *j, const struct json_token *object);
/*
 * A string's value as UTF-8 with NUL. False: it is none, holds a NUL, or does
 * not fit.
 */
bool json_string(const struct json *j, const struct json_token *t, char *buf, size_t size);
