/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The format's numbers, from its specification (QEMU docs/interop/qcow2.txt).
 * All fields are big-endian.
 */
#pragma once

#include "base/util.h"

#define QCOW2_MAGIC 0x514649fbu /* "QFI" 0xfb */

/* The header's fields: offsets. Version 2 ends behind SNAPSHOTS_OFFSET. */
enum qcow2_header_at {
	QH_MAGIC = 0,
	QH_VERSION = 4,
	QH_BACKING_OFFSET = 8,
	QH_BACKING_SIZE = 16,
	QH_CLUSTER_BITS = 20,
	QH_SIZE = 24,
	QH_CRYPT = 32,
	QH_L1_SIZE = 36,
	QH_L1_OFFSET = 40,
	QH_RT_OFFSET = 48,
	QH_RT_CLUSTERS = 56,
	QH_SNAPSHOTS = 60,
	QH_SNAPSHOTS_OFFSET = 64,
	QH_V2_BYTES = 72,
	QH_INCOMPATIBLE = 72,
	QH_COMPATIBLE = 80,
	QH_AUTOCLEAR = 88,
	QH_REFCOUNT_ORDER = 96,
	QH_HEADER_LENGTH = 100,
	QH_V3_BYTES = 104,
	QH_COMPRESSION = 104,
	QH_V3_LONG_BYTES = 112,
};

enum qcow2_incompatible {
	QI_DIRTY = BIT(0),
	QI_CORRUPT = BIT(1),
	QI_DATA_FILE = BIT(2),
	QI_COMPRESSION = BIT(3),
	QI_EXTENDED_L2 = BIT(4),
	QI_KNOWN = 0x1f,
};

enum qcow2_compatible { QC_LAZY_REFCOUNTS = BIT(0) };

enum qcow2_autoclear { QA_BITMAPS = BIT(0), QA_RAW_DATA_FILE = BIT(1), QA_KNOWN = 3 };

enum qcow2_extension {
	QX_END = 0,
	QX_BACKING_FORMAT = 0xe2792aca,
	QX_FEATURES = 0x6803f857,
	QX_BITMAPS = 0x23852875,
	QX_ENCRYPTION = 0x0537be77,
	QX_DATA_FILE = 0x44415441,
};

enum qcow2_compression { QCOW2_ZLIB, QCOW2_ZSTD, QCOW2_COMPRESSION_COUNT };

#define QCOW2_CLUSTER_BITS_MIN   9
#define QCOW2_CLUSTER_BITS_MAX   21
#define QCOW2_EXT_CLUSTER_BITS   14 /* the least with extended L2 entries */
#define QCOW2_REFCOUNT_ORDER_MAX 6
#define QCOW2_BACKING_NAME_MAX   1023
#define QCOW2_SUBCLUSTERS        32

/* Limits that QEMU has too; they bound what a hostile header can make us allocate. */
#define QCOW2_L1_BYTES_MAX        MIB(32)
#define QCOW2_RT_BYTES_MAX        MIB(8)
#define QCOW2_SNAPSHOTS_MAX       65536u
#define QCOW2_SNAPSHOT_EXTRA_MAX  1024u
#define QCOW2_SNAPSHOTS_BYTES_MAX MIB(64)
#define QCOW2_BITMAPS_MAX         65535u
#define QCOW2_BITMAP_DIR_MAX      MIB(64)

/* Entries of L1, L2 and the refcount table. */
#define QE_OFFSET       0x00fffffffffffe00ull
#define QE_RT_OFFSET    0xfffffffffffffe00ull
#define QE_COPIED       BIT64(63)
#define QE_COMPRESSED   BIT64(62)
#define QE_ZERO         BIT64(0)
#define QE_L1_RESERVED  0x7f000000000001ffull
#define QE_L2_RESERVED  0x3f000000000001feull
#define QCOW2_HOST_BITS 56

/* A row of the snapshot table: offsets; extra data follow, then id and name, padded to 8. */
enum qcow2_snapshot_at {
	QS_L1_OFFSET = 0,
	QS_L1_SIZE = 8,
	QS_ID_SIZE = 12,
	QS_NAME_SIZE = 14,
	QS_DATE_SEC = 16,
	QS_DATE_NSEC = 20,
	QS_VM_CLOCK = 24,
	QS_VM_STATE_SIZE = 32,
	QS_EXTRA_SIZE = 36,
	QS_FIXED_BYTES = 40,
	/* within the extra data */
	QS_EXTRA_VM_STATE = 0,
	QS_EXTRA_DISK_SIZE = 8,
	QS_EXTRA_ICOUNT = 16,
	QS_EXTRA_BYTES = 24,
};

#define DEFINE_BE(bits)                                              \
	static inline uint##bits##_t load_be##bits(const void *p)    \
	{                                                            \
		uint##bits##_t v;                                    \
		memcpy(&v, p, sizeof(v));                            \
		return __builtin_bswap##bits(v);                     \
	}                                                            \
	static inline void store_be##bits(void *p, uint##bits##_t v) \
	{                                                            \
		v = __builtin_bswap##bits(v);                        \
		memcpy(p, &v, sizeof(v));                            \
	}
DEFINE_BE(16)
DEFINE_BE(32)
DEFINE_BE(64)
#undef DEFINE_BE
