#!/usr/bin/env python3
"""A reward program: a rule on length and format.

reward = 1 if the response has the format, less WEIGHT * |words - WORDS| / WORDS.

    model:
      reward: {command: [python3, ../examples/rule_reward.py, --words, "10"]}
"""
import argparse
import json
import re
import sys

WHOLE_SENTENCE = r"""[.!?]["')]*\s*\Z"""


def reward(response, words, weight, format):
    distance = abs(len(response.split()) - words) / words
    return (1.0 if re.search(format, response) else 0.0) - weight * distance


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--words", type=int, default=10, help="how many a response should have (default: 10)")
    parser.add_argument("--weight", type=float, default=1.0, help="of the distance from that (default: 1)")
    parser.add_argument("--format", default=WHOLE_SENTENCE, metavar="REGEX",
                        help="found in a response of the right format (default: it ends as a sentence does)")
    options = parser.parse_args()
    if options.words < 1:
        parser.error("--words: at least 1")
    try:
        re.compile(options.format)
    except re.error as error:
        parser.error(f"--format: not a regular expression: {error}")

    for line in sys.stdin:
        request = json.loads(line)
        value = reward(request["response"], options.words, options.weight, options.format)
        print(json.dumps({"id": request["id"], "reward": value}), flush=True)


if __name__ == "__main__":
    main()
