/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * `lodge image`: making and handling disk images.
 */
#pragma once

/* argv[0] is "image". Returns the exit status: 0, 1 failure, 2 wrong usage; compare, check: more.
 */
int image_main(int argc, char **argv);
