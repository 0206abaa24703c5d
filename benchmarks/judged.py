#!/usr/bin/env python3
"""What a judge can see of an alignment, before anything is trained.

For each prompt stand K samples of the reference policy, scored by the reward model and by the judge. The policy that is optimal
for a reward, transformed or not, is the reference tilted by it, so its answers are these samples with other weights: the wins
that a perfect training would bring, decided by the reward itself and by the judge, follow by simulation. Needs numpy.

    infalign generate --model M --prompts heldout.jsonl --samples 128 --max-new-tokens 8 --json > samples.jsonl
    benchmarks/judged.py join heldout.jsonl samples.jsonl > answers.jsonl
    infalign score --model REWARD --inputs answers.jsonl --json > reward.jsonl
    infalign score --model JUDGE --inputs answers.jsonl --json > judge.jsonl
    benchmarks/judged.py compare reward.jsonl judge.jsonl --samples 128 --procedure best_of_n --n 4 --kl 0.5
"""
import argparse
import json

import numpy as np


def lines(path):
    with open(path) as file:
        return [json.loads(line) for line in file]


def join(prompts, samples):
    prompt = [line["prompt"] for line in lines(prompts)]
    for sample in lines(samples):
        print(json.dumps({"prompt": prompt[sample["prompt_index"]], "response": sample["text"]}))


def calibrated(reward):
    """Mid-ranks within a prompt, [P, K] in (0, 1)."""
    below = (reward[:, None, :] < reward[:, :, None]).sum(2)
    equal = (reward[:, None, :] == reward[:, :, None]).sum(2)
    return (below + equal / 2) / reward.shape[1]


def tilted(utility, kl):
    """Weights [P, K] proportional to exp(utility / beta), beta such that the mean KL over prompts is as asked."""
    low, high = 1e-6, 1e6  # of 1 / beta
    for _ in range(100):
        middle = np.sqrt(low * high)
        exponent = utility * middle
        weights = np.exp(exponent - exponent.max(1, keepdims=True))
        weights /= weights.sum(1, keepdims=True)
        reached = np.where(weights > 0, weights * np.log(np.maximum(weights, 1e-300) * utility.shape[1]), 0).sum(1).mean()
        low, high = (middle, high) if reached < kl else (low, middle)
    return weights


def win_rates(weights, reward, judge, choose, n, random, trials=4000):
    """Chance [P] that the policy's answer beats the reference's: both choose one of n by the reward, the judge decides."""
    rates, trial = [], np.arange(trials)
    for w, r, j in zip(weights, reward, judge):
        ours = random.choice(len(r), (trials, n), p=w)
        theirs = random.integers(0, len(r), (trials, n))
        a, b = j[ours[trial, choose(r[ours], 1)]], j[theirs[trial, choose(r[theirs], 1)]]
        rates.append(np.mean(a > b) + np.mean(a == b) / 2)
    return np.array(rates)


def compare(reward, judge, samples, procedure, n, kl):
    reward, judge = (np.array([line["reward"] for line in lines(path)]).reshape(-1, samples) for path in (reward, judge))
    best = procedure == "best_of_n"
    choose = np.argmax if best else np.argmin
    c, of_judge = calibrated(reward), calibrated(judge)
    agreement = [np.corrcoef(a, b)[0, 1] for a, b in zip(c, of_judge) if a.std() > 0 and b.std() > 0]
    print(f"rank correlation of reward and judge, mean over prompts: {np.mean(agreement):.2f}\n")
    # 2.5 n is about the best exponent for a choice among n.
    rows = {"raw": reward, "identity": c, "exponential": np.exp(2.5 * n * (c - 1)) if best else -np.exp(-2.5 * n * c)}
    print(f"{'transform':12} {'by the reward':>14} {'by the judge':>13}   over the row before, by the judge (standard error)")
    before = None
    for name, utility in rows.items():
        weights, random = tilted(utility, kl), np.random.default_rng(1)
        seen, own = (win_rates(weights, reward, by, choose, n, random) for by in (judge, reward))
        gain = "" if before is None else f"   {np.mean(seen - before):+.3f} ({np.std(seen - before) / np.sqrt(len(seen)):.3f})"
        print(f"{name:12} {own.mean():14.3f} {seen.mean():13.3f}{gain}")
        before = seen


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("join", help="prompts and samples, as `infalign score` reads them")
    one.add_argument("prompts")
    one.add_argument("samples")
    two = commands.add_parser("compare", help="win rates of the optimal policies")
    two.add_argument("reward")
    two.add_argument("judge")
    two.add_argument("--samples", type=int, required=True, help="K, of each prompt")
    two.add_argument("--procedure", choices=["best_of_n", "worst_of_n"], default="best_of_n")
    two.add_argument("--n", type=int, default=4)
    two.add_argument("--kl", type=float, default=0.5)
    given = vars(parser.parse_args())
    {"join": join, "compare": compare}[given.pop("command")](**given)


if __name__ == "__main__":
    main()
