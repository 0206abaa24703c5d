"""A rank commits a fault while the others wait for it: one message that names it and says what everybody was at, the right exit code, and no
process is left.

    watchdog_faults.py PROGRAM MPIRUN FAULT RANK [courier]
"""
import os
import subprocess
import sys
import time
from pathlib import Path

PROGRAM, MPIRUN, FAULT, RANK, *MORE = sys.argv[1:]
RANKS, SECONDS = 4, 5
EXIT_CODES = {"throw": (3,), "work": (0,), "read": (0,)}
WORDS = {
    "throw": f"rank {RANK} on HOST, step 10: this is the cause",
    "kill": f"rank {RANK} on HOST ended without a word",
    "abort": f"rank {RANK} on HOST ended without a word",
    "stop": f"rank {RANK} on HOST has given no sign of life for",
    "stop_at_the_end": f"rank {RANK} on HOST has given no sign of life for",
    "stop_at_the_start": f"rank {0 if RANK != '0' else 1} on HOST: the ranks have not met within {SECONDS} s of their start",
    "sleep": f"rank {RANK} on HOST has not got on for",
    "spin": f"rank {RANK} on HOST has not got on for",
    "leave": f"rank {RANK} on HOST ended its work while others need it",
}


def check(condition, message):
    if not condition:
        sys.exit(f"FAILED: {message}")


environment = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMPI_MCA_mpi_yield_when_idle": "1",
               "OMPI_MCA_btl_vader_single_copy_mechanism": "none", "OMP_NUM_THREADS": "1"}
start = time.time()
command = [MPIRUN, "--oversubscribe", "--bind-to", "none", "-n", str(RANKS), PROGRAM]
if FAULT == "stop_at_the_end":  # when ranks end while it finalises, Open MPI 4's mpirun crashes at times, or hangs: launch/mpirun sees to that
    environment.update({"MPIRUN": MPIRUN, "INFALIGN": PROGRAM})
    command = [Path(__file__).resolve().parent.parent.parent / "launch" / "mpirun", "--restarts", "0", "-n", str(RANKS), "--"]
done = subprocess.run([*command, str(SECONDS), FAULT, RANK, *MORE],
                      stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=55, env=environment)
print(f"{time.time() - start:.1f} s, exit code {done.returncode}\n{done.stderr}")
said = [line for line in done.stderr.splitlines() if line.startswith("infalign: ")]
if FAULT in ("work", "read"):
    check(done.returncode == 0, f"exit code {done.returncode} instead of 0")
    check(not said, "a rank that works was given up")
    sys.exit()
check(done.returncode in EXIT_CODES.get(FAULT, (1, 134, 137)), f"exit code {done.returncode}")
check(len(said) == 1 or (said and FAULT == "stop_at_the_start"), f"{len(said)} messages instead of one")
words = WORDS[FAULT].replace("HOST", os.uname().nodename)
check(words in said[0], f"«{words}» is not in the message")
if FAULT in ("stop_at_the_end", "stop_at_the_start"):
    sys.exit()
check("phase mischief" in said[0] or FAULT in ("throw", "leave"), "the phase is not in the message")
check("step 10" in said[0] and ("after split #" if MORE else "after barrier #") in said[0], "the step or the last collective is not in the message")
check((" wait for their couriers after split #" if MORE else " wait in barrier #") in said[0], "what the others waited in is not in the message")
left = subprocess.run(["pgrep", "-f", f"^{' '.join([PROGRAM, str(SECONDS), FAULT, RANK, *MORE])}$"], stdout=subprocess.PIPE, text=True).stdout
check(not left, f"left running: {left}")
