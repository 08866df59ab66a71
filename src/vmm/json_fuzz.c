/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The monitor's reader: whatever it accepts can be walked without leaving the text.
 */
#include <stdlib.h>
#include <string.h>

#include "vmm/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void walk(const struct json *j, size_t size)
{
	char buf[32];

	for (unsigned i = 0; i < j->count; i++) {
		const struct json_token *t = &j->tokens[i];

		if (t->next <= i || t->next > j->count || t->start > size ||
		    t->len > size - t->start) {
			abort();
		}
		json_string(j, t, buf, sizeof(buf));
		json_get(j, t, "execute");
		json_object_size(j, t);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct json j;
	/* A copy of just this size, so that the sanitizer sees a step too far. */
	char *text = malloc(size ? size : 1);

	if (!text) {
		abort();
	}
	memcpy(text, data, size);
	if (json_parse(&j, text, size) == 0) {
		walk(&j, size);
	}
	free(text);
	return 0;
}
