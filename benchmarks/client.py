"""Run one client until the blaster's Close, and print what was measured as one line of JSON."""

from __future__ import annotations

import argparse
import json
import os
import ssl
import sys
from urllib.parse import urlsplit


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.client", None, __doc__)
    parser.add_argument("name", help="such as stream+speed, or picows+uvloop+orjson")
    parser.add_argument("url", help="ws:// or wss://, the blaster's")
    parser.add_argument("--messages", type=int, required=True, help="how many will come")
    parser.add_argument("--timed", action="store_true", help="measure latency: time_coinapi is the time of sending")
    parser.add_argument("--deflate", action="store_true", help="offer permessage-deflate")
    parser.add_argument("--ca", help="a file with the authority to trust")
    parser.add_argument("--core", type=int, help="the core to run on")
    parser.add_argument("--without", default="", help="modules, parted by commas, that are not to be found")
    options = parser.parse_args()
    # Before anything is imported that might look for one of them.
    for module in filter(None, options.without.split(",")):
        sys.modules[module] = None  # type: ignore[assignment]
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    from .clients import Job, run
    from .meter import Meter

    url, meter = urlsplit(options.url), Meter(options.messages, is_timed=options.timed)
    job = Job(
        options=frozenset(options.name.split("+")[1:]),
        url=options.url,
        host=url.hostname or "",
        port=url.port or 0,
        context=ssl.create_default_context(cafile=options.ca) if url.scheme == "wss" else None,
        deflate=options.deflate,
        meter=meter,
    )
    run(options.name, job)
    print(json.dumps(meter.results()))


if __name__ == "__main__":
    main()
