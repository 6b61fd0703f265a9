// What was encrypted of the traffic to other nodes: for edges, services and their figures. Traffic to servers on the
// same node stays in the machine and does not count.

import type { Window } from "./model";

/** `none`: nothing was sent to other nodes, or the services have no encryption. */
export type Encryption = "none" | "encrypted" | "partly" | "clear";

export interface Paths {
  encrypted: number;
  clear: number;
}

export const NO_PATHS: Paths = { encrypted: 0, clear: 0 };

/** What a window counted; a controller without encryption has no such counts. */
export function readPaths(window: Pick<Window, "paths">): Paths {
  const { encrypted = 0, clear = 0 } = window.paths ?? {};
  return { encrypted, clear };
}

export function addPaths(one: Paths, other: Paths): Paths {
  return { encrypted: one.encrypted + other.encrypted, clear: one.clear + other.clear };
}

export function judgePaths({ encrypted, clear }: Paths): Encryption {
  if (!encrypted && !clear) return "none";
  if (!clear) return "encrypted";
  return encrypted ? "partly" : "clear";
}

/** The share that was encrypted; null if nothing was sent to other nodes. */
export function findEncryptedShare({ encrypted, clear }: Paths): number | null {
  return encrypted + clear ? encrypted / (encrypted + clear) : null;
}

const TEXTS: Record<Encryption, string> = {
  none: "",
  encrypted: "encrypted between nodes",
  partly: "partly in clear between nodes",
  clear: "in clear between nodes",
};

export function describeEncryption(encryption: Encryption): string {
  return TEXTS[encryption];
}
