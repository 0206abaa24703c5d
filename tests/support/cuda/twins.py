#!/usr/bin/env python3
"""Writes, for each .cu that nvcc has compiled, a source for g++: the .cu itself, and a table of its kernels under the
names that nvcc has given them.

    twins.py FOLDER OBJECT...

Beside the object of PATH.cu lies what ptxas said of its kernels (kernels/cuda/compile.py). FOLDER gets PATH.cu.cpp.
"""
import re
import subprocess
import sys
from pathlib import Path


def twins(log):
    """The kernels that a log of ptxas names, as lines of the table."""
    for name in sorted(set(re.findall(r"Compiling entry function '(\w+)'", log))):
        says = subprocess.run(["c++filt", name], capture_output=True, text=True, check=True).stdout.strip()
        # Within one source, what is in an unnamed namespace needs no more of a name; and the compiler knows the parameters.
        kernel = says.replace("(anonymous namespace)::", "").removeprefix("void ").split("(")[0]
        yield f'    {{"{name}", {kernel}}},\n'


def main():
    folder, *objects = map(Path, sys.argv[1:])
    for made in objects:
        path = re.search(r"\.dir/(.*)\.o$", str(made))[1]
        table = "".join(twins(made.with_name(f"{made.name}.ptxas").read_text()))
        text = f'#include "{path}"\n#include "support/cuda/twin.h"\nstatic const infalign::host_cuda::Twin kernels[] = {{\n{table}}};\n' if table else ""
        file = folder / f"{path}.cpp"
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists() or file.read_text() != text:
            file.write_text(text)


if __name__ == "__main__":
    main()
