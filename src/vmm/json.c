/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/json.h"

#include <errno.h>
#include <string.h>

struct cursor {
	struct json *j;
	const char *text;
	size_t at, len;
};

static bool at_end(const struct cursor *c)
{
	return c->at == c->len;
}

static char peek(const struct cursor *c)
{
	return at_end(c) ? '\0' : c->text[c->at];
}

static void skip_space(struct cursor *c)
{
	while (!at_end(c) && memchr(" \t\r\n", c->text[c->at], 4)) {
		c->at++;
	}
}

static bool take(struct cursor *c, char want)
{
	if (at_end(c) || c->text[c->at] != want) {
		return false;
	}
	c->at++;
	return true;
}

static int hex_value(char ch)
{
	if (ch >= '0' && ch <= '9') {
		return ch - '0';
	}
	ch |= 0x20;
	return ch >= 'a' && ch <= 'f' ? ch - 'a' + 10 : -1;
}

/* The four digits of \uXXXX at `p` (4 bytes are there); -1: they are none. */
static int32_t hex4(const char *p)
{
	int32_t v = 0;

	for (int i = 0; i < 4; i++) {
		int digit = hex_value(p[i]);

		if (digit < 0) {
			return -1;
		}
		v = v << 4 | digit;
	}
	return v;
}

static int scan_string(struct cursor *c)
{
	if (!take(c, '"')) {
		return -EBADMSG;
	}
	while (!at_end(c) && c->text[c->at] != '"') {
		unsigned char ch = (unsigned char)c->text[c->at++];

		if (ch < 0x20) {
			return -EBADMSG;
		}
		if (ch != '\\') {
			continue;
		}
		if (at_end(c) || !memchr("\"\\/bfnrtu", c->text[c->at], 9)) {
			return -EBADMSG;
		}
		if (c->text[c->at++] == 'u') {
			if (c->len - c->at < 4 || hex4(c->text + c->at) < 0) {
				return -EBADMSG;
			}
			c->at += 4;
		}
	}
	return take(c, '"') ? 0 : -EBADMSG;
}

static bool scan_digits(struct cursor *c)
{
	size_t from = c->at;

	while (peek(c) >= '0' && peek(c) <= '9') {
		c->at++;
	}
	return c->at > from;
}

static int scan_number(struct cursor *c)
{
	take(c, '-');
	if (!take(c, '0') && !scan_digits(c)) {
		return -EBADMSG;
	}
	if (take(c, '.') && !scan_digits(c)) {
		return -EBADMSG;
	}
	if (take(c, 'e') || take(c, 'E')) {
		if (!take(c, '+')) {
			take(c, '-');
		}
		if (!scan_digits(c)) {
			return -EBADMSG;
		}
	}
	return 0;
}

static int scan_word(struct cursor *c, const char *word)
{
	size_t len = strlen(word);

	if (c->len - c->at < len || memcmp(c->text + c->at, word, len) != 0) {
		return -EBADMSG;
	}
	c->at += len;
	return 0;
}

static int scan_value(struct cursor *c, unsigned depth);

/* The inside of an array or object, its opening bracket taken. */
static int scan_members(struct cursor *c, unsigned depth, bool keys, char end)
{
	int r;

	skip_space(c);
	if (take(c, end)) {
		return 0;
	}
	do {
		skip_space(c);
		if (keys) {
			if (peek(c) != '"') {
				return -EBADMSG;
			}
			r = scan_value(c, depth);
			if (r < 0) {
				return r;
			}
			skip_space(c);
			if (!take(c, ':')) {
				return -EBADMSG;
			}
			skip_space(c);
		}
		r = scan_value(c, depth);
		if (r < 0) {
			return r;
		}
		skip_space(c);
	} while (take(c, ','));
	return take(c, end) ? 0 : -EBADMSG;
}

static int scan_by_kind(struct cursor *c, struct json_token *t, unsigned depth)
{
	switch (peek(c)) {
	case '{':
		t->kind = JSON_OBJECT;
		c->at++;
		return scan_members(c, depth, true, '}');
	case '[':
		t->kind = JSON_ARRAY;
		c->at++;
		return scan_members(c, depth, false, ']');
	case '"':
		t->kind = JSON_STRING;
		return scan_string(c);
	case 't':
		t->kind = JSON_TRUE;
		return scan_word(c, "true");
	case 'f':
		t->kind = JSON_FALSE;
		return scan_word(c, "false");
	case 'n':
		t->kind = JSON_NULL;
		return scan_word(c, "null");
	default:
		t->kind = JSON_NUMBER;
		return scan_number(c);
	}
}

static int scan_value(struct cursor *c, unsigned depth)
{
	struct json_token *t;
	int r;

	if (depth >= JSON_DEPTH_MAX || c->j->count == JSON_TOKENS_MAX) {
		return -E2BIG;
	}
	t = &c->j->tokens[c->j->count++];
	t->start = (uint32_t)c->at;
	r = scan_by_kind(c, t, depth + 1);
	t->len = (uint32_t)c->at - t->start;
	t->next = c->j->count;
	return r;
}

int json_parse(struct json *j, const char *text, size_t len)
{
	struct cursor c = { .j = j, .text = text, .len = len };
	int r;

	j->text = text;
	j->count = 0;
	if (len > UINT32_MAX) {
		return -E2BIG;
	}
	skip_space(&c);
	r = scan_value(&c, 0);
	if (r == 0) {
		skip_space(&c);
		r = at_end(&c) ? 0 : -EBADMSG;
	}
	return r;
}

/* --- use ------------------------------------------------------------------------- */

static size_t put_utf8(char *to, uint32_t ch)
{
	if (ch < 0x80) {
		to[0] = (char)ch;
		return 1;
	}
	if (ch < 0x800) {
		to[0] = (char)(0xc0 | ch >> 6);
		to[1] = (char)(0x80 | (ch & 0x3f));
		return 2;
	}
	if (ch < 0x10000) {
		to[0] = (char)(0xe0 | ch >> 12);
		to[1] = (char)(0x80 | (ch >> 6 & 0x3f));
		to[2] = (char)(0x80 | (ch & 0x3f));
		return 3;
	}
	to[0] = (char)(0xf0 | ch >> 18);
	to[1] = (char)(0x80 | (ch >> 12 & 0x3f));
	to[2] = (char)(0x80 | (ch >> 6 & 0x3f));
	to[3] = (char)(0x80 | (ch & 0x3f));
	return 4;
}

/* \uXXXX, or two that are a surrogate pair; returns where it ends. A lone half becomes U+FFFD. */
static const char *read_unicode(const char *p, const char *end, uint32_t *ret)
{
	uint32_t ch = (uint32_t)hex4(p), low;

	p += 4;
	if (ch >= 0xd800 && ch < 0xdc00 && end - p >= 6 && p[0] == '\\' && p[1] == 'u') {
		low = (uint32_t)hex4(p + 2);
		if (low >= 0xdc00 && low < 0xe000) {
			*ret = 0x10000 + ((ch - 0xd800) << 10) + (low - 0xdc00);
			return p + 6;
		}
	}
	*ret = ch >= 0xd800 && ch < 0xe000 ? 0xfffd : ch;
	return p;
}

/* What follows a backslash; checked by scan_string(). */
static const char *read_escape(const char *p, const char *end, uint32_t *ret)
{
	static const char names[] = "bfnrt", values[] = "\b\f\n\r\t";
	const char *name;

	if (*p == 'u') {
		return read_unicode(p + 1, end, ret);
	}
	name = strchr(names, *p);
	*ret = (unsigned char)(name ? values[name - names] : *p);
	return p + 1;
}

bool json_string(const struct json *j, const struct json_token *t, char *buf, size_t size)
{
	const char *p, *end;
	size_t used = 0;

	if (!t || t->kind != JSON_STRING || !size) {
		return false;
	}
	p = j->text + t->start + 1;
	end = j->text + t->start + t->len - 1;
	while (p < end) {
		char part[4];
		size_t n = 1;

		if (*p == '\\') {
			uint32_t ch;

			p = read_escape(p + 1, end, &ch);
			n = put_utf8(part, ch);
		} else {
			part[0] = *p++;
		}
		if (!part[0] || n >= size - used) {
			return false;
		}
		memcpy(buf + used, part, n);
		used += n;
	}
	buf[used] = '\0';
	return true;
}

const struct json_token *json_get(const struct json *j, const struct json_token *object,
				  const char *key)
{
	unsigned i = (unsigned)(object - j->tokens) + 1;
	char name[64];

	if (object->kind != JSON_OBJECT) {
		return NULL;
	}
	while (i < object->next) {
		const struct json_token *k = &j->tokens[i];

		if (json_string(j, k, name, sizeof(name)) && strcmp(name, key) == 0) {
			return &j->tokens[k->next];
		}
		i = j->tokens[k->next].next;
	}
	return NULL;
}

unsigned json_object_size(const struct json *j, const struct json_token *object)
{
	unsigned i = (unsigned)(object - j->tokens) + 1, n = 0;

	while (object->kind == JSON_OBJECT && i < object->next) {
		i = j->tokens[j->tokens[i].next].next;
		n++;
	}
	return n;
}
