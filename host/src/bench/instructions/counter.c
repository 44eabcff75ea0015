/* SPDX-License-Identifier: MIT OR Apache-2.0 */

/*
 * A plugin of QEMU's translator (API version 7, QEMU 11): counts the guest's instructions from a function's first to its return, each
 * time it is called. Compiled by the benchmark, which reads the counts while the guest runs on.
 *
 *   entry=0xA end=0xB     the function's addresses: from A up to B
 *   apart=0xA-0xB         instructions from A up to B are counted apart; may be given several times
 *   out=PATH              a file as long as `struct counts`, which both sides map
 *
 * Debian ships no header for plugins, so what is used of the interface is declared here.
 */

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct block;
struct instruction;
struct scoreboard;
struct counter {
    struct scoreboard *scoreboard;
    size_t offset;
};
enum { NO_REGISTERS = 0, ADD = 0 };

extern void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, void (*translated)(struct block *, void *), void *);
extern size_t qemu_plugin_tb_n_insns(const struct block *);
extern struct instruction *qemu_plugin_tb_get_insn(const struct block *, size_t);
extern uint64_t qemu_plugin_insn_vaddr(const struct instruction *);
extern size_t qemu_plugin_insn_data(const struct instruction *, void *, size_t);
extern void qemu_plugin_register_vcpu_insn_exec_cb(struct instruction *, void (*executed)(unsigned, void *), int, void *);
extern void qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(struct instruction *, int, struct counter, uint64_t);
extern struct scoreboard *qemu_plugin_scoreboard_new(size_t);
extern uint64_t qemu_plugin_u64_get(struct counter, unsigned);

int qemu_plugin_version = 7;

/* What the other side reads, too: how many calls there were, and the counts of each. */
enum { PASSES = 1 << 22 };
struct counts {
    uint64_t passes;
    struct { uint32_t counted, apart; } pass[PASSES];
};
static struct counts *counts;

static uint64_t entry, end;
static struct { uint64_t start, end; } apart[16];
static size_t aparts;
static struct counter counted_so_far, apart_so_far;
/* When the function was entered. */
static uint64_t counted_before, apart_before;

static void entered(unsigned processor, void *unused)
{
    (void)unused;
    counted_before = qemu_plugin_u64_get(counted_so_far, processor);
    apart_before = qemu_plugin_u64_get(apart_so_far, processor);
}

static void returned(unsigned processor, void *unused)
{
    (void)unused;
    uint64_t passes = counts->passes;
    if (passes == PASSES)
        return;
    counts->pass[passes].counted = qemu_plugin_u64_get(counted_so_far, processor) - counted_before;
    counts->pass[passes].apart = qemu_plugin_u64_get(apart_so_far, processor) - apart_before;
    /* Release: pairs with the benchmark's acquiring load. */
    __atomic_store_n(&counts->passes, passes + 1, __ATOMIC_RELEASE);
}

static int is_apart(uint64_t address)
{
    for (size_t index = 0; index < aparts; index++)
        if (apart[index].start <= address && address < apart[index].end)
            return 1;
    return 0;
}

/* RET, with or without bytes to drop. */
static int is_return(const struct instruction *instruction)
{
    uint8_t code[2] = { 0, 0 };
    size_t length = qemu_plugin_insn_data(instruction, code, sizeof code);
    return (length > 0 && (code[0] == 0xc3 || code[0] == 0xc2)) || (length > 1 && code[0] == 0xf3 && code[1] == 0xc3);
}

static void translated(struct block *block, void *unused)
{
    (void)unused;
    size_t instructions = qemu_plugin_tb_n_insns(block);
    for (size_t index = 0; index < instructions; index++) {
        struct instruction *instruction = qemu_plugin_tb_get_insn(block, index);
        uint64_t address = qemu_plugin_insn_vaddr(instruction);
        /* In the order in which they are registered: the first instruction is counted after the entry, the return before. */
        if (address == entry)
            qemu_plugin_register_vcpu_insn_exec_cb(instruction, entered, NO_REGISTERS, NULL);
        struct counter counter = is_apart(address) ? apart_so_far : counted_so_far;
        qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(instruction, ADD, counter, 1);
        if (entry <= address && address < end && is_return(instruction))
            qemu_plugin_register_vcpu_insn_exec_cb(instruction, returned, NO_REGISTERS, NULL);
    }
}

static int refuse(const char *what)
{
    fprintf(stderr, "counter: %s\n", what);
    return -1;
}

int qemu_plugin_install(uint64_t id, const void *information, int count, char **arguments)
{
    (void)information;
    for (int index = 0; index < count; index++) {
        char *value = strchr(arguments[index], '=');
        if (!value)
            return refuse(arguments[index]);
        *value++ = 0;
        if (!strcmp(arguments[index], "entry")) {
            entry = strtoull(value, NULL, 0);
        } else if (!strcmp(arguments[index], "end")) {
            end = strtoull(value, NULL, 0);
        } else if (!strcmp(arguments[index], "apart") && aparts < sizeof apart / sizeof *apart) {
            apart[aparts].start = strtoull(value, &value, 0);
            apart[aparts++].end = strtoull(value + (*value == '-'), NULL, 0);
        } else if (!strcmp(arguments[index], "out")) {
            int file = open(value, O_RDWR);
            counts = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
            if (counts == MAP_FAILED)
                return refuse("cannot map the file for the counts");
        } else {
            return refuse(arguments[index]);
        }
    }
    if (!counts || entry >= end)
        return refuse("entry, end and out are needed");
    struct scoreboard *scoreboard = qemu_plugin_scoreboard_new(2 * sizeof(uint64_t));
    counted_so_far = (struct counter) { scoreboard, 0 };
    apart_so_far = (struct counter) { scoreboard, sizeof(uint64_t) };
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated, NULL);
    return 0;
}
