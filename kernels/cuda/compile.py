#!/usr/bin/env python3
"""Stands before nvcc: keeps what ptxas says of each kernel (registers, memory) beside the object, as OBJECT.ptxas.

tests/kernels/cuda/occupancy.py reads these files. What is not ptxas's information is passed on.
"""
import subprocess
import sys
from pathlib import Path

done = subprocess.run(sys.argv[1:], stderr=subprocess.PIPE, text=True)
information = [line for line in done.stderr.splitlines() if line.startswith(("ptxas info", "    "))]
shown = [line for line in done.stderr.splitlines() if done.returncode != 0 or line not in information]
sys.stderr.write("".join(line + "\n" for line in shown))
if "-o" in sys.argv and done.returncode == 0:
    Path(sys.argv[sys.argv.index("-o") + 1] + ".ptxas").write_text("\n".join(information) + "\n")
sys.exit(done.returncode)
