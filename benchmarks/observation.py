"""What it costs to see the traffic: counters, taps, an access log and traces, beside the logs of Envoy and Traefik.

Takes the installed proxies; returns a table of CPU time per request, and a file of runs. All variants run side by side,
each on the one proxy core, and take turns, so that what else the machine does meets all alike. Every log is JSON, in a
file on the same disk. `maesh-all-on` counts exact codes, and is scraped and watched by a page each second; the time of
all its processes counts. `maesh-tap-left` had a tap that its viewer has left, `maesh-tap` has one that is read.
"""

import argparse
import functools
import json
import shutil
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

from cases import CASES
from http_vs_peers import HttpBench
from observation_report import render_observation
from processes import ProcessGroup, describe_machine, find_free_port, raise_open_files_limit
from proxies import Command, Program, Proxy, Site, build_maesh_command, build_proxies

RESULTS = Path(__file__).resolve().parent / "results"
WATCHING = Path(__file__).resolve().parent / "watching.py"
CASE = "small"
SINK = """
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Sink(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments):
        pass

ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Sink).serve_forever()
"""
"""A collector that receives traces and keeps none."""
ENVOY_LOG = """
                access_log:
                  - name: envoy.access_loggers.file
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog
                      path: @LOG@
                      log_format:
                        json_format:
                          time: "%START_TIME%"
                          method: "%REQ(:METHOD)%"
                          path: "%REQ(:PATH)%"
                          host: "%REQ(:AUTHORITY)%"
                          protocol: "%PROTOCOL%"
                          status: "%RESPONSE_CODE%"
                          flags: "%RESPONSE_FLAGS%"
                          received: "%BYTES_RECEIVED%"
                          sent: "%BYTES_SENT%"
                          duration: "%DURATION%"
                          client: "%DOWNSTREAM_REMOTE_ADDRESS%"
                          server: "%UPSTREAM_HOST%"
                          route: "%ROUTE_NAME%"
"""


def build_variants(former: Path | None) -> list[Proxy]:
    """Build the variants: each plain proxy, then what it costs to look at its traffic; first an earlier Maesh."""
    known = build_proxies()
    maesh, envoy, traefik = known["maesh"], known["envoy"], known["traefik"]
    log = functools.partial(
        _observe_maesh, options=("--access-log", "--set", "access-log.format=json"), is_logging=True
    )
    return [
        *([replace(maesh, name="former", find=lambda: former)] if former is not None else []),
        maesh,
        *(
            replace(maesh, name=name, build_command=functools.partial(_watch_maesh, kind=kind, options=options))
            for name, kind, options in (
                ("maesh-all-on", "scrape", ("--metrics-exact-codes",)),
                ("maesh-tap-left", "tap-left", ()),
                ("maesh-tap", "tap", ()),
            )
        ),
        replace(maesh, name="maesh-log", build_command=log),
        replace(maesh, name="maesh-traces-1%", build_command=functools.partial(_trace_maesh, share="0.01")),
        replace(maesh, name="maesh-traces-0", build_command=functools.partial(_trace_maesh, share="0")),
        envoy,
        replace(envoy, name="envoy-log", build_command=functools.partial(_log_envoy, envoy.build_command)),
        traefik,
        replace(traefik, name="traefik-log", build_command=functools.partial(_log_traefik, traefik.build_command)),
    ]


def _observe_maesh(
    site: Site, program: Program, port: int, *, options: tuple[str, ...], is_logging: bool = False
) -> Command:
    more = ("--set", f"access-log.file={site.folder / f'access-{port}.log'}") if is_logging else ()
    return [*build_maesh_command(site, program, port, plugins=options[:1]), *options, *more]


def _watch_maesh(site: Site, program: Program, port: int, *, kind: str, options: tuple[str, ...]) -> Command:
    """Build the command line of a proxy that a further process watches (watching.py)."""
    command = [*build_maesh_command(site, program, port), *options]
    admin_port = command[command.index("--admin-port") + 1]
    site.group.start(f"watching-{port}", [sys.executable, WATCHING, kind, admin_port], core=site.load_core)
    return command


def _trace_maesh(site: Site, program: Program, port: int, *, share: str) -> Command:
    sink = find_free_port()
    script = site.folder / "sink.py"
    script.write_text(SINK)
    site.group.start(f"sink-{port}", [sys.executable, script, str(sink)], core=site.load_core)
    options = ("--otel", "--set", f"otel.endpoint=http://127.0.0.1:{sink}", "--set", f"otel.sample={share}")
    return _observe_maesh(site, program, port, options=options)


def _log_envoy(build: object, site: Site, program: Program, port: int) -> Command:
    assert callable(build)
    command: Command = build(site, program, port)
    text = (site.folder / "envoy.yaml").read_text()
    path = site.folder / "envoy-log.yaml"
    log = ENVOY_LOG.replace("@LOG@", str(site.folder / "envoy-access.log"))
    path.write_text(text.replace("                stat_prefix: mesh\n", f"                stat_prefix: mesh{log}"))
    return [path if str(each) == str(site.folder / "envoy.yaml") else each for each in command]


def _log_traefik(build: object, site: Site, program: Program, port: int) -> Command:
    assert callable(build)
    build(site, program, port)
    path = site.folder / "traefik-log.yaml"
    log = {"format": "json", "filePath": str(site.folder / "traefik-access.log")}
    path.write_text(f"{(site.folder / 'traefik.yaml').read_text()}\naccessLog: {json.dumps(log)}\n")
    return [program, f"--configFile={path}"]


def main() -> int:
    """Measure, write the runs, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5, help="runs of each variant, interleaved (default 5)")
    parser.add_argument("--seconds", type=int, default=2, help="length of one run (default 2)")
    parser.add_argument("--output", type=Path, default=RESULTS / "observation.json", help="the file of results")
    parser.add_argument("--only", type=lambda text: text.split(","), help="variants to measure, separated by commas")
    parser.add_argument("--former", type=Path, help="the program `maesh` of an earlier version, to compare with")
    options = parser.parse_args()
    if missing := [program for program in ("nginx", "wrk", "taskset") if not shutil.which(program)]:
        print(f"Not installed, so there is nothing to measure with: {', '.join(missing)}", file=sys.stderr)
        return 1
    raise_open_files_limit()
    options.cases, options.rate = [case for case in CASES if case.name == CASE], 0
    variants = [
        variant
        for variant in build_variants(options.former)
        if (not options.only or variant.name in options.only) and variant.find() is not None
    ]
    with tempfile.TemporaryDirectory(prefix="maesh-bench-") as name, ProcessGroup(Path(name)) as group:
        site = Site(group, Path(name))
        site.start_upstream()
        bench = HttpBench(site, variants, options)
        bench.start()
        bench.run_all()
    runs = [asdict(run) for run in bench.runs]
    found = {"machine": describe_machine(), "observation": runs}
    options.output.parent.mkdir(exist_ok=True)
    options.output.write_text(json.dumps(found, indent=1))
    print(f"\n{render_observation(runs)}\n\nreport.py {options.output} puts this into RESULTS.md.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
