"""The example reward programs: what they reward, what they refuse, and that they speak the protocol."""
import json
import re
import subprocess
import sys
import tempfile
import unittest
from fractions import Fraction
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"
sys.path.insert(0, str(EXAMPLES))
import maths_checker
import regex_verifier
import rule_reward


def call(name, *arguments, requests=()):
    text = "".join(json.dumps({"id": 7 + i, "prompt": prompt, "response": response}) + "\n" for i, (prompt, response) in enumerate(requests))
    return subprocess.run([sys.executable, EXAMPLES / name, *arguments], input=text, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)


def rewards(done):
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["id"] for answer in answers] == list(range(7, 7 + len(answers))), answers
    return [answer["reward"] for answer in answers]


class Programs(unittest.TestCase):
    def file(self, text):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = Path(folder.name) / "answers.jsonl"
        path.write_text(text, encoding="utf-8")
        return str(path)

    def refused(self, done, *words):
        self.assertNotEqual(done.returncode, 0)
        self.assertEqual(done.stdout, "")
        for word in words:
            self.assertIn(word, done.stderr.splitlines()[-1])

    def test_each_explains_itself(self):
        for name in ("rule_reward.py", "regex_verifier.py", "maths_checker.py"):
            done = call(name, "--help")
            self.assertEqual(done.returncode, 0)
            self.assertIn("reward: {command: [python3", done.stdout)

    def test_a_rule(self):
        done = call("rule_reward.py", "--words", "4", requests=[("p", " He had a dog."), ("p", " He had a"), ("p", ""), ("p", "Two words!\n")])
        self.assertEqual(rewards(done), [1, -0.25, -1, 0.5])
        done = call("rule_reward.py", "--words", "4", "--weight", "0", "--format", "^[A-Z]", requests=[("p", "A"), ("p", "a")])
        self.assertEqual(rewards(done), [1, 0])
        self.refused(call("rule_reward.py", "--format", "("), "--format: not a regular expression")
        self.refused(call("rule_reward.py", "--words", "0"), "--words")

    def test_a_pattern_alone(self):
        done = call("regex_verifier.py", "--pattern", "dog", "--ignore-case", requests=[("p", "a DOG"), ("p", "a cat")])
        self.assertEqual(rewards(done), [1, 0])

    def test_a_pattern_and_answers(self):
        answers = self.file('{"prompt": "p", "answer": "Paris"}\n\n{"prompt": "q", "answer": 42}\n')
        requests = [("p", "Answer: Rome. No, answer: Paris."), ("p", "answer: Paris, answer: Rome"), ("p", "Paris"), ("q", "answer: 42")]
        done = call("regex_verifier.py", "--pattern", r"[Aa]nswer: (\w+)", "--answers", answers, requests=requests)
        self.assertEqual(rewards(done), [1, 0, 0, 1])
        self.assertEqual(regex_verifier.reward(re.compile(r"\d+"), "q", "1 and 42", {"q": "42"}), 1, "without a group the whole match")
        self.assertEqual(regex_verifier.reward(re.compile(r"a(x)?"), "q", "a", {"q": "None"}), 0)
        self.refused(call("regex_verifier.py", "--pattern", "x", "--answers", answers, requests=[("new", "x")]), answers, "no answer for the prompt 'new'")

    def test_files_of_answers(self):
        for name, more in (("regex_verifier.py", ["--pattern", "x"]), ("maths_checker.py", [])):
            self.refused(call(name, *more, "--answers", "/nowhere/a.jsonl"), "/nowhere/a.jsonl: No such file")
            for wrong in ("{", "[1]", '{"prompt": "p"}', "3"):
                path = self.file('{"prompt": "p", "answer": 1}\n' + wrong + "\n")
                self.refused(call(name, *more, "--answers", path), path + ":2: expected")
        path = self.file('{"prompt": "p", "answer": "many"}\n')
        self.refused(call("maths_checker.py", "--answers", path), path + ":1: the answer 'many' is not a value")

    def test_maths(self):
        answers = self.file('{"prompt": "p", "answer": "0.75"}\n{"prompt": "q", "answer": "\\\\frac{7}{2}"}\n')
        requests = [("p", "So it is 3/4."), ("p", "It is 3 of 4"), ("q", r"Hence \boxed{3 + \frac{1}{2}}, not 1."), ("q", "I do not know")]
        done = call("maths_checker.py", "--answers", answers, requests=requests)
        self.assertEqual(rewards(done), [1, 0, 1, 0])
        self.refused(call("maths_checker.py", "--answers", answers, requests=[("new", "x")]), "no answer for the prompt 'new'")

    def test_final_values(self):
        for text, value in [
                ("12 apples and 13 pears make 25.", 25), ("= -5", -5), ("= \u22125", -5), ("8-3", 3), ("8 - 3", 3), ("- 3 apples", 3), ("(1)-3", 3), ("$1,234.50", Fraction(2469, 2)),
                ("1,2", 2), ("0.1", Fraction(1, 10)), (".5", Fraction(1, 2)), ("6 / 8 of it", Fraction(3, 4)), (r"-\frac{1}{3}", Fraction(-1, 3)),
                (r"\dfrac{ 1 }{ 3 }.", Fraction(1, 3)), ("50%", 50), ("x2", 2), ("1/0", None), ("none", None), ("", None),
                (r"\boxed{42} since 3", 42), (r"\boxed{1} or \boxed{2}", 2), (r"\boxed{x = 5}", 5), (r"\boxed{\frac{1}{1+\frac{1}{2}}}", Fraction(2, 3)),
                (r"\boxed{-(2^{3} - 10) \cdot 1{,}000}", 2000), (r"\boxed{2^{-2}}", Fraction(1, 4)), (r"\boxed{-2^2}", -4), (r"\boxed{1/2/2}", Fraction(1, 4)),
                (r"\boxed{7", None), (r"\boxed{}", None), (r"\boxed{x}", None), (r"\boxed{1 2}", None), (r"\boxed{(1}", None), (r"\boxed{0^{-1}}", None),
                (r"\boxed{2^{0.5}}", None), (r"\boxed{9^{9^{9^9}}}", None), (r"\boxed{" + "(" * 400 + "1" + ")" * 400 + "}", None),
                (r"\boxed{" + "1+" * 3000 + "1}", None), (r"\boxed{1.}", 1), ("The answer is 1.", 1), ("v1.2.3", Fraction(3))]:
            self.assertEqual(maths_checker.final_value(text), value, text[:60])

    def test_no_response_takes_long(self):
        hard = [r"\boxed{" + "^".join(["64"] * 20) + "}", r"\boxed{" + "(" * 100000, "1," * 100000, "- " * 100000, r"\frac{" * 50000, "1/" * 100000, "9" * 4000]
        for text in hard:  # else the time limit of the tests ends this one
            maths_checker.final_value(text)

    def test_the_rule_as_a_function(self):
        self.assertEqual(rule_reward.reward("One two.", 4, 0.5, rule_reward.WHOLE_SENTENCE), 0.75)


if __name__ == "__main__":
    unittest.main()
