"""What a disk can do to a run: it is full, it is not for writing, it flips a byte. Each is told in one line that names the file, and costs nothing but what
it says.

    disk.py full|read_only|flipped
"""
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "end_to_end"))
from support import *  # noqa: E402, F403

ROOT_CONFIG, settings = small_config()
settings = {**settings, "checkpoint.every": 1, "checkpoint.keep": 3, "alignment.steps": 4, "prompts.max_train": 8, "prompts.max_heldout": 4, "alignment.prompts_per_step": 4,
            "reward.pairs_per_step": 64, "distributed.watchdog_seconds": 20}
# One variant, and its checkpoints.
LAST = ["checkpoints", "infalign"]


def message_of(done):
    lines = [line for line in done.stderr.splitlines() if line.startswith("infalign: ")]
    check(len(lines) == 1, f"expected one line that begins with infalign:\n{done.stderr}")
    return lines[0]


def checkpoints(output):
    return sorted(path for path in output.joinpath(*LAST).glob("step_*") if path.suffix != ".tmp")


def full():
    """A file system of 3 MiB in the place of `output`, or, where it may not be mounted, a limit on the size of files."""
    undisturbed = fresh("undisturbed")
    run(command(ROOT_CONFIG, undisturbed, settings), timeout=60)
    size = max(path.stat().st_size for path in undisturbed.rglob("*.h5"))
    output = fresh("full")
    limited = ["bash", "-c", f"ulimit -f {size // 1024 - 8}; trap '' XFSZ; exec \"$@\"", "limited"]
    done = run(limited + command(ROOT_CONFIG, output, settings), expect=1, timeout=60)
    said = message_of(done)
    check(re.search(r"(File too large|No space left)", said) and str(output) in said, f"neither file nor cause: {said}")
    check(not [path for path in output.rglob("*.tmp") if path.is_file() and path.stat().st_size >= size], "the limit did not hold")
    run(command(ROOT_CONFIG, output, settings), timeout=60)
    require_same(results(undisturbed), results(output), "after a full disk")


def read_only():
    output = fresh("read_only")
    folder = output / "there"
    folder.mkdir()
    drop = []
    if os.geteuid() == 0:  # who may write everywhere: as somebody else, or not at all
        if not shutil.which("setpriv"):
            print("SKIPPED: root may write everywhere, and there is no setpriv")
            sys.exit()
        drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    folder.chmod(0o555)
    for parent in [folder, *folder.parents]:
        if drop and not os.stat(parent).st_mode & 0o001:
            print(f"SKIPPED: {parent} is closed to others")
            sys.exit()
    done = run(drop + command(ROOT_CONFIG, folder / "output", settings), expect=1, timeout=60)
    said = message_of(done)
    check("Permission denied" in said and str(folder) in said, f"neither file nor cause: {said}")
    check(not list(folder.iterdir()), "something was written")


def flipped():
    output = fresh("flipped")
    run(command(ROOT_CONFIG, output, settings), timeout=60)
    expected = results(output)
    whole = fresh("whole")
    rng_places = [0.02, 0.35, 0.9]
    newest = checkpoints(output)[-1]
    files = sorted(path for path in newest.iterdir())
    check(len(files) >= 2, f"only {files} in the checkpoint")
    shutil.copytree(output, whole, dirs_exist_ok=True)
    for file in files:
        for place in rng_places:
            shutil.rmtree(output)
            shutil.copytree(whole, output)
            data = bytearray(file.read_bytes())
            at = int(len(data) * place)
            data[at] ^= 0x10
            file.write_bytes(data)
            done = run(command(ROOT_CONFIG, output, settings), expect=3, timeout=60)
            said = message_of(done)
            check(str(newest) in said, f"byte {at} of {file.name}: the checkpoint is not named: {said}")
            check("checkpoint.use_older" in said, f"no way out is told: {said}")
    older = run(command(ROOT_CONFIG, output, {**settings, "checkpoint.use_older": "true"}), timeout=60)
    check("trying the checkpoint before it" in older.stderr and f"resuming from {checkpoints(output)[-2]}" in older.stderr, f"not the older one:\n{older.stderr}")
    require_same(expected, results(output), "from the older checkpoint")
    print(f"{len(files) * len(rng_places)} bytes flipped, each found")


{"full": full, "read_only": read_only, "flipped": flipped}[sys.argv[1]]()
