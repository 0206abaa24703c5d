"""A program gives the rewards of a whole run: the same bits on one rank and on two and after the program has died; what is wrong is one
line with its exit code; no program outlives its rank."""
import signal

from support import *

CONFIG = ROOT / "configs" / "reward-command.yaml"
SMALL_RUN = {
    "prompts.max_train": 8, "prompts.max_heldout": 4, "sampling.max_new_tokens": 8, "calibration.rollouts_per_prompt": 8,
    "alignment.steps": 3, "alignment.prompts_per_step": 8, "alignment.samples_per_prompt": 4, "alignment.warmup_steps": 1,
    "distributed.micro_batch_prompts": 2, "evaluation.samples_per_prompt": 6, "evaluation.examples": 2,
}
FILES = ["calibration.h5", "evaluation.json", "policies/optimal/model.safetensors"]


def program(name, body):
    """A reward program; `answer(line)` writes the reward of one request."""
    path = SCRATCH / f"{name}.py"
    path.write_text("import json, os, sys, time\n"
                    "def answer(line):\n"
                    "    request = json.loads(line)\n"
                    "    print(json.dumps({'id': request['id'], 'reward': len(set(request['response']))}), flush=True)\n" + body)
    return path


def run_with(command_line, output, expect=0, ranks=None, **more):
    words = "[" + ", ".join(json.dumps(str(word)) for word in command_line) + "]"
    settings = {**SMALL_RUN, "model.reward.command": words, **more}
    return run(command(CONFIG, output, settings, ranks), expect=expect, timeout=120)


def bits(output):
    return {name: digest(output / name) for name in FILES}


# As the configuration has it, and as it is resolved: paths absolute.
first = fresh("one")
run(command(CONFIG, first, SMALL_RUN), timeout=120)
check(str(ROOT / "examples" / "rule_reward.py") in (first / "experiment.yaml").read_text(), "the program's path is not absolute")
second = fresh("two")
run(command(first / "experiment.yaml", second, {}, ranks=2), timeout=120)
require_same(bits(first), bits(second), "two ranks against one")

# Threads of the program spin briefly as they wait, unless its user has said otherwise; the program that it starts sees what it was told.
shows = program("shows", "print(os.environ.get('GOMP_SPINCOUNT'), os.environ.get('OMP_WAIT_POLICY'), file=sys.stderr)\n"
                         "for line in sys.stdin: answer(line)\n")
for told, expected in ([], "2000 None"), (["OMP_WAIT_POLICY=passive"], "None passive"):
    words = command(CONFIG, fresh("shows"), {**SMALL_RUN, "model.reward.command": f'["python3", "{shows}"]'})
    done = run(["env", "-u", "GOMP_SPINCOUNT", "-u", "OMP_WAIT_POLICY", *told, *words])
    check(expected in done.stderr, f"not with {expected}:\n{done.stderr}")

# A program that dies once on each rank, in the middle of a batch, changes nothing. Command and program are the same in both runs, since
# the fingerprint of the rewards is among the results; the folder of marks tells it whether to die.
marks = fresh("marks")
dying = program("dying", "mark = sys.argv[1] + '/' + str(os.getppid())\n"
                         "dies = not os.path.exists(mark) and not os.path.exists(sys.argv[1] + '/live')\n"
                         "open(mark, 'w').close()\n"
                         "for n, line in enumerate(sys.stdin):\n"
                         "    if dies and n == 5: os.kill(os.getpid(), 9)\n"
                         "    answer(line)\n")
(marks / "live").touch()
done = run_with(["python3", dying, marks], fresh("living"))
check("started again" not in done.stderr, f"died although it was to live:\n{done.stderr}")
(marks / "live").unlink()
done = run_with(["python3", dying, marks], fresh("dying"), ranks=2)
check(done.stderr.count("ended with signal 9 (Killed)") == 2 and "it is started again (1 of 2)" in done.stderr, f"not one restart on each rank:\n{done.stderr}")
require_same(bits(SCRATCH / "living"), bits(SCRATCH / "dying"), "a program that died")


def refused(done, *words):
    lines = [line for line in done.stderr.splitlines() if line.startswith("infalign: ")]
    check(len(lines) == 1, f"expected one line that begins with infalign:\n{done.stderr}")
    for word in words:
        check(word in lines[0], f"«{word}» is not in: {lines[0]}")


# What is wrong with a program.
never = program("never", "sys.exit('cannot score')\n")
refused(run_with(["python3", never], fresh("o"), expect=1), "rank 0, stage calibrate", "ended with exit status 1", "started 3 times", "cannot score")
chatty = program("chatty", "print('loading', flush=True)\nfor line in sys.stdin: answer(line)\n")
refused(run_with(["python3", chatty], fresh("o"), expect=3), "rank 0, stage calibrate", "not JSON", "loading")
slow = program("slow", "time.sleep(600)\n")
refused(run_with(["python3", slow], fresh("o"), expect=1, **{"model.reward.timeout": 0.5, "model.reward.restarts": 0}), "took more than 0.5 s")
refused(run_with(["no-such-program"], fresh("o"), expect=2), "model.reward.command", "no program no-such-program in PATH")
check(not list((SCRATCH / "o").iterdir()), "something was started")

# A changed program is another reward: the calibration is made anew.
steady = program("steady", "for line in sys.stdin: answer(line)\n")
run_with(["python3", steady], fresh("steady"))
done = run_with(["python3", steady], SCRATCH / "steady")
check("prompts x 8 rollouts" not in done.stderr, f"calibrated twice:\n{done.stderr}")
program("steady", "for line in sys.stdin: answer(line)  # changed\n")
done = run_with(["python3", steady], SCRATCH / "steady")
check("prompts x 8 rollouts" in done.stderr, f"not calibrated anew:\n{done.stderr}")

# When a rank is killed, its program ends, even one that does not look at its input.
deaf = program("deaf", "open(sys.argv[1] + '/' + str(os.getpid()), 'w').close()\ntime.sleep(600)\n")
marks = fresh("deaf_marks")
words = "[" + ", ".join(json.dumps(str(word)) for word in ["python3", deaf, marks]) + "]"
process = subprocess.Popen(command(CONFIG, fresh("o"), {**SMALL_RUN, "model.reward.command": words}), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT)
limit = time.time() + 60
while not list(marks.iterdir()) and time.time() < limit:
    time.sleep(0.05)
started = [int(path.name) for path in marks.iterdir()]
check(len(started) == 1, f"expected one program, found {started}")
process.send_signal(signal.SIGKILL)
process.wait()


def is_alive(number):
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


while is_alive(started[0]) and time.time() < limit:
    time.sleep(0.05)
check(not is_alive(started[0]), f"program {started[0]} outlived its rank")
print("rewarded by a program")
