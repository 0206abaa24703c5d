"""`generate` draws answers as production does, by any procedure; one line with exit code 2 where it lacks what the procedure chooses by."""
import re

from support import *

MODEL = ROOT / "data" / "storyteller"


def generate(*arguments, expect=0):
    return run([PROGRAM, "generate", "--model", MODEL, "--prompt", "One day, there was a dog.", "--max-new-tokens", 8, *arguments], expect=expect)


def answers(*arguments):
    return [json.loads(line) for line in generate(*arguments, "--json", "--verbose").stdout.splitlines()]


# A vote: an answer is the last match, a response without one agrees with no other, and the choice is one of the most frequent.
FIRST_LETTER = r"\A ?[A-Z]"
for seed in range(1, 5):
    for line in answers("--procedure", "majority_vote:12", "--answer", FIRST_LETTER, "--seed", seed, "--samples", 2):
        check(len(line["candidates"]) == 12, f"not twelve candidates: {line}")
        found = []
        for candidate in line["candidates"]:
            match = re.match(FIRST_LETTER, candidate["text"])
            check(candidate["answer"] == (match[0] if match else None), f"answer: {candidate}")
            found.append(candidate["answer"] if match else id(candidate))
        check(found.count(line["answer"]) == max(map(found.count, found)), f"not a majority: {line}")
last = answers("--procedure", "majority_vote", "--n", 3, "--answer", r"\w+")[0]
for candidate in last["candidates"]:
    check(candidate["answer"] == re.findall(r"\w+", candidate["text"])[-1], f"not the last match: {candidate}")

# Candidates that a rule cannot tell apart are chosen at random, by the seed alone.
chosen = set()
for seed in range(1, 9):
    line = answers("--procedure", "majority_vote:4", "--answer", "no such thing", "--seed", seed)[0]
    check(line == answers("--procedure", "majority_vote:4", "--answer", "no such thing", "--seed", seed)[0], "not the same by the same seed")
    texts = [candidate["text"] for candidate in line["candidates"]]
    chosen.add(texts.index(line["text"]))
check(len(chosen) > 1, "always the same of four that all lead")  # 8 seeds: a false alarm of 4^-7

# Without a choice to be made nothing has changed.
check(generate("--procedure", "standard", "--samples", 3).stdout == generate("--samples", 3).stdout, "standard is not plain sampling")

for arguments, word in (
        (["--procedure", "best_of_n:4"], "--reward"),
        (["--procedure", "retry_until:4", "--threshold", "1"], "--reward"),
        (["--procedure", "best_of_n", "--reward", "x"], "best_of_n:4"),
        (["--procedure", "best_of_m:4"], "known: standard"),
        (["--procedure", "kth_of_n:4", "--k", "5"], "k must lie between 1 and n"),
        (["--procedure", "above_quantile", "--quantile", "0.5"], "--n"),
        (["--procedure", "majority_vote:4"], "--answer"),
        (["--procedure", "majority_vote:4", "--answer", "("], "--answer"),
        (["--procedure", "best_of_n:4", "--answer", "x"], "does not vote"),
        (["--procedure", "retry_until:4", "--threshold", "high"], "--threshold"),
        (["--n", "4"], "takes no n")):
    done = generate(*arguments, expect=2)
    lines = [line for line in done.stderr.splitlines() if line]
    check(len(lines) == 1 and word in lines[0] and not done.stdout, f"{arguments}: expected one line with «{word}»:\n{done.stderr}")
check("Example: infalign generate" in run([PROGRAM, "generate", "--help"]).stdout, "no example in --help")

# An answer may be empty: nothing to predict, and a reward model judges the prompt alone.
empty = run([PROGRAM, "score", "--model", MODEL, "--inputs", "-", "--json"], input='{"prompt": "One day", "response": ""}\n')
check(json.loads(empty.stdout) == {"logprobs": [], "nll": None}, f"an empty response: {empty.stdout}")
print("generated")
