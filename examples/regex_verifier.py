#!/usr/bin/env python3
"""A reward program: 1 if a regular expression matches the response, else 0.

With --answers it is the last match that counts (its first group, if it has one), and it must be the answer that the
file has for the prompt: JSON lines of {"prompt", "answer"}.

    model:
      reward: {command: [python3, ../examples/regex_verifier.py, --pattern, "Answer: (\\\\w+)", --answers, answers.jsonl]}
"""
import argparse
import json
import re
import sys


def read_answers(file):
    """{prompt: answer}; exits with a line that names the file's line for what is wrong."""
    answers = {}
    try:
        with open(file, encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    entry = json.loads(line)
                    answers[entry["prompt"]] = str(entry["answer"]).strip()
    except OSError as error:
        sys.exit(f"{file}: {error.strerror}")
    except (ValueError, KeyError, TypeError):
        sys.exit(f'{file}:{number}: expected {{"prompt": ..., "answer": ...}}')
    return answers


def reward(pattern, prompt, response, answers=None):
    """KeyError for a prompt without an answer."""
    if answers is None:
        return 1.0 if pattern.search(response) else 0.0
    answer = answers[prompt]
    found = None
    for found in pattern.finditer(response):
        pass
    if found is None:
        return 0.0
    said = found[1] if pattern.groups else found[0]
    return 1.0 if said is not None and said.strip() == answer else 0.0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pattern", required=True, metavar="REGEX", help="what a good response has in it")
    parser.add_argument("--answers", metavar="FILE", help='JSON lines of {"prompt", "answer"}')
    parser.add_argument("--ignore-case", action="store_true", help="of the pattern")
    options = parser.parse_args()
    try:
        pattern = re.compile(options.pattern, re.IGNORECASE if options.ignore_case else 0)
    except re.error as error:
        parser.error(f"--pattern: not a regular expression: {error}")
    answers = read_answers(options.answers) if options.answers else None

    for line in sys.stdin:
        request = json.loads(line)
        try:
            value = reward(pattern, request["prompt"], request["response"], answers)
        except KeyError:
            sys.exit(f"{options.answers}: no answer for the prompt {request['prompt']!r}")
        print(json.dumps({"id": request["id"], "reward": value}), flush=True)


if __name__ == "__main__":
    main()
