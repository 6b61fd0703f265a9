// Numbers as short texts. Pure; a dash stands for what was not measured.

export const NOTHING = "–";

export function formatRate(rate: number): string {
  if (!Number.isFinite(rate) || rate < 0) return NOTHING;
  if (rate === 0) return "0";
  if (rate < 0.1) return "<0.1";
  if (rate < 10) return rate.toFixed(1);
  return formatCount(Math.round(rate));
}

export function formatCount(count: number): string {
  if (!Number.isFinite(count)) return NOTHING;
  if (count < 10_000) return String(Math.round(count));
  if (count < 1_000_000) return `${trim(count / 1000)}k`;
  if (count < 1_000_000_000) return `${trim(count / 1_000_000)}M`;
  return `${trim(count / 1_000_000_000)}G`;
}

/** A share between 0 and 1. It is 100 % only if nothing failed, and 0 % only if nothing succeeded. */
export function formatShare(share: number | null | undefined): string {
  if (share === null || share === undefined || !Number.isFinite(share)) return NOTHING;
  const percent = share * 100;
  if (percent >= 100) return "100 %";
  if (percent > 99.9) return ">99.9 %";
  if (percent <= 0) return "0 %";
  if (percent < 0.1) return "<0.1 %";
  return `${percent.toFixed(1)} %`;
}

export function formatSeconds(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return NOTHING;
  if (seconds === 0) return "0";
  const ms = seconds * 1000;
  if (ms < 0.995) return `${ms.toFixed(2)} ms`;
  if (ms < 9.95) return `${ms.toFixed(1)} ms`;
  if (ms < 999.5) return `${Math.round(ms)} ms`;
  if (seconds < 100) return `${trim(seconds)} s`;
  return `${Math.round(seconds / 60)} min`;
}

export function formatBytes(bytes: number): string {
  if (!Number.isFinite(bytes)) return NOTHING;
  if (bytes < 1000) return `${bytes} B`;
  if (bytes < 1_000_000) return `${trim(bytes / 1000)} kB`;
  if (bytes < 1_000_000_000) return `${trim(bytes / 1_000_000)} MB`;
  return `${trim(bytes / 1_000_000_000)} GB`;
}

/** How long ago, for a number of seconds. */
export function formatAge(seconds: number): string {
  if (!Number.isFinite(seconds)) return NOTHING;
  if (seconds < 2) return "just now";
  if (seconds < 120) return `${Math.round(seconds)} s ago`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min ago`;
  return `${Math.round(seconds / 3600)} h ago`;
}

export function formatTime(unixSeconds: number): string {
  const date = new Date(unixSeconds * 1000);
  if (Number.isNaN(date.getTime())) return NOTHING;
  const pad = (value: number, width = 2) => String(value).padStart(width, "0");
  return `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}.${pad(date.getMilliseconds(), 3)}`;
}

/** A text of at most `limit` characters; what is cut off is marked. */
export function shorten(text: string, limit: number): string {
  return text.length <= limit ? text : `${text.slice(0, limit - 1)}…`;
}

function trim(value: number): string {
  return value < 10 ? value.toFixed(1).replace(/\.0$/, "") : String(Math.round(value));
}
