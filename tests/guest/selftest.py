#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Damage the test guest's memory from outside and see that the guest notices.

selftest.py [GUEST.ELF]      default: build/tests/guest/guest.elf of this tree

Needs qemu-system-x86_64 and a built guest.  Exit status 0 if all is right.
"""
import mmap
import os
import queue
import re
import subprocess
import sys
import tempfile
import threading
import time

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GUEST = sys.argv[1] if len(sys.argv) > 1 else os.path.join(TREE, 'build/tests/guest/guest.elf')
PAGE, SIZE = 4096, 64 << 20


def main():
    d = tempfile.mkdtemp(dir='/dev/shm' if os.path.isdir('/dev/shm') else None)
    ram = os.path.join(d, 'ram')
    p = subprocess.Popen(
        [os.environ.get('QEMU', 'qemu-system-x86_64'), '-accel', 'tcg', '-m', '64',
         '-machine', 'q35,memory-backend=m', '-display', 'none', '-nodefaults', '-vga', 'none',
         '-object', 'memory-backend-file,id=m,size=64M,share=on,mem-path=' + ram,
         '-serial', 'stdio', '-kernel', GUEST,
         '-append', 'mem=48M dirty=8M ws=8M verify=128M stat=0'],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    q = queue.Queue()
    threading.Thread(target=lambda: [q.put(x.rstrip()) for x in p.stdout], daemon=True).start()

    def expect(pattern, what):
        end = time.monotonic() + 20
        while time.monotonic() < end:
            try:
                line = q.get(timeout=1)
            except queue.Empty:
                continue
            m = re.search(pattern, line)
            if m:
                print('ok   ', what, '|', line)
                return m
            if 'FAIL' in line or 'TRAP' in line:
                raise SystemExit('FAIL  %s: got %s' % (what, line))
        raise SystemExit('FAIL  %s: nothing came' % what)

    def clean():
        while not q.empty():
            q.get()
        expect(r'VERIFY (OK|BAD)', 'sweep under way ends')
        while not q.empty():
            q.get()
        expect(r'VERIFY OK', 'a clean sweep')

    try:
        m = expect(r'FILL pages=(\d+) ws=(\d+) pool=(\w+)', 'guest starts')
        pages, ws, pool = int(m.group(1)), int(m.group(2)), int(m.group(3), 16)
        expect('READY', 'memory filled')
        with open(ram, 'r+b') as f:
            mem = mmap.mmap(f.fileno(), SIZE)
        at = lambda i: slice(pool + i * PAGE, pool + (i + 1) * PAGE)
        index = lambda i: int.from_bytes(mem[at(i)][4:8], 'little')
        gen = lambda i: int.from_bytes(mem[at(i)][8:12], 'little')
        own = [i for i in range(ws, pages) if index(i) == i]
        zero = [i for i in range(ws, pages) if not any(mem[at(i)])]
        clean()

        i = own[len(own) // 2]
        mem[pool + i * PAGE + 1234] ^= 1
        expect(r'FAIL page=%d .*why=checksum' % i, 'one bit flipped')
        mem[pool + i * PAGE + 1234] ^= 1
        clean()

        a, b = own[10], own[200]
        old = mem[at(a)]
        mem[at(a)] = mem[at(b)]
        expect(r'FAIL page=%d .*why=misplaced' % a, 'another page in its place')
        mem[at(a)] = old
        clean()

        z = zero[len(zero) // 2]
        mem[pool + z * PAGE + 4000] = 1
        expect(r'FAIL page=%d .*why=not-zero' % z, 'a zero page that is not')
        mem[pool + z * PAGE + 4000] = 0
        clean()

        i, old, g = 100, mem[at(100)], gen(100)
        while gen(i) < g + 2:
            time.sleep(0.01)
        mem[at(i)] = old
        expect(r'FAIL page=%d .*why=(stale|magic)' % i, 'an old version of a page')
        print('all right')
        return 0
    finally:
        p.terminate()
        p.wait()
        os.unlink(ram)
        os.rmdir(d)


if __name__ == '__main__':
    sys.exit(main())
