// SPDX-License-Identifier: GPL-2.0
/*
 * A plugin of the emulator: counts the instructions of each virtual CPU by the
 * address of their block, between two marks that the load executes, and appends
 * what it counted to a file: a line `mark`, then `CPU ADDRESS INSTRUCTIONS` each.
 *
 *   -plugin count.so,out=FILE
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/*
 * What is used of the emulator's plugin interface, version 3 (its header is in no
 * package of Debian's): see docs/devel/tcg-plugins.rst of the emulator.
 */
#define EXPORT __attribute__((visibility("default")))

struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_plugin_scoreboard;
typedef struct {
	struct qemu_plugin_scoreboard *score;
	size_t offset;
} qemu_plugin_u64;
typedef struct {
	const char *target_name;
	struct { int min, cur; } version;
	bool system_emulation;
	struct { int smp_vcpus, max_vcpus; } system;
} qemu_info_t;

void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id,
		void (*cb)(uint64_t id, struct qemu_plugin_tb *tb));
void qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(struct qemu_plugin_tb *tb, int op,
		qemu_plugin_u64 entry, uint64_t value);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn,
		void (*cb)(unsigned int cpu, void *data), int flags, void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t i);
size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *insn, void *to, size_t room);
struct qemu_plugin_scoreboard *qemu_plugin_scoreboard_new(size_t bytes);
void *qemu_plugin_scoreboard_find(struct qemu_plugin_scoreboard *score, unsigned int cpu);

EXPORT int qemu_plugin_version = 3;

/* Blocks that are told apart; those beyond share one place. */
#define BLOCKS (1u << 18)

static uint64_t address[BLOCKS];
static struct qemu_plugin_scoreboard *counts;
static unsigned int cpus;
static char out[4096];

/* The place of a block, the same whenever it is translated again. */
static size_t place_of(uint64_t at)
{
	size_t i = (at * 0x9e3779b97f4a7c15ull) >> 46;
	size_t tried;

	for (tried = 0; tried < 64; tried++, i = (i + 1) % BLOCKS) {
		if (address[i] == 0)
			address[i] = at;
		if (address[i] == at)
			return i;
	}
	return 0;
}

static uint64_t *of_cpu(unsigned int cpu)
{
	return qemu_plugin_scoreboard_find(counts, cpu);
}

static void start(unsigned int cpu, void *data)
{
	(void)cpu, (void)data;
	for (unsigned int c = 0; c < cpus; c++)
		memset(of_cpu(c), 0, BLOCKS * sizeof(uint64_t));
}

static void stop(unsigned int cpu, void *data)
{
	FILE *file = fopen(out, "a");

	(void)cpu, (void)data;
	if (!file)
		return;
	fprintf(file, "mark\n");
	for (unsigned int c = 0; c < cpus; c++)
		for (size_t i = 0; i < BLOCKS; i++)
			if (of_cpu(c)[i])
				fprintf(file, "%u %llx %llu\n", c,
					(unsigned long long)address[i],
					(unsigned long long)of_cpu(c)[i]);
	fclose(file);
}

/* The marks are no-operations with a constant in them; load.h has the same. */
static void look_for_mark(struct qemu_plugin_insn *insn)
{
	static const uint8_t start_mark[] = { 0x0f, 0x1f, 0x80, 0x01, 0x54, 0x44, 0x49 };
	static const uint8_t stop_mark[] = { 0x0f, 0x1f, 0x80, 0x02, 0x54, 0x44, 0x49 };
	uint8_t bytes[16];
	size_t n = qemu_plugin_insn_data(insn, bytes, sizeof(bytes));

	if (n != sizeof(start_mark))
		return;
	if (!memcmp(bytes, start_mark, n))
		qemu_plugin_register_vcpu_insn_exec_cb(insn, start, 0, NULL);
	if (!memcmp(bytes, stop_mark, n))
		qemu_plugin_register_vcpu_insn_exec_cb(insn, stop, 0, NULL);
}

static void translated(uint64_t id, struct qemu_plugin_tb *tb)
{
	size_t i, n = qemu_plugin_tb_n_insns(tb);
	qemu_plugin_u64 entry = { counts, place_of(qemu_plugin_tb_vaddr(tb)) * sizeof(uint64_t) };

	(void)id;
	qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(tb, 0, entry, n);
	for (i = 0; i < n; i++)
		look_for_mark(qemu_plugin_tb_get_insn(tb, i));
}

EXPORT int qemu_plugin_install(uint64_t id, const qemu_info_t *info, int argc, char **argv)
{
	if (argc != 1 || strncmp(argv[0], "out=", 4) || !info->system_emulation)
		return -1;
	snprintf(out, sizeof(out), "%s", argv[0] + 4);
	cpus = info->system.smp_vcpus;
	counts = qemu_plugin_scoreboard_new(BLOCKS * sizeof(uint64_t));
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	return 0;
}
