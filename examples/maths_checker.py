#!/usr/bin/env python3
r"""A reward program: 1 if the response ends at the right value, else 0. Values are compared exactly, as fractions.

What a response says is the value in its last \boxed{...} or, if it has none, its last number or fraction: 1,234  -0.5
3/4  \frac{3}{4}. In a box there may be an expression of such numbers with + - * / ^ \cdot \times \div and parentheses.
The right values are in a file of JSON lines {"prompt", "answer"}, the answers written in the same ways.

    model:
      reward: {command: [python3, ../examples/maths_checker.py, --answers, answers.jsonl]}
"""
import argparse
import json
import re
import sys
from fractions import Fraction

NUMBER = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|(?<!\d)\.\d+"
SIGN = r"(?:(?<![\w.)}\]])[-+])?"  # not the minus of a difference, nor a dash
LATEX_FRACTION = r"\\[dt]?frac\s*\{\s*([^{}]*)\}\s*\{\s*([^{}]*)\}"
IN_TEXT = re.compile(rf"{SIGN}(?:\\[dt]?frac\s*\{{\s*-?(?:{NUMBER})\s*\}}\s*\{{\s*(?:{NUMBER})\s*\}}"
                     rf"|(?:{NUMBER})(?:\s*/\s*(?:{NUMBER}))?)")
TOKEN = re.compile(rf"\s*(?:({NUMBER})|(.))")
LONGEST = 1000      # characters of an expression
LARGEST_POWER = 64  # an exponent's size
DEEPEST = 50        # parentheses within each other


class NotAValue(ValueError):
    """An expression that this program cannot evaluate."""


def plain(text):
    """LaTeX and typography as an expression of + - * / ^ and parentheses."""
    for old, new in [("\u2212", "-"), ("\u00d7", "*"), ("\u00f7", "/"), ("\\cdot", "*"), ("\\times", "*"), ("\\div", "/"),
                     ("\\left", ""), ("\\right", ""), ("\\,", ""), ("\\!", ""), ("\\$", ""), ("$", ""), ("\\%", ""),
                     ("%", ""), ("**", "^"), ("{,}", ",")]:
        text = text.replace(old, new)
    before = None
    while before != text:  # inner fractions first
        before, text = text, re.sub(LATEX_FRACTION, r"((\1)/(\2))", text)
    return text.replace("{", "(").replace("}", ")")


def value_of(expression):
    """The Fraction that an expression is; NotAValue for what is none."""
    text = plain(expression).strip().rstrip(".")
    if len(text) > LONGEST:
        raise NotAValue("too long")
    tokens = [number or sign for number, sign in TOKEN.findall(text)] + [""]
    tokens = [token for token in tokens if token.strip() or token == ""]
    at = 0

    def take(*expected):
        nonlocal at
        if tokens[at] in expected and tokens[at]:
            at += 1
            return tokens[at - 1]
        return None

    def total(depth):
        value = product(depth)
        while sign := take("+", "-"):
            value = value + product(depth) if sign == "+" else value - product(depth)
        return value

    def product(depth):
        value = signed(depth)
        while sign := take("*", "/"):
            factor = signed(depth)
            if sign == "/" and factor == 0:
                raise NotAValue("division by zero")
            value = value * factor if sign == "*" else value / factor
        return value

    def signed(depth):
        sign = 1
        while taken := take("+", "-"):
            sign = -sign if taken == "-" else sign
        return sign * power(depth)

    def power(depth):
        base = atom(depth)
        if not take("^"):
            return base
        exponent = signed(depth)
        if exponent.denominator != 1 or abs(exponent) > LARGEST_POWER or (base == 0 and exponent < 0):
            raise NotAValue("not a power that can be taken")
        if max(abs(base.numerator), base.denominator).bit_length() > LONGEST:
            raise NotAValue("too large")
        return base ** int(exponent)

    def atom(depth):
        nonlocal at
        if depth > DEEPEST:
            raise NotAValue("too deep")
        if take("("):
            value = total(depth + 1)
            if not take(")"):
                raise NotAValue("a parenthesis is not closed")
            return value
        if not re.fullmatch(NUMBER, tokens[at]):
            raise NotAValue(f"not a number: {tokens[at]!r}")
        at += 1
        return Fraction(tokens[at - 1].replace(",", ""))

    value = total(0)
    if tokens[at]:
        raise NotAValue(f"not understood: {tokens[at]!r}")
    return value


def last_box(text):
    r"""What stands in the last \boxed{...} (or \fbox{...}): None if there is none, "" if it is cut off."""
    starts = list(re.finditer(r"\\f?box(?:ed)?\s*\{", text))
    if not starts:
        return None
    begin = starts[-1].end()
    depth = 1
    for i in range(begin, len(text)):
        depth += {"{": 1, "}": -1}.get(text[i], 0)
        if depth == 0:
            return text[begin:i]
    return ""


def final_value(text):
    """The value that a text ends at, or None."""
    box = last_box(text)
    if box is None:
        text = text.replace("\u2212", "-").replace("{,}", ",")
        box = next((found[0] for found in reversed(list(IN_TEXT.finditer(text)))), None)
    if box is None:
        return None
    try:
        return value_of(box.split("=")[-1])
    except NotAValue:
        return None


def reward(response, answer):
    value = final_value(response)
    return 1.0 if value is not None and value == answer else 0.0


def read_answers(file):
    """{prompt: Fraction}; exits with a line that names the file's line for what is wrong."""
    answers = {}
    try:
        with open(file, encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    entry = json.loads(line)
                    answers[entry["prompt"]] = final_value(str(entry["answer"]))
                    if answers[entry["prompt"]] is None:
                        sys.exit(f"{file}:{number}: the answer {entry['answer']!r} is not a value")
    except OSError as error:
        sys.exit(f"{file}: {error.strerror}")
    except (ValueError, KeyError, TypeError):
        sys.exit(f'{file}:{number}: expected {{"prompt": ..., "answer": ...}}')
    return answers


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", required=True, metavar="FILE", help='JSON lines of {"prompt", "answer"}')
    options = parser.parse_args()
    answers = read_answers(options.answers)

    for line in sys.stdin:
        request = json.loads(line)
        if request["prompt"] not in answers:
            sys.exit(f"{options.answers}: no answer for the prompt {request['prompt']!r}")
        value = reward(request["response"], answers[request["prompt"]])
        print(json.dumps({"id": request["id"], "reward": value}), flush=True)


if __name__ == "__main__":
    main()
