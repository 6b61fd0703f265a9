// What the page remembers of each service: rates, successes and percentiles of the last minutes, for sparklines.
// The controller keeps no history; a reload begins anew.

import type { TrafficReport } from "./model";

export const SAMPLES_LIMIT = 150; // five minutes at the usual interval of two seconds

export interface Samples {
  at: number[]; // Unix seconds
  rate: (number | null)[];
  success: (number | null)[];
  p95: (number | null)[];
}

export class History {
  private readonly samples = new Map<string, Samples>();
  private readonly before = new Map<string, { at: number; requests: number }>();

  get(key: string): Samples | undefined {
    return this.samples.get(key);
  }

  /** Adds a report. The rate is computed from the counters since the report before, and so shows short bursts. */
  add(report: TrafficReport): void {
    const at = Date.parse(report.at) / 1000;
    if (!Number.isFinite(at)) return;
    const present = new Set<string>();
    for (const { key, last, total } of report.services) {
      present.add(key);
      const samples = this.samples.get(key) ?? { at: [], rate: [], success: [], p95: [] };
      const before = this.before.get(key);
      const newest = samples.at.at(-1);
      if (newest !== undefined && at <= newest) continue; // the controller's cache
      const counted = total.requests || total.connections;
      const isGrowing = before !== undefined && counted >= before.requests && at > before.at;
      this.before.set(key, { at, requests: counted });
      samples.at.push(at);
      samples.rate.push(isGrowing ? (counted - before.requests) / (at - before.at) : last.rate);
      samples.success.push(last.success);
      samples.p95.push(last.total.p95 ?? null);
      if (samples.at.length > SAMPLES_LIMIT) for (const list of Object.values(samples)) list.shift();
      this.samples.set(key, samples);
    }
    for (const key of this.samples.keys()) {
      if (present.has(key)) continue;
      this.samples.delete(key);
      this.before.delete(key);
    }
  }
}
