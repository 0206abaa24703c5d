#!/usr/bin/env python3
"""Prints registers and shared memory of each kernel of a build with CUDA, and fails where a multiprocessor would hold
fewer blocks than intended.

    occupancy.py BUILD

Multiprocessors from sm_80 on have 65,536 registers and 2,048 threads (sm_80's shared memory, 164 KiB, is the least).
"""
import re
import subprocess
import sys
from pathlib import Path

REGISTERS, THREADS, SHARED = 65536, 2048, 164 << 10


def vectors(head, tiles, scores):
    """Dynamic shared memory of an attention kernel: attention.cu's shared_bytes()."""
    return 4 * (tiles * 32 * (head + 4) + scores * 32 * 33)


def narrow(head, row_tiles, rows):
    """The same of attention_tensor.cu, with two tiles of 32 columns."""
    return 2 * (row_tiles * rows + 2 * 32) * (head + 8)


def tensor(head):
    """What is intended of attention_tensor.cu's kernels at so many dimensions of a head."""
    warps = 8 if head <= 80 else 6 if head <= 128 else 4
    backward = 2 if head <= 128 else 1
    return [
        (f"tensor_forward<{head}>", 32 * warps, narrow(head, 1, 16 * warps), 2),
        (f"tensor_backward_queries<{head}>", 32 * warps, narrow(head, 2, 16 * warps), backward),
        (f"tensor_backward_keys<{head}>", 128, narrow(head, 2, 64), backward),
    ]


# What a kernel's name begins with: threads of a block, its dynamic shared memory, blocks that a multiprocessor is to hold.
INTENDED = [
    ("attention_forward_tile<64>", 128, vectors(64, 3, 1), 3),
    ("attention_forward_tile<128>", 128, vectors(128, 3, 1), 2),
    ("attention_forward_tile<256>", 128, vectors(256, 3, 1), 1),
    ("attention_backward_queries<64>", 128, vectors(64, 4, 1), 3),
    ("attention_backward_queries<128>", 128, vectors(128, 4, 1), 2),
    ("attention_backward_queries<256>", 128, vectors(256, 4, 1), 1),
    ("attention_backward_keys<64>", 128, vectors(64, 4, 2), 3),
    ("attention_backward_keys<128>", 128, vectors(128, 4, 2), 2),
    ("attention_backward_keys<256>", 128, vectors(256, 4, 2), 1),
    *(row for head in (64, 80, 96, 128, 256) for row in tensor(head)),
    ("attend_to_block", 256, 4 * 8 * 128, 4),
    ("log_probability_row", 512, 0, 3),
    ("sample_row", 256, 8 * 1002, 4),
    ("", 256, 0, 6),  # all others wait for memory, and are to have threads enough to wait with
]


def kernels(build):
    """(name, registers, static shared memory, spilled bytes) of each kernel."""
    for log in sorted(build.rglob("*.cu.o.ptxas")):
        text = log.read_text()
        for block in re.split(r"ptxas info\s+: Compiling entry function ", text)[1:]:
            mangled = re.match(r"'(\w+)'", block)[1]
            name = subprocess.run(["c++filt", mangled], capture_output=True, text=True, check=True).stdout
            name = re.sub(r"\(int\)|\(anonymous namespace\)::|_GLOBAL__N__\w+::|infalign::kernels::cuda::|void ", "", name)
            name = name.strip().split("(")[0]
            used = re.search(r"Used (\d+) registers", block)
            shared = re.search(r"(\d+) bytes smem", block)
            spilled = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", block)
            yield name, int(used[1]), int(shared[1]) if shared else 0, int(spilled[1]) + int(spilled[2])


def blocks_of(registers, threads, shared):
    by_registers = REGISTERS // (-(-registers // 8) * 8 * threads)
    by_shared = SHARED // (shared + 1024)  # the system keeps 1 KiB of each block
    return min(by_registers, THREADS // threads, by_shared)


def main():
    failures, count = [], 0
    print(f"{'kernel':60} registers shared blocks intended")
    for name, registers, static, spilled in kernels(Path(sys.argv[1])):
        _, threads, dynamic, intended = next(row for row in INTENDED if name.startswith(row[0]))
        blocks = blocks_of(registers, threads, static + dynamic)
        count += 1
        print(f"{name[:60]:60} {registers:9} {static + dynamic:6} {blocks:6} {intended:8}")
        if blocks < intended or spilled:
            failures.append(f"{name}: {blocks} blocks of {intended}, {spilled} bytes spilled")
    print("\n".join(failures) or f"{count} kernels fit their intended occupancy")
    sys.exit(bool(failures) or count == 0)


if __name__ == "__main__":
    main()
