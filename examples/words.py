"""A handler for `stdio`: it reads a file for each document and counts its words."""

import json
import sys
import traceback


def say(**message):
    print(json.dumps(message), flush=True)


def process(document, params):
    with open(document.get("uri") or document["id"], encoding="utf-8") as file:
        words = file.read().split()
    if len(words) < params.get("at_least", 1):
        return {"type": "skipped"}
    longest = max(words, key=len, default="")
    return {"type": "ok", "output": {"words": len(words), "longest": longest}}


say(type="hello", protocol=1, name="words")
for line in sys.stdin:  # ends when the worker lets go of this process
    told = json.loads(line)
    if told["type"] != "document":
        continue  # a heartbeat; a cancel means nothing to one that takes a document at a time
    try:
        answer = process(told["document"], told["params"])
    except FileNotFoundError as error:
        answer = {"type": "failed", "kind": "not_found", "message": str(error)}
    except UnicodeDecodeError as error:
        answer = {"type": "failed", "kind": "invalid_data", "message": str(error)}
    except Exception as error:
        answer = {"type": "failed", "message": repr(error), "detail": traceback.format_exc()}
    say(id=told["id"], **answer)
