"""`kill -9` at a bad moment, again and again, in a run of several stages of a tiny model: after each restart, on another number of ranks and in another
stage of sharding, the run goes on, and at its end weights and evaluation are those of the undisturbed run, bit for bit.

    kills.py KILLS [SEED]      prints a line for each run that was brought to its end

Who is killed: a random rank, all ranks, or mpirun politely (SIGTERM, which it turns into SIGKILL a second later); with more than 20 kills, a random rank may be
stopped instead (SIGSTOP), and the watchdog has to end the run. When: at a random moment (mostly in a
collective or in the work before one), while a file is written, or while it takes its name.
"""
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "end_to_end"))
from support import *  # noqa: E402, F403

KILLS = int(sys.argv[1])
rng = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
LIMIT = 60  # seconds that a run may take to end once one of its ranks is killed

config, settings = small_config()
settings = {**settings, "checkpoint.every": 1, "alignment.steps": 4, "prompts.max_train": 8, "prompts.max_heldout": 4, "distributed.watchdog_seconds": 20,
            "alignment.prompts_per_step": 4, "reward.pairs_per_step": 64}
PAUSE = 0.001


def is_over(pid):
    """A process that has ended, of which mpirun has not taken notice, or one that is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZT"


def ranks_of(launcher):
    """The processes of this program below mpirun that go on; none if it has ended."""
    try:
        children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
        return [int(pid) for pid in children if "infalign" in Path(f"/proc/{pid}/comm").read_text() and not is_over(pid)]
    except OSError:
        return []


def wait_for_end(process, limit):
    """Waits for mpirun and returns its standard error. One that hangs although its ranks are gone, or is left with one that is stopped, is killed, as launch/mpirun
    does: Open MPI 4 does so at times when ranks end while it finalises."""
    start, gone_since = time.time(), None
    while time.time() < start + limit:
        try:
            return process.communicate(timeout=1)[1]
        except subprocess.TimeoutExpired:
            gone_since = (gone_since or time.time()) if not ranks_of(process.pid) else None
            if gone_since and time.time() > gone_since + 10:
                os.killpg(process.pid, signal.SIGKILL)
    raise subprocess.TimeoutExpired("mpirun", limit)


def unfinished(output):
    """What is being written there: the writer's temporary names."""
    found = set()
    for folder, folders, files in os.walk(output):
        found.update(os.path.join(folder, name) for name in folders + files if name.endswith(".tmp"))
    return found


def wait_for_moment(process, when, output, duration):
    """Returns once the moment has come, or the run has ended."""
    start = time.time()
    until = start + rng.uniform(0.05, 0.9) * duration
    if when == "at a random moment":
        while process.poll() is None and time.time() < until:
            time.sleep(0.01)
        return
    before = None
    while process.poll() is None:
        now = unfinished(output)
        late = time.time() > start + 0.3 * duration * rng.random()
        if when == "while writing" and now and late:
            return
        if when == "while renaming" and before and before - now and late:
            return
        before = now
        time.sleep(PAUSE)


undisturbed = fresh("undisturbed")
start = time.time()
run(command(config, undisturbed, settings, 2), timeout=300)
duration = time.time() - start
expected = results(undisturbed)
print(f"undisturbed: {duration:.1f} s", flush=True)

kills = runs = 0
while kills < KILLS:
    output = fresh("killed")
    what = []
    while True:
        ranks = rng.choice([1, 2, 3])
        sharding = rng.choice([0, 1, 2, 3])
        process = subprocess.Popen(command(config, output, {**settings, "distributed.sharding": sharding}, ranks), env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                                   start_new_session=True)
        who = rng.choice(["one rank", "all ranks", "mpirun"] + ["one rank, stopped,"] * (KILLS > 20 and ranks > 1))
        when = rng.choice(["at a random moment", "while writing", "while renaming"])
        disturbed = kills < KILLS and len(what) < 12
        if disturbed:
            wait_for_moment(process, when, output, duration)
            victims = ranks_of(process.pid)
            if who.startswith("one rank") and victims:
                victims = [rng.choice(victims)]
            if victims and process.poll() is None:
                for pid in [process.pid] if who == "mpirun" else victims:
                    try:
                        os.kill(pid, {"mpirun": signal.SIGTERM, "one rank, stopped,": signal.SIGSTOP}.get(who, signal.SIGKILL))
                    except ProcessLookupError:
                        pass  # it ended at this very moment
                kills += 1
                what.append(f"{who} {when}")
        try:
            errors = wait_for_end(process, LIMIT if disturbed else 300)
        except subprocess.TimeoutExpired:
            left = subprocess.run(["ps", "-o", "pid,stat,wchan:20,args", "--ppid", str(process.pid)], stdout=subprocess.PIPE, text=True).stdout
            os.killpg(process.pid, signal.SIGKILL)
            sys.exit(f"{left}FAILED: the run hangs after {what[-1]}")
        if process.returncode == 0:
            break
        check(disturbed, f"exit code {process.returncode}:\n{errors}")
    require_same(expected, results(output), f"after {len(what)} kills ({'; '.join(what)})")
    runs += 1
    print(f"{len(what)} kills: same bits ({'; '.join(what) or 'none came in time'})", flush=True)
print(f"{kills} kills in {runs} runs: same bits in all")
