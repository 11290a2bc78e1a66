/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Multiboot header, entry point and interrupt stubs.
 * The loader leaves us in 32-bit protected mode, paging off, %ebx = info.
 */
        .set    MAGIC, 0x1badb002
        .set    FLAGS, 0x00000003          /* align modules, give memory map */

        .section .multiboot, "a"
        .align  4
        .long   MAGIC, FLAGS, -(MAGIC + FLAGS)

        .text
        .globl  _start
_start:
        cli
        movl    $stack_top, %esp
        lgdt    gdt_ptr
        ljmp    $0x08, $1f
1:      movw    $0x10, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %fs
        movw    %ax, %gs
        movw    %ax, %ss
        cld
        pushl   $0
        popfl
        pushl   %ebx
        call    guest_main
2:      cli
        hlt
        jmp     2b

/* Timer tick: count it, acknowledge it. */
        .globl  irq_timer
irq_timer:
        pushl   %eax
        incl    ticks
        movb    $0x20, %al
        outb    %al, $0x20
        popl    %eax
        iret

/* Any other interrupt: acknowledge both controllers. */
        .globl  irq_other
irq_other:
        pushl   %eax
        movb    $0x20, %al
        outb    %al, $0xa0
        outb    %al, $0x20
        popl    %eax
        iret

/* A processor exception is a bug or corruption; say so and stop. */
        .globl  trap
trap:
        movl    %esp, %eax
        pushl   %eax
        call    guest_trap
        jmp     2b

        .section .rodata
        .align  8
gdt:    .quad   0
        .quad   0x00cf9a000000ffff
        .quad   0x00cf92000000ffff
gdt_ptr:
        .word   . - gdt - 1
        .long   gdt

        .bss
        .align  16
        .skip   16384
stack_top:
        .section .note.GNU-stack, "", @progbits
