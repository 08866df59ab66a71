/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The end of an error's line: what the user can do about it.
 */
#pragma once

/*
 * For a file or socket that cannot be opened or made by its path: "; ..." for the
 * errors that the user can mend, else "". `err`: an errno, of either sign.
 */
const char *hint_path(int err);
