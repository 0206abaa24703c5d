"""`kill -9` of one rank or of all at a random moment, then a restart on another number of ranks: the same bits as undisturbed.

    kill_and_resume.py KILLS      the seed of the moments is fixed; the moments themselves depend on the machine's speed
"""
import random

from support import *

KILLS = int(sys.argv[1]) if len(sys.argv) > 1 else 8
config, settings = small_config()

undisturbed = fresh("undisturbed")
start = time.time()
run(command(config, undisturbed, settings, 2), timeout=300)
duration = time.time() - start
expected = results(undisturbed)
print(f"undisturbed: {duration:.1f} s")


def rank_processes(launcher):
    """The processes of this program below mpirun."""
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    return [int(pid) for pid in children if "infalign" in Path(f"/proc/{pid}/comm").read_text()]


rng = random.Random(1)
output = fresh("killed")
kills = 0
while True:
    ranks = rng.choice([1, 2, 3])
    process = subprocess.Popen(command(config, output, settings, ranks), env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               start_new_session=True)
    if kills < KILLS:
        try:
            process.wait(timeout=rng.uniform(0.05, 0.5) * duration)
        except subprocess.TimeoutExpired:
            try:
                victims = rank_processes(process.pid)
                if rng.random() < 0.5:
                    victims = victims[-1:]
                for pid in victims:
                    os.kill(pid, signal.SIGKILL)
            except (FileNotFoundError, ProcessLookupError):
                pass  # it ended at this very moment
            kills += 1
            process.wait(timeout=30)
            if process.returncode != 0:
                continue
    text, _ = process.communicate(timeout=300)
    check(process.returncode == 0, f"restart on {ranks} ranks failed with {process.returncode}:\n{text}")
    require_same(expected, results(output), f"after {kills} kills")
    if kills >= KILLS:
        break
    # All done too early: start over, keeping nothing.
    output = fresh("killed")
print(f"{kills} kills: same bits")
