// What the configuration says about one service port: its hosts, the branches of its requests, and its middlewares.

import type { ConfiguredService, Configuration, Destination, FieldMatch, Match, Router, Rules, Section } from "./model";

export interface RouteLine {
  name: string; // "split canary", or a rule and its middlewares; empty for the rest
  condition: string; // which requests
  targets: { name: string; share: number; result: string }[]; // result: its servers, or the response of the mesh
}

export interface Configured {
  router: Router;
  routes: RouteLine[];
  middlewares: { kind: string; settings: string }[];
}

export function findConfigured(configuration: Configuration | null, key: string): Configured | null {
  for (const section of Object.values(configuration?.sections ?? {})) {
    const router = section.routers[key];
    if (router)
      return { router, routes: listRoutes(section, router, key), middlewares: listMiddlewares(section, router) };
  }
  return null;
}

function listRoutes(section: Section, router: Router, key: string): RouteLine[] {
  const lines = (router.branches ?? []).map((branch) => ({
    name: nameBranch(branch.service, key),
    condition: describeMatches(branch.matches ?? []),
    targets: listTargets(section, branch.service),
  }));
  const takesAll = (router.branches ?? []).some((branch) => !branch.matches?.length);
  if (router.service && !takesAll) {
    const name = nameBranch(router.service, key);
    const condition = lines.length ? "all other requests" : "all requests";
    lines.push({ name, condition, targets: listTargets(section, router.service) });
  }
  return [...lines, ...listRuleSets(section, router, key)];
}

/** The rules of consumer routes, by the namespace of their clients, then those for all other clients. */
function listRuleSets(section: Section, router: Router, key: string): RouteLine[] {
  const consumers = Object.entries(router.consumers ?? {});
  const lines = consumers.flatMap(([namespace, rules]) =>
    listRules(section, rules, key, `from namespace ${namespace}: `),
  );
  if (router.rules) return [...lines, ...listRules(section, router.rules, key, "")];
  if (router.fallback)
    lines.push({ name: "", condition: "all other requests", targets: listTargets(section, router.fallback) });
  return lines;
}

/** One line for each rule, in the order of its first match, and one for requests that no rule matches. */
function listRules(section: Section, set: Rules, key: string, prefix: string): RouteLine[] {
  const matches = new Map<number, Match[]>();
  for (const { rule, match } of set.order ?? []) matches.set(rule, [...(matches.get(rule) ?? []), match ?? {}]);
  const lines = [...matches].map(([index, found]) => {
    const rule = set.rules?.[index] ?? {};
    const kinds = (rule.middlewares ?? []).map((each) => section.middlewares[each]?.kind ?? each);
    const name = rule.name ? `rule ${rule.name}` : nameBranch(rule.service ?? "", key);
    return {
      name: [name, ...kinds].filter(Boolean).join(", "),
      condition: prefix + describeMatches(found),
      targets: listRuleTargets(section, rule.service, kinds),
    };
  });
  const isComplete = [...matches.values()].flat().some((match) => describeMatch(match) === ALL);
  if (isComplete) return lines;
  const result = describeAnswer({ status: set.status ?? 404, reason: set.reason });
  return [...lines, { name: "", condition: `${prefix}all other requests`, targets: [{ name: "", share: 1, result }] }];
}

function nameBranch(service: string, key: string): string {
  return service === key ? "" : service.replace(`${key}/`, "").replace("/", " ");
}

function listTargets(section: Section, name: string): RouteLine["targets"] {
  const service = section.services[name];
  const parts = service?.parts ?? [];
  const sum = parts.reduce((total, part) => total + part.weight, 0);
  if (!parts.length) return [{ name: nameTarget(name), share: 1, result: describeResult(service) }];
  return parts.map((part) => ({
    name: nameTarget(part.service),
    share: sum ? part.weight / sum : 0,
    result: describeResult(section.services[part.service]),
  }));
}

/** The targets of a rule. The service of one with a redirect only answers where the middleware is missing. */
function listRuleTargets(section: Section, service: string | undefined, kinds: string[]): RouteLine["targets"] {
  if (kinds.includes("redirect")) return [{ name: "", share: 1, result: "a redirect" }];
  return service ? listTargets(section, service) : [];
}

/** The last part of a key. A service without servers whose key is a rule is the mesh's own response. */
function nameTarget(key: string): string {
  return key.includes("/rule/") ? "" : (key.split("/").at(-1) ?? key);
}

function describeResult(service: ConfiguredService | undefined): string {
  if (service?.answer) return describeAnswer(service.answer);
  const count = service?.servers?.length ?? 0;
  return count === 1 ? "1 server" : `${count} servers`;
}

function describeAnswer({ status, reason }: { status?: number | undefined; reason?: string | undefined }): string {
  return [status || "", reason].filter(Boolean).join(": ");
}

/** What gets the share of a destination of /api/explain: its servers, or the mesh's response with its reason. */
export function describeDestination(found: Destination): string {
  return found.servers.join(", ") || describeAnswer(found) || "no ready server";
}

const ALL = "all requests";

/** The requests that match, in words: the conditions of one match hold together, and any match is enough. */
export function describeMatches(matches: Match[]): string {
  if (!matches.length) return ALL;
  return matches.map(describeMatch).join(", or ");
}

function describeMatch(match: Match): string {
  const parts = [];
  if (match.methods?.length && !match.methods.includes("*")) parts.push(match.methods.join(" or "));
  if (match.paths?.length) parts.push(`path ${match.paths.join(" or ")}`);
  if (match.exactPath) parts.push(`path ${match.exactPath} exactly`);
  if (match.pathPrefix) parts.push(`path prefix ${match.pathPrefix}`);
  if (match.pathPattern) parts.push(`path pattern ${match.pathPattern}`);
  for (const field of match.headers ?? []) parts.push(describeField(field));
  for (const field of match.queries ?? []) parts.push(`query parameter ${describeField(field)}`);
  return parts.join(" with ") || ALL;
}

function describeField({ name, value, pattern }: FieldMatch): string {
  return value === undefined ? `${name}: ${pattern}` : `${name}=${value}`;
}

function listMiddlewares(section: Section, router: Router): Configured["middlewares"] {
  return (router.middlewares ?? []).map((key) => {
    const found = section.middlewares[key];
    return { kind: found?.kind ?? key, settings: describeSettings(found?.settings ?? {}) };
  });
}

/** Settings as `name value, name value`; what is nested, such as the grants of access control, is only counted. */
export function describeSettings(settings: Record<string, unknown>): string {
  return Object.entries(settings)
    .map(([name, value]) => `${name} ${describeValue(value)}`)
    .join(", ");
}

function describeValue(value: unknown): string {
  if (Array.isArray(value))
    return value.every((each) => typeof each !== "object") ? value.join(" ") || "none" : `(${value.length})`;
  if (typeof value === "object" && value !== null) return `(${Object.keys(value).length})`;
  return String(value);
}
