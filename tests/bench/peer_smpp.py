"""The same load through another implementation of SMPP, smpp34: its message centre, and its client.

`python -m tests.bench.peer_smpp server`: the first line of output is the port. `... client` takes jobs as lines of JSON
(`port`, `window`, `seconds`) and answers each with a line.
"""

import asyncio
import json
import socket
import sys
import time
from itertools import count
from typing import Any

import smpp34
import uvloop
from tests.bench.smpp_load import BODY, SILENT

_WARMUP_S = 0.3
_VALIDITY = "261123150000000+"


async def _serve() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    server = smpp34.Server(host="127.0.0.1", port=port, system_id="peer")
    await server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    sessions, numbers = {}, count(1_706_711_638_331_097_089)
    while True:
        event = await server.next()
        if isinstance(event, smpp34.SubmitSmEvent):
            event.accept(str(next(numbers)))
        elif isinstance(event, smpp34.Esme):
            sessions[event.session_id] = event


async def _submit(job: dict[str, Any]) -> dict[str, Any]:
    client = smpp34.Client("127.0.0.1", job["port"], "bench", "", bind_type="TRX", window_size=job["window"])
    smsc = await client.connect()
    done, is_over, wrong = 0, False, ""

    async def submit() -> None:
        nonlocal done, wrong
        while not is_over:
            answer = await smsc.submit_sm(
                str(SILENT),
                BODY,
                source_addr="Parcels",
                source_addr_ton=5,
                dest_addr_ton=1,
                dest_addr_npi=1,
                registered_delivery=1,
            )
            done += 1
            if not answer.is_success:
                wrong = f"refused: {answer.command_status}"

    workers = [asyncio.get_running_loop().create_task(submit()) for _ in range(job["window"])]
    await asyncio.sleep(_WARMUP_S)
    before, started_at, cpu = done, time.monotonic(), time.process_time()
    await asyncio.sleep(job["seconds"])
    total, spent, cpu = done - before, time.monotonic() - started_at, time.process_time() - cpu
    is_over = True
    await asyncio.gather(*workers)
    await smsc.unbind()
    if wrong or not total:
        return {"failed": wrong or "nothing was answered"}
    return {"rate": total / spent, "cpu_us": 1e6 * cpu / total}


def main() -> None:
    if sys.argv[1] == "server":
        uvloop.run(_serve())
    for line in sys.stdin:
        sys.stdout.write(json.dumps(uvloop.run(_submit(json.loads(line)))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
