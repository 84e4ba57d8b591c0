"""Runs scripts in children of a process that has everything imported; see `harness.Runner`."""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import sys
import time
import warnings
from pathlib import Path

from script import Script

from imgret.galleries.local import gallery

warnings.simplefilter("ignore")
gallery._FEW = 3  # so that removals drop the rows of removed items now and then


def child(request: dict[str, object], pipe: int) -> None:
    """Run the script; tell what was begun and done through a pipe."""
    shim = ctypes.CDLL(os.environ["LD_PRELOAD"])
    shim.crash_calls.restype = ctypes.c_long
    directory = Path(str(request["directory"]))
    script = Script(int(request["seed"]))  # type: ignore[call-overload]
    shim.crash_begin(
        str(directory).encode(),
        str(request.get("log", "")).encode(),
        ctypes.c_long(int(request.get("kill", 0))),  # type: ignore[call-overload]
        ctypes.c_long(int(request.get("fail", 0))),  # type: ignore[call-overload]
        int(request.get("errno", 0)),  # type: ignore[call-overload]
        str(request.get("unsynced", "")).encode(),
    )

    def tell(**what: object) -> None:
        os.write(pipe, json.dumps(what).encode() + b"\n")

    def done(number: int) -> None:
        shim.crash_mark(number)
        tell(done=number)

    for number, error in script.run(directory, done):
        tell(failed=number, error=error)
    tell(calls=shim.crash_calls())


def serve() -> None:
    """Answer requests, a line of JSON each, until the input ends."""
    for line in sys.stdin:
        request = json.loads(line)
        reading, writing = os.pipe()
        began = time.monotonic()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            try:
                child(request, writing)
            finally:
                os._exit(0)
        os.close(writing)
        told, until = b"", began + float(request.get("after", 60))
        while True:
            left = until - time.monotonic()
            if left <= 0:
                os.kill(pid, signal.SIGKILL)
                until = time.monotonic() + 60
                continue
            if select.select([reading], [], [], left)[0]:
                data = os.read(reading, 65536)
                if not data:
                    break
                told += data
        os.close(reading)
        _, status = os.waitpid(pid, 0)
        answer: dict[str, object] = {"killed": os.WIFSIGNALED(status), "done": -1}
        for each in told.splitlines():
            answer |= json.loads(each)
        answer["seconds"] = time.monotonic() - began
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve()
