"""A worker in Python, written from docs/protocol.md.

    pip install --require-hashes -r requirements.txt
    python3 worker.py nats://127.0.0.1:4222

It serves the handler `shout`. To serve your own, call `work` with a table of them. A handler is given the document, its inputs
by job as (media type, bytes), the job's params and the attempt, and returns None, a text, or what can be JSON; it raises
Skip or Failed. Where a job has segments = true, it returns the list of the document's segments.
"""

import asyncio
import base64
import json
import os
import signal
import socket
import sys
import time
import uuid
from collections import OrderedDict

import msgpack
import nats
from nats.errors import NoRespondersError, TimeoutError
from nats.js.errors import APIError


class Skip(Exception):
    """There is nothing to do for the document."""


class Failed(Exception):
    """kind and message, and where known class, code, detail, retry_after (milliseconds)."""

    def __init__(self, kind, message, **more):
        super().__init__(message)
        self.failure = {"kind": kind, "message": message, **more}


def shout(document, inputs, params, attempt):
    data = document.get("data") or {}
    if "text" not in data:
        raise Failed("missing_field", "the document has no text")
    return data["text"].upper()


def now():
    return int(time.time() * 1000)


def as_value(output):
    """What a join shows of what was made of a segment."""
    if output is None:
        return None
    if output["media_type"].partition(";")[0] == "application/json":
        return json.loads(output["body"])
    try:
        return output["body"].decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(output["body"]).decode()}


def ndjson(values):
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


def ordinals(ranges):
    return [n for first, last in ranges for n in range(first, last + 1)]


def as_ranges(units):
    ranges = []
    for unit in sorted(units):
        if ranges and ranges[-1][1] + 1 == unit:
            ranges[-1][1] = unit
        else:
            ranges.append([unit, unit])
    return ranges


class Held:
    """A chunk that this worker has, and what became of its units."""

    def __init__(self, message):
        self.message = message
        self.chunk = msgpack.unpackb(message.data)
        self.left = set(ordinals(self.chunk["units"]))  # not reported yet
        self.running, self.taken_at, self.alive_at = set(), now(), now()
        self.stopped = asyncio.Event()
        self.clear()

    def clear(self):
        self.done = {"completed": [], "skipped": [], "returned": []}
        self.outputs, self.segments, self.failures, self.busy, self.size = [], [], [], 0, 0
        self.since = time.monotonic()

    def address(self):
        return {name: self.chunk[name] for name in ("namespace", "batch", "tier", "job", "attempt")}


class Worker:
    def __init__(self, handlers, resource_class, slots):
        self.handlers, self.resource_class, self.slots = handlers, resource_class, slots
        self.name = f"py-{socket.gethostname()[:40]}-{os.getpid()}".replace(".", "-")
        self.started_at, self.held, self.pages = now(), [], OrderedDict()
        self.taken, self.draining = asyncio.Event(), asyncio.Event()

    async def run(self, url):
        self.nats = await nats.connect(url, max_reconnect_attempts=-1)
        self.free = asyncio.Semaphore(self.slots)
        for name in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(name, self.draining.set)
        await self.nats.subscribe("rd.sig.0", cb=self.told)
        beating = asyncio.create_task(self.beat())
        takers = [self.take(name) for name in self.handlers for _ in range(self.slots)]
        await asyncio.gather(*takers)
        beating.cancel()
        await self.heartbeat()
        await self.nats.flush()
        await self.nats.close()

    async def beat(self):
        while True:
            await self.heartbeat()
            self.taken.clear()
            try:
                await asyncio.wait_for(self.taken.wait(), 1)
            except asyncio.TimeoutError:
                pass

    async def heartbeat(self):
        in_flight = [
            {
                "chunk": held.chunk["id"], "units": as_ranges(held.left), **held.address(),
                "running": as_ranges(held.running), "taken_at": held.taken_at, "alive_at": held.alive_at,
            }  # fmt: skip
            for held in self.held
        ]
        beat = {
            "worker": self.name, "host": socket.gethostname(), "pid": os.getpid(),
            "handlers": list(self.handlers), "classes": [self.resource_class], "slots": self.slots,
            "draining": self.draining.is_set(), "in_flight": in_flight,
            "started_at": self.started_at, "at": now(),
        }  # fmt: skip
        await self.nats.publish(f"rd.hb.0.{self.name}", msgpack.packb(beat))

    async def told(self, message):
        [(what, about)] = msgpack.unpackb(message.data).items()
        for held in self.held:
            mine = {
                "stop_chunk": held.chunk["id"],
                "stop_batch": {"namespace": held.chunk["namespace"], "batch": held.chunk["batch"]},
                "stop_execution": {"worker": self.name, "chunk": held.chunk["id"]},
            }
            if what in mine and about == mine[what]:
                held.stopped.set()

    async def consumer(self, handler):
        name, subjects = f"{handler}+{self.resource_class}", f"rd.work.0.{handler}.{self.resource_class}.>"
        config = {
            "durable_name": name, "filter_subject": subjects,
            "deliver_policy": "all", "ack_policy": "explicit", "replay_policy": "instant",
            "ack_wait": 30 * 10**9, "max_deliver": -1, "max_ack_pending": 100_000, "max_waiting": 10_000,
            "inactive_threshold": 3600 * 10**9,
        }  # fmt: skip
        request = json.dumps({"stream_name": "RD_WORK_0", "config": config}).encode()
        answer = await self.nats.request(f"$JS.API.CONSUMER.CREATE.RD_WORK_0.{name}.{subjects}", request)
        if error := json.loads(answer.data).get("error"):
            raise ConnectionError(error["description"])
        return await self.nats.jetstream().pull_subscribe_bind(consumer=name, stream="RD_WORK_0")

    async def take(self, handler):
        pull = None
        while not self.draining.is_set():
            async with self.free:
                try:
                    pull = pull or await self.consumer(handler)
                    [message] = await pull.fetch(1, timeout=0.5)
                except TimeoutError:
                    continue
                except (NoRespondersError, APIError, ConnectionError) as error:
                    print(f"cannot take chunks: {error}", file=sys.stderr)
                    pull = None
                    await asyncio.sleep(1)
                    continue
                await self.deal_with(handler, message)

    async def deal_with(self, handler, message):
        try:
            held = Held(message)
        except Exception as error:
            print(f"a chunk that cannot be read: {error!r}", file=sys.stderr)
            return await message.ack()
        self.held.append(held)
        self.taken.set()
        extending = asyncio.create_task(self.extend(message))
        try:
            await self.execute(handler, held)
            await message.ack()
        except Exception as error:
            print(f"a chunk goes back: {error!r}", file=sys.stderr)
            await message.nak()
        finally:
            extending.cancel()
            self.held.remove(held)

    async def extend(self, message):
        while True:
            await asyncio.sleep(10)
            await message.in_progress()

    async def execute(self, handler, held):
        for unit in sorted(held.left):
            if held.stopped.is_set():
                return
            if self.draining.is_set():
                held.done["returned"].append(unit)
                continue
            began, held.running = time.monotonic(), {unit}
            running = asyncio.create_task(self.attempt(handler, held.chunk, unit))
            stopped = asyncio.create_task(held.stopped.wait())
            await asyncio.wait({running, stopped}, return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            if not running.done():
                running.cancel()
                return
            held.running, held.alive_at = set(), now()
            held.busy += int((time.monotonic() - began) * 1000)
            self.note(held, unit, *running.result())
            if held.size > 128 * 1024 or time.monotonic() - held.since > 1:
                await self.report(held)
        await self.report(held)

    async def attempt(self, handler, chunk, unit):
        """What became of a unit: a word of the protocol, and what goes with it."""
        try:
            document, inputs = await self.read(chunk, unit)
        except Exception as error:
            return "failures", {"kind": "unavailable", "message": f"the log cannot be read: {error!r}"}
        try:
            call = asyncio.to_thread(self.handlers[handler], document, inputs, chunk["params"], chunk["attempt"])
            result = await asyncio.wait_for(call, chunk["timeout"] / 1000)
        except Skip:
            return "skipped", None
        except Failed as error:
            return "failures", error.failure
        except asyncio.TimeoutError:  # its thread cannot be ended: a handler should have a limit of its own
            return "failures", {"kind": "timeout", "message": f"took longer than {chunk['timeout']} ms"}
        except Exception as error:
            return "failures", {"kind": "failed", "message": repr(error)}
        if result is None:
            return "completed", None
        if chunk.get("splits"):
            media_type, body = "application/x-ndjson", ndjson(result)
        else:
            media_type = "text/plain; charset=utf-8" if isinstance(result, str) else "application/json"
            body = (result if isinstance(result, str) else json.dumps(result)).encode()
        if len(body) > chunk["max_output_bytes"]:
            return "failures", {"kind": "output_too_large", "message": f"the output has {len(body)} bytes"}
        return "completed", {"media_type": media_type, "body": body}

    async def read(self, chunk, unit):
        of, index = unit, 0
        for begin, end, document, start in chunk.get("segments", []):
            if begin <= unit <= end:
                of, index = document, start + unit - begin
        [at] = [place["seq"] for place in chunk["documents"] if of in ordinals(place["units"])]
        first, documents = await self.page(at)
        inputs = {}
        for place in chunk["inputs"]:
            lines = place.get("lines", False)
            known = of if lines else unit
            if known in ordinals(place["units"]):
                output = (await self.page(place["seq"])).get(known)
                if output and lines:
                    line = [line for line in output["body"].split(b"\n") if line.strip()][index]
                    inputs[place["job"]] = "application/json", line
                elif output:
                    inputs[place["job"]] = output["media_type"], output["body"]
        for join in chunk.get("joins", []):
            if join["document"] == unit:
                values, segment = [], join["first"]
                for seq, count in join["places"]:
                    page = (await self.page(seq)) if seq else {}
                    values += [as_value(page.get(n)) for n in range(segment, segment + count)]
                    segment += count
                inputs[join["job"]] = "application/x-ndjson", ndjson(values)
        return documents[of - first], inputs

    async def page(self, seq):
        """The documents, or the outputs by ordinal, that stand at a place of the log."""
        if seq not in self.pages:
            jetstream = self.nats.jetstream()
            event = msgpack.unpackb((await jetstream.get_msg("RD_EVENTS_0", seq, direct=True)).data)
            [(kind, event)] = event["event"].items()
            if kind == "batch.documents_added":
                self.pages[seq] = event["first"], msgpack.unpackb(event["documents"])
            else:
                self.pages[seq] = dict(msgpack.unpackb(event.get("outputs", b"\x90")))
            if len(self.pages) > 100:
                self.pages.popitem(last=False)
        return self.pages[seq]

    def note(self, held, unit, what, more):
        if what == "failures":
            held.failures.append({"units": [[unit, unit]], "failure": more})
        else:
            held.done[what].append(unit)
            if more:
                held.outputs.append([unit, more])
            if more and held.chunk.get("splits"):
                held.segments.append([unit, more["body"].count(b"\n")])
        held.size += 200 + len(more["body"] if more and "body" in more else str(more))

    async def report(self, held):
        units = {name: as_ranges(units) for name, units in held.done.items()}
        outcome = {
            "chunk": held.chunk["id"], "worker": self.name, **held.address(), **units,
            "failures": held.failures, "busy": held.busy, "at": now(),
        }  # fmt: skip
        if held.outputs:
            outcome["outputs"] = msgpack.packb(held.outputs)
        if held.segments:
            outcome["segments"] = held.segments
        reported = [unit for units in held.done.values() for unit in units]
        reported += [failed["units"][0][0] for failed in held.failures]
        held.clear()
        if not reported:
            return
        subject = f"rd.out.0.{outcome['namespace']}.{uuid.UUID(bytes=outcome['batch'])}"
        headers = {"Nats-Msg-Id": uuid.uuid4().hex}
        if "trace" in held.chunk:
            headers["traceparent"] = held.chunk["trace"]
        for wait in (0.2, 1, 3, None):
            try:
                await self.nats.jetstream().publish(subject, msgpack.packb(outcome), timeout=4, headers=headers)
                break
            except TimeoutError:  # perhaps it is stored: the same id counts once
                if wait is None:
                    raise
                await asyncio.sleep(wait)
        held.left.difference_update(reported)


async def work(url, handlers, resource_class="cpu", slots=4):
    """Serves handlers until SIGTERM."""
    await Worker(handlers, resource_class, slots).run(url)


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], {"shout": shout}))
