// Polls the controller's API and keeps what the pages show. One poll at a time; a slow answer makes polls rarer.
// The topology and the configuration are large, so they are fetched only while a page needs them, and again only for
// another revision.

import { History } from "./history";
import type {
  Configuration,
  ControllerReport,
  NodeReport,
  ObjectReport,
  Section,
  ServiceReport,
  Topology,
  TrafficReport,
} from "./model";
import type { Row } from "./rows";
import { buildRows } from "./rows";

export const INTERVAL_MS = 2000;
const STATUS_EVERY = 3; // polls: services, nodes and the controller change less often than traffic
const TIMEOUT_MS = 15_000;
const LARGE_AGE_MS = 15_000; // the topology is not fetched more often, however often the revision changes

export interface State {
  phase: "loading" | "live" | "lost";
  lostSince: number | null; // in milliseconds
  lostReason: string;
  traffic: TrafficReport | null;
  hasTraffic: boolean; // false if the controller has no /api/traffic
  services: ServiceReport[] | null;
  rows: Row[];
  nodes: NodeReport[];
  controller: ControllerReport | null;
  objects: ObjectReport[];
  topology: Topology | null;
  configuration: Configuration | null;
  fetchedMs: number; // how long the last poll took
  version: number;
}

export class ApiError extends Error {
  constructor(
    readonly status: number,
    text: string,
  ) {
    super(text);
  }
}

/** The controller does costly work for a browser only with this field: pages of other sites cannot send it. */
export const OWN_FIELD = { "X-Maesh-Request": "1" };

/** Fetches a document of the API; `path` is relative to the page. Raises ApiError; status 0 means no answer. */
export async function fetchText(path: string, signal?: AbortSignal): Promise<string> {
  const timeout = AbortSignal.timeout(TIMEOUT_MS);
  let response: Response;
  try {
    response = await fetch(path, {
      signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
      headers: { Accept: "application/json", ...OWN_FIELD },
      cache: "no-store",
    });
    const text = await response.text();
    if (response.ok) return text;
    throw new ApiError(response.status, text.trim().slice(0, 500) || `status ${response.status}`);
  } catch (error) {
    if (error instanceof ApiError) throw error;
    throw new ApiError(
      0,
      timeout.aborted ? "the controller does not answer in time" : "no connection to the controller",
    );
  }
}

export async function fetchJson<T>(path: string, signal?: AbortSignal): Promise<T> {
  const text = await fetchText(path, signal);
  try {
    return JSON.parse(text) as T;
  } catch {
    throw new ApiError(0, `what answered ${path} is no controller`);
  }
}

export class Store {
  readonly history = new History();
  state: State = {
    phase: "loading",
    lostSince: null,
    lostReason: "",
    traffic: null,
    hasTraffic: true,
    services: null,
    rows: [],
    nodes: [],
    controller: null,
    objects: [],
    topology: null,
    configuration: null,
    fetchedMs: 0,
    version: 0,
  };
  private readonly listeners = new Set<() => void>();
  private readonly wanted = { topology: 0, configuration: 0 };
  private readonly largeAt = { topology: { revision: "", at: 0 }, configuration: { revision: "", at: 0 } };
  private polls = 0;
  private timer: number | undefined;
  private isPolling = false;

  subscribe(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  start(): void {
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) void this.poll();
    });
    void this.poll();
  }

  /** Keeps a large document up to date until the returned function is called. */
  need(what: "topology" | "configuration"): () => void {
    this.wanted[what] += 1;
    void this.fetchLarge();
    return () => {
      this.wanted[what] -= 1;
    };
  }

  retry(): void {
    void this.poll();
  }

  private async poll(): Promise<void> {
    if (this.isPolling || (document.hidden && this.state.phase !== "loading")) return;
    this.isPolling = true;
    window.clearTimeout(this.timer);
    const began = performance.now();
    try {
      await this.fetchAll();
      this.change({ phase: "live", lostSince: null, lostReason: "", fetchedMs: performance.now() - began });
      void this.fetchLarge();
    } catch (error) {
      const lostSince = this.state.lostSince ?? Date.now();
      this.change({ phase: "lost", lostSince, lostReason: error instanceof Error ? error.message : String(error) });
    } finally {
      this.isPolling = false;
      const took = performance.now() - began;
      this.timer = window.setTimeout(() => void this.poll(), Math.max(INTERVAL_MS, took * 5));
    }
  }

  private async fetchAll(): Promise<void> {
    const isFull = this.polls % STATUS_EVERY === 0 || this.state.phase !== "live";
    const [traffic, services, nodes, controller, objects] = await Promise.all([
      this.fetchTraffic(),
      isFull ? fetchJson<ServiceReport[]>("api/services") : this.state.services,
      isFull ? fetchJson<NodeReport[]>("api/status/nodes") : this.state.nodes,
      isFull ? fetchJson<ControllerReport>("api/status/controller") : this.state.controller,
      isFull ? fetchJson<ObjectReport[]>("api/objects") : this.state.objects,
    ]);
    this.polls += 1;
    if (traffic) this.history.add(traffic);
    const rows = buildRows(services ?? [], traffic);
    this.change({ traffic, hasTraffic: traffic !== null, services, nodes, controller, objects, rows });
  }

  private async fetchTraffic(): Promise<TrafficReport | null> {
    try {
      return await fetchJson<TrafficReport>("api/traffic");
    } catch (error) {
      if (error instanceof ApiError && (error.status === 404 || error.status === 503)) return null;
      throw error;
    }
  }

  private async fetchLarge(): Promise<void> {
    const revision = this.state.controller?.revision ?? "";
    for (const what of ["topology", "configuration"] as const) {
      const known = this.largeAt[what];
      const isFresh = known.revision === revision || performance.now() - known.at < LARGE_AGE_MS;
      if (!this.wanted[what] || (known.at > 0 && isFresh)) continue;
      this.largeAt[what] = { revision, at: performance.now() };
      try {
        if (what === "topology") this.change({ topology: await fetchJson<Topology>("api/topology/current") });
        else this.change({ configuration: parseConfiguration(await fetchJson("api/configuration/current")) });
      } catch {
        this.largeAt[what] = { revision: "", at: 0 }; // the next poll tries again
      }
    }
  }

  private change(changes: Partial<State>): void {
    this.state = { ...this.state, ...changes, version: this.state.version + 1 };
    for (const listener of this.listeners) listener();
  }
}

const FIXED_FIELDS = new Set(["revision", "full", "plugins", "removed"]);

export function parseConfiguration(document: Record<string, unknown>): Configuration {
  const sections = Object.fromEntries(Object.entries(document).filter(([name]) => !FIXED_FIELDS.has(name))) as Record<
    string,
    Section
  >;
  return { revision: String(document["revision"] ?? ""), plugins: (document["plugins"] ?? []) as string[], sections };
}
