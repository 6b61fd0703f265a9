// What the configuration says about one service port: its hosts, the branches of its requests, and its middlewares.

import type { Configuration, Match, Router, Section } from "./model";

export interface RouteLine {
  name: string; // "split canary"; empty for the rest
  condition: string; // which requests
  targets: { name: string; share: number; servers: number }[];
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
  return lines;
}

function nameBranch(service: string, key: string): string {
  return service === key ? "" : service.replace(`${key}/`, "").replace("/", " ");
}

function listTargets(section: Section, name: string): RouteLine["targets"] {
  const service = section.services[name];
  const parts = service?.parts ?? [];
  const sum = parts.reduce((total, part) => total + part.weight, 0);
  if (!parts.length)
    return [{ name: name.split("/").at(-1) ?? name, share: 1, servers: service?.servers?.length ?? 0 }];
  return parts.map((part) => ({
    name: part.service.split("/").at(-1) ?? part.service,
    share: sum ? part.weight / sum : 0,
    servers: section.services[part.service]?.servers?.length ?? 0,
  }));
}

/** The requests that match, in words: the conditions of one match hold together, and any match is enough. */
export function describeMatches(matches: Match[]): string {
  if (!matches.length) return "all requests";
  return matches.map(describeMatch).join(", or ");
}

function describeMatch(match: Match): string {
  const parts = [];
  if (match.methods?.length && !match.methods.includes("*")) parts.push(match.methods.join(" or "));
  if (match.paths?.length) parts.push(`path ${match.paths.join(" or ")}`);
  for (const { name, pattern } of match.headers ?? []) parts.push(`${name}: ${pattern}`);
  return parts.join(" with ") || "all requests";
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
