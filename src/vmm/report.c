/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/report.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#define CODE_BYTES 16u
#define TAIL_BYTES 2048u
#define TAIL_LINES 10u

static const char *suberror_name(uint32_t suberror)
{
	switch (suberror) {
	case KVM_INTERNAL_ERROR_EMULATION:
		return "an instruction that it cannot emulate";
	case KVM_INTERNAL_ERROR_SIMUL_EX:
		return "two exceptions at once";
	case KVM_INTERNAL_ERROR_DELIVERY_EV:
		return "an exit while it delivered an event";
	default:
		return "an error of its own";
	}
}

static void say_why(FILE *f, const struct vcpu *c)
{
	const struct kvm_run *run = c->run;

	fprintf(f, "vCPU %u cannot go on: ", c->index);
	if (c->run_error) {
		fprintf(f, "the engine says %s\n", strerror(-c->run_error));
		return;
	}
	switch (run->exit_reason) {
	case KVM_EXIT_SHUTDOWN:
		fprintf(f, "triple fault (a fault while a double fault was delivered)\n");
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		fprintf(f, "the engine met %s (suberror %u)\n",
			suberror_name(run->internal.suberror), run->internal.suberror);
		break;
	case KVM_EXIT_FAIL_ENTRY:
		fprintf(f, "the processor refuses its state (reason 0x%llx)\n",
			(unsigned long long)run->fail_entry.hardware_entry_failure_reason);
		break;
	case KVM_EXIT_SYSTEM_EVENT:
		fprintf(f, "the guest says that it has crashed (event %u)\n",
			run->system_event.type);
		break;
	default:
		fprintf(f, "exit %u, which is not expected\n", run->exit_reason);
		break;
	}
}

static void say_segment(FILE *f, const char *name, const struct kvm_segment *s)
{
	fprintf(f, "  %s %04x base %016llx limit %08x type %x dpl %u%s%s%s\n", name, s->selector,
		(unsigned long long)s->base, s->limit, s->type, s->dpl, s->l ? " 64-bit" : "",
		s->db ? " 32-bit" : "", s->unusable ? " unusable" : "");
}

static void say_registers(FILE *f, const struct kvm_regs *r, const struct kvm_sregs *s)
{
	const struct {
		const char *name;
		unsigned long long value;
	} rows[] = {
		{ "rax", r->rax }, { "rbx", r->rbx },  { "rcx", r->rcx },
		{ "rdx", r->rdx }, { "rsi", r->rsi },  { "rdi", r->rdi },
		{ "rbp", r->rbp }, { "rsp", r->rsp },  { "r8 ", r->r8 },
		{ "r9 ", r->r9 },  { "r10", r->r10 },  { "r11", r->r11 },
		{ "r12", r->r12 }, { "r13", r->r13 },  { "r14", r->r14 },
		{ "r15", r->r15 }, { "rip", r->rip },  { "rfl", r->rflags },
		{ "cr0", s->cr0 }, { "cr2", s->cr2 },  { "cr3", s->cr3 },
		{ "cr4", s->cr4 }, { "efr", s->efer }, { "apb", s->apic_base },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		fprintf(f, "%s%s %016llx%s", i % 4 ? " " : "  ", rows[i].name, rows[i].value,
			i % 4 == 3 ? "\n" : "");
	}
	say_segment(f, "cs", &s->cs);
	say_segment(f, "ss", &s->ss);
	say_segment(f, "tr", &s->tr);
	fprintf(f, "  gdt base %016llx limit %04x, idt base %016llx limit %04x\n",
		(unsigned long long)s->gdt.base, s->gdt.limit, (unsigned long long)s->idt.base,
		s->idt.limit);
}

static void say_code(FILE *f, struct vcpu *c, struct mem *m, uint64_t linear)
{
	struct kvm *k = c->group->vm->kvm;

	fprintf(f, "  code");
	for (unsigned i = 0; i < CODE_BYTES; i++) {
		struct kvm_translation tr = { .linear_address = linear + i };
		uint8_t byte;

		if (kvm_ioctl(k, c->fd, KVM_TRANSLATE, &tr) < 0 || !tr.valid ||
		    mem_read(m, tr.physical_address, &byte, 1) < 0) {
			fprintf(f, " (not readable)");
			break;
		}
		fprintf(f, " %02x", byte);
	}
	fputc('\n', f);
}

/* The console's last lines, without anything that a terminal would obey. */
static void say_console(FILE *f, struct chardev *console)
{
	char tail[TAIL_BYTES];
	size_t len = chardev_tail(console, tail, sizeof(tail)), from = len;
	unsigned lines = 0;
	bool at_start = true;

	while (len && (tail[len - 1] == '\n' || tail[len - 1] == '\r')) {
		len--;
	}
	for (from = len; from > 0; from--) {
		if (tail[from - 1] == '\n' && ++lines == TAIL_LINES) {
			break;
		}
	}
	fprintf(f, len ? "last lines on its console:\n" : "its console has shown nothing\n");
	for (size_t i = from; i < len; i++) {
		if (at_start) {
			fputs("  | ", f);
		}
		at_start = tail[i] == '\n';
		if (tail[i] == '\n' || isprint((unsigned char)tail[i])) {
			fputc(tail[i], f);
		} else if (tail[i] != '\r') {
			fputc('?', f);
		}
	}
	if (len) {
		fputc('\n', f);
	}
}

char *report_crash(struct vcpu *c, struct mem *m, struct chardev *console)
{
	struct kvm *k = c->group->vm->kvm;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	if (!f) {
		return NULL;
	}
	say_why(f, c);
	if (kvm_ioctl(k, c->fd, KVM_GET_REGS, &regs) >= 0 &&
	    kvm_ioctl(k, c->fd, KVM_GET_SREGS, &sregs) >= 0) {
		say_registers(f, &regs, &sregs);
		say_code(f, c, m, sregs.cs.base + regs.rip);
		if (c->run->exit_reason == KVM_EXIT_SHUTDOWN && regs.rip == 0xfff0) {
			fprintf(f, "  (this processor resets itself at a triple fault: "
				   "these registers are those after it)\n");
		}
	}
	if (console) {
		say_console(f, console);
	}
	fclose(f);
	return text;
}
