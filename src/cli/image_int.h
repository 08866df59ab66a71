/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inside of `lodge image`: what its sub-commands share. */
#pragma once

#include <stdio.h>

#include "block/image.h"

#define IMAGE_EXIT_FAILURE 1
#define IMAGE_EXIT_USAGE   2
#define IMAGE_EXIT_LEAKS   3 /* of check, as qemu-img's */
#define IMAGE_BACKING_MAX  64

/* All options of all sub-commands; each takes those that its row names. */
struct image_args {
	const char *files[3];
	unsigned file_count;
	bool has_format, has_format2;
	enum block_format format, format2; /* -f; -O or -F */
	const char *backing, *create_options, *snapshot;
	struct block_source chain[IMAGE_BACKING_MAX];
	unsigned chain_count;
	bool chain_from_header, json, quiet, progress, compress, shrink, unsafe, write, direct;
	bool no_uring, repair_leaks, repair_all, force_share;
	const char *data_file;
	enum qcow2_preallocation preallocation;
	char action; /* snapshot: l, c, a, d */
	uint64_t count, depth, size;
};

/* Say "lodge: …" on standard error. Returns IMAGE_EXIT_FAILURE. */
int image_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* The same for wrong usage. */
int image_usage(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* "10G", "512"; no unit: bytes. False: it is no size. */
bool image_parse_size(const char *text, uint64_t *ret);
/* Open a->files[index] with the chain that the options state. False: it is said why. */
bool image_open_arg(const struct image_args *a, unsigned index, enum block_format format,
		    bool readonly, struct image **ret);
/* A string in JSON's quotes. */
void image_json_string(FILE *f, const char *s);
void image_progress(const struct image_args *a, double done);

/*
 * A file under a name of its own until it is complete. Whatever ends the process
 * by a signal that can be caught removes it.
 */
struct image_output {
	char temporary[4096];
	const char *name;
	struct file *file;
};
bool image_output_begin(struct image_output *o, const char *name);
/* Everything is closed: give it its name. */
bool image_output_commit(struct image_output *o);
void image_output_abandon(struct image_output *o);

int image_cmd_create(const struct image_args *a);
int image_cmd_info(const struct image_args *a);
int image_cmd_map(const struct image_args *a);
int image_cmd_check(const struct image_args *a);
int image_cmd_convert(const struct image_args *a);
int image_cmd_resize(const struct image_args *a);
int image_cmd_snapshot(const struct image_args *a);
int image_cmd_commit(const struct image_args *a);
int image_cmd_rebase(const struct image_args *a);
int image_cmd_compare(const struct image_args *a);
int image_cmd_bench(const struct image_args *a);
