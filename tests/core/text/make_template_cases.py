#!/usr/bin/env python3
"""Writes template_cases.json anew: what Jinja, as transformers sets it up, makes of each template in the file.

    python3 tests/core/text/make_template_cases.py        needs transformers (its chat template environment)

The file holds "messages" and "variables", which all templates see, and "cases": {"template", and "text" or "error"}.
To add cases, add {"template": ...} to the list and run this.
"""
import json
from pathlib import Path

from transformers.utils.chat_template_utils import _compile_jinja_template as compile_template

PATH = Path(__file__).parent / "template_cases.json"


def rendered(template, content):
    try:
        text = compile_template(template).render(messages=content["messages"], tools=None, documents=None,
                                                 add_generation_prompt=True, **content["variables"])
        return {"template": template, "text": text}
    except Exception as error:  # whatever Python throws, a template that fails must fail here too
        return {"template": template, "error": str(error)}


content = json.loads(PATH.read_text(encoding="utf-8"))
content["cases"] = [rendered(case["template"], content) for case in content["cases"]]
PATH.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
