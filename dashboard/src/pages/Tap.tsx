// A live stream of requests. The controller sends records only while this page is open.

import { useEffect, useRef, useState } from "preact/hooks";
import { formatBytes, formatCount, formatSeconds, formatTime } from "../logic/format";
import { LineParser } from "../logic/lines";
import type { TapError, TapRecord } from "../logic/model";
import { OWN_FIELD } from "../logic/store";
import { Field, ServiceNames, Trouble } from "../parts/form";
import { useTitle } from "../parts/hooks";
import { linkToService, replaceQuery } from "../parts/route";
import { Empty } from "../parts/bits";
import { VirtualList } from "../parts/VirtualList";

const KEPT = 1000;
const REDRAW_MS = 250;
const FILTERS = ["service", "method", "path", "status", "source"] as const;

type Filters = Record<(typeof FILTERS)[number], string>;
type Shown = TapRecord & { id: number };

export function TapPage({ query }: { query: URLSearchParams }) {
  const [filters, setFilters] = useState<Filters>(() => {
    const read = (name: string) => query.get(name) ?? "";
    return {
      service: read("service"),
      method: read("method"),
      path: read("path"),
      status: read("status"),
      source: read("source"),
    };
  });
  const tap = useTap();
  useTitle("Live tap");
  useEffect(() => {
    if (filters.service) tap.start(filters);
    return tap.stop;
  }, []);
  const form = { values: filters, change: (changed: Partial<Filters>) => setFilters({ ...filters, ...changed }) };
  return (
    <div class="page tap">
      <h1>Live tap</h1>
      <form
        class="card form"
        onSubmit={(event) => {
          event.preventDefault();
          if (tap.isRunning) tap.stop();
          else tap.start(filters);
        }}
      >
        <Field label="Service" name="service" placeholder="namespace/name; empty: all" list="tapped" {...form} />
        <ServiceNames id="tapped" spell={(each) => `${each.namespace}/${each.name}`} />
        <Field label="Method" name="method" size="small" placeholder="any" {...form} />
        <Field label="Path" name="path" placeholder="any" {...form} />
        <Field label="Status" name="status" size="small" placeholder="5xx, 403 …" {...form} />
        <Field label="Source" name="source" placeholder="pod or address" {...form} />
        <button class="primary">{tap.isRunning ? "Stop" : "Start"}</button>
        {tap.records.length > 0 && (
          <button type="button" onClick={tap.clear}>
            Clear
          </button>
        )}
      </form>
      <p class="quiet" role="status">
        {tap.isRunning
          ? `Listening: ${formatCount(tap.count)} seen`
          : tap.count
            ? `Stopped: ${formatCount(tap.count)} seen`
            : ""}
        {tap.dropped > 0 && `, ${formatCount(tap.dropped)} left out by the rate limit`}
      </p>
      <Trouble text={tap.error} />
      {tap.records.length ? (
        <VirtualList
          items={tap.records}
          rowHeight={44}
          label="Requests, the newest first"
          className="records"
          getKey={(record) => String(record.id)}
          render={(record) => <Record record={record} />}
        />
      ) : (
        !tap.error &&
        (tap.isRunning ? (
          <Empty title="No request yet">
            <p class="quiet">Requests appear when they end.</p>
          </Empty>
        ) : (
          <Empty title="Watch requests as they end">
            <p class="quiet">
              Choose a service, or leave the field empty for all services, and press Start. Proxies do this work only
              while somebody watches.
            </p>
          </Empty>
        ))
      )}
    </div>
  );
}

function Record({ record }: { record: Shown }) {
  const isBad = record.status >= 500 || (record.grpcStatus ?? 0) > 0 || record.kind === "refused";
  const isWarned = !isBad && (record.status >= 400 || Boolean(record.reason || record.wouldDeny));
  const status = record.status ? String(record.status) : record.kind;
  const what = record.method
    ? `${record.method} ${record.path}`
    : `${record.protocol} ${formatBytes(record.receivedBytes)} ↑ ${formatBytes(record.sentBytes)} ↓`;
  return (
    <div class={`record ${isBad ? "failing" : isWarned ? "degraded" : ""}`} tabIndex={0} data-focus>
      <time>{formatTime(record.startedAt)}</time>
      <b class="status">
        {status}
        {record.grpcStatus !== null && record.grpcStatus !== undefined && ` grpc ${record.grpcStatus}`}
      </b>
      <span class="request" title={what}>
        {what}
      </span>
      <span class="took">{formatSeconds(record.durationS)}</span>
      <span class="from quiet" title={`${record.source ?? ""} ${record.client} → ${record.service} ${record.server}`}>
        {record.source || record.client} →{" "}
        {record.service ? <a href={linkToService(record.service)}>{record.service}</a> : record.host || "no service"}
        {record.server && ` ${record.server}`}
        {record.attempts > 1 && `, ${record.attempts} attempts`}
        {record.reason && <em> {record.reason}</em>}
        {record.wouldDeny && <em> would be denied: {record.wouldDeny}</em>}
      </span>
    </div>
  );
}

function useTap() {
  const [records, setRecords] = useState<Shown[]>([]);
  const [isRunning, setIsRunning] = useState(false);
  const [error, setError] = useState("");
  const counts = useRef({ seen: 0, dropped: 0 });
  const running = useRef<AbortController | null>(null);

  const stop = () => {
    running.current?.abort();
    running.current = null;
    setIsRunning(false);
  };
  const start = (filters: Filters) => {
    stop();
    const control = new AbortController();
    running.current = control;
    counts.current = { seen: 0, dropped: 0 };
    setRecords([]);
    setError("");
    setIsRunning(true);
    const asked = Object.fromEntries(Object.entries(filters).filter(([, value]) => value));
    replaceQuery("tap", asked);
    const keep = (found: Shown[]) => setRecords((known) => [...found.reverse(), ...known].slice(0, KEPT));
    readTap(new URLSearchParams(asked), control.signal, counts.current, keep, setError)
      .then(() => setError("The controller ended the stream."))
      .catch((problem: unknown) => {
        if (!control.signal.aborted) setError(problem instanceof Error ? problem.message : String(problem));
      })
      .finally(() => {
        if (running.current === control) stop();
      });
  };
  const clear = () => setRecords([]);
  return { records, isRunning, error, count: counts.current.seen, dropped: counts.current.dropped, start, stop, clear };
}

async function readTap(
  query: URLSearchParams,
  signal: AbortSignal,
  counts: { seen: number; dropped: number },
  keep: (records: Shown[]) => void,
  warn: (text: string) => void,
): Promise<void> {
  let response: Response;
  try {
    response = await fetch(`api/tap?${query}`, { signal, headers: OWN_FIELD, cache: "no-store" });
  } catch {
    throw new Error("No connection to the controller.");
  }
  if (response.status === 404 && !query.size) throw new Error("This controller has no live tap.");
  if (!response.ok) {
    const text = (await response.text()).trim();
    const isUnknown = response.status === 404 && text.startsWith("not found; the paths are");
    throw new Error(isUnknown ? "This controller has no live tap." : text.slice(0, 500) || `status ${response.status}`);
  }
  const reader = response.body?.getReader();
  if (!reader) return;
  const parser = new LineParser();
  let waiting: Shown[] = [];
  const timer = window.setInterval(() => {
    if (waiting.length) keep(waiting);
    waiting = [];
  }, REDRAW_MS);
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      for (const found of parser.feed(value)) {
        if (isDropped(found)) counts.dropped += found.dropped;
        else if (isMissing(found)) warn(describeMissing(found));
        else waiting.push({ ...(found as TapRecord), id: ++counts.seen });
      }
      if (waiting.length > KEPT) waiting = waiting.slice(-KEPT);
    }
  } finally {
    window.clearInterval(timer);
    if (waiting.length && !signal.aborted) keep(waiting);
  }
}

function isDropped(value: unknown): value is { dropped: number } {
  return typeof value === "object" && value !== null && "dropped" in value;
}

function isMissing(value: unknown): value is TapError {
  return typeof value === "object" && value !== null && "error" in value;
}

function describeMissing({ error, node, controller }: TapError) {
  return controller
    ? `Requests may be missing, controller ${controller}: ${error}`
    : `The requests of proxy ${node} are missing: ${error}`;
}
