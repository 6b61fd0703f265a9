// Who is, or would be, denied by access control, and which rules would allow it: the document of
// /api/acl/suggestions as the page shows it. Pure.

export interface Account {
  namespace: string;
  serviceAccount: string;
}

export interface Denial {
  mode: "audit" | "enforce";
  service: string;
  destinations: string[];
  client: Account | null;
  address: string;
  trafficType: string;
  method: string;
  path: string;
  pathCut: boolean;
  route: string;
  reason: string;
  /** The TrafficTargets in audit mode by which it passed; otherwise those that allow the client other requests. */
  trafficTargets?: string[];
  count: number;
  first: string;
  last: string;
}

export interface Suggestion {
  name: string;
  namespace: string;
  clients: Account[];
  destination: Account;
  trafficType: string;
  services: string[];
  count: number;
  notes: string[];
  yaml: string;
}

export interface LeftOut {
  reason: string;
  count: number;
  example: string;
}

export interface AuditReport {
  since: string;
  keptSince?: string; // of workers that have ended or did not answer; empty if there are none
  complete: boolean;
  denials: Denial[];
  nodes: { name: string; since: string; error: string }[];
}

export interface AuditDocument {
  report: AuditReport;
  suggestions: Suggestion[];
  leftOut: LeftOut[];
  allowed: number;
  more: number; // denials and rules that were too many for one answer
}

/** The denials of one client at one service port, with the rules that would allow them. */
export interface Pair {
  key: string;
  client: string;
  service: string;
  isDenied: boolean; // some were answered with 403, and did not only count
  count: number;
  first: string;
  last: string;
  denials: Denial[];
  suggestions: Suggestion[];
}

const REASONS: Record<string, string> = {
  client: "no rule allows this client",
  request: "no rule allows this request of the client",
  path: "the path is ambiguous",
};

export function describeReason(denial: Denial): string {
  const targets = denial.trafficTargets ?? [];
  const noun = targets.length === 1 ? "TrafficTarget" : "TrafficTargets";
  const verb = targets.length === 1 ? "does" : "do";
  const names = targets.length ? `: ${noun} ${targets.join(", ")} ${verb} not` : "";
  return `${REASONS[denial.reason] ?? denial.reason}${names}`;
}

export function nameAccount(account: Account | null): string {
  return account ? `${account.serviceAccount}@${account.namespace}` : "";
}

/** What was sent, such as `GET /orders`; a path that was cut ends with an ellipsis. */
export function describeRequest(denial: Denial): string {
  if (denial.trafficType !== "http") return denial.trafficType === "tcp" ? "a TCP connection" : "a UDP session";
  return `${denial.method} ${denial.path}${denial.pathCut ? "…" : ""}`.trim();
}

/** The pairs of client and service, those with the most denials first. */
export function groupPairs({ report, suggestions }: AuditDocument): Pair[] {
  const found = new Map<string, Pair>();
  for (const denial of report.denials) {
    const client = nameAccount(denial.client) || denial.address;
    const key = `${client} ${denial.trafficType} ${denial.service}`;
    let pair = found.get(key);
    if (!pair) {
      const { service, first, last } = denial;
      pair = { key, client, service, isDenied: false, count: 0, first, last, denials: [], suggestions: [] };
      pair.suggestions = suggestions.filter((each) => allows(each, denial));
      found.set(key, pair);
    }
    pair.denials.push(denial);
    pair.count += denial.count;
    pair.isDenied ||= denial.mode !== "audit";
    if (denial.first < pair.first) pair.first = denial.first;
    if (denial.last > pair.last) pair.last = denial.last;
  }
  const pairs = [...found.values()];
  for (const pair of pairs) pair.denials.sort((one, other) => other.count - one.count);
  return pairs.sort((one, other) => other.count - one.count || one.key.localeCompare(other.key));
}

/** Whether a rule is for the client and the service of a denial. */
function allows(suggestion: Suggestion, denial: Denial): boolean {
  const client = nameAccount(denial.client);
  return (
    suggestion.trafficType === denial.trafficType &&
    suggestion.services.includes(denial.service) &&
    suggestion.clients.some((each) => nameAccount(each) === client)
  );
}

/** The pairs whose client, service or requests contain a text. */
export function filterPairs(pairs: Pair[], text: string): Pair[] {
  const wanted = text.trim().toLowerCase();
  if (!wanted) return pairs;
  return pairs.filter((pair) =>
    [pair.client, pair.service, ...pair.denials.map(describeRequest)].some((each) =>
      each.toLowerCase().includes(wanted),
    ),
  );
}

/** The rules of some pairs as one YAML file; a rule that several pairs need appears once. */
export function joinYaml(pairs: Pair[]): string {
  const byName = new Map<string, string>();
  for (const pair of pairs)
    for (const each of pair.suggestions) byName.set(`${each.namespace}/${each.name}`, each.yaml.trimEnd());
  return byName.size ? `${[...byName.values()].join("\n---\n")}\n` : "";
}
