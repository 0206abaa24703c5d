"""`design` answers at once and without MPI: the keys that scripts read, and one line with exit code 2 for a question that makes no sense."""
from support import *


def design(*arguments, expect=0):
    return run([PROGRAM, "design", *arguments], expect=expect)


rows = [json.loads(line) for line in design(
    "--procedure", "best_of_n", "--n", "4", "--transform", "identity,exponential:10,optimal", "--kl", "0.5",
    "--measure", "best_of_n:2,worst_of_n:4", "--json").stdout.splitlines()]
check([row["transform"] for row in rows] == ["identity", "exponential:10", "optimal"], f"transforms: {rows}")
for row, expected in zip(rows, (.7998, .8715, .8733)):
    check(list(row)[:9] == ["transform", "procedure", "n", "beta", "kl", "standard_win_rate", "inference_win_rate", "density_at_0", "density_at_1"],
          f"keys: {list(row)}")
    check(abs(row["inference_win_rate"] - expected) < 5e-5 and abs(row["kl"] - 0.5) < 1e-9, f"numbers: {row}")
    check(list(row["win_rates"]) == ["best_of_n 2", "worst_of_n 4"], f"win rates: {row}")

for arguments, word in (
        ([], "--procedure best_of_n --n 4"),
        (["--procedure", "best_of_m:4"], "known: standard"),
        (["--procedure", "best_of_n"], "best_of_n:4"),
        (["--procedure", "majority_vote:4"], "no closed form"),
        (["--procedure", "retry_until:4:threshold=1"], "no closed form"),
        (["--procedure", "best_of_n:4", "--transform", "exponential:x"], "exponential:10"),
        (["--procedure", "best_of_n:4", "--transform", "points:0/0/0.5/1/1/1", "--kl", "0.8"], "KL 0.8"),
        (["--procedure", "best_of_n:4", "--beta", "0.1", "--kl", "0.5"], "not both"),
        (["--mix", "0.5:standard,best_of_n:4"], "0.5:standard"),
        (["--procedure", "best_of_n:4", "--measure", "best_of_n:x"], "best_of_n:4")):
    done = design(*arguments, expect=2)
    lines = [line for line in done.stderr.splitlines() if line]
    check(len(lines) == 1 and word in lines[0] and not done.stdout, f"{arguments}: expected one line with «{word}»:\n{done.stderr}")
done = design("--procedure", "best_of_n:4", "--kl", "far", expect=2)
done = design("--help")
check("Example: infalign design" in done.stdout, "no example in --help")

page = fresh("page") / "sweep.html"
design("--procedure", "worst_of_n:4", "--sweep", "--kl-max", "1", "--html", page)
check(page.read_text().replace("http://www.w3.org/", "").count("http") == 0, "the page needs the network")
done = design("--procedure", "best_of_n:4", "--sweep", "--html", "/proc/nowhere/page.html", expect=1)
check("/proc/nowhere" in done.stderr, done.stderr)
print("designed")
