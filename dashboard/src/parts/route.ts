// The address of what is shown, in the part of the URL behind `#`: the controller serves one page, and reload, links
// and the back button work without it.

import { useEffect, useState } from "preact/hooks";

export interface Route {
  path: string; // "", "graph", "service", "tap", "why", "audit", "nodes"
  rest: string; // a service's key, for the page "service"
  query: URLSearchParams;
}

export function parseRoute(hash: string): Route {
  const [path = "", query = ""] = hash.replace(/^#?\/?/, "").split("?", 2);
  const [page = "", ...rest] = path.split("/").map(decode);
  return { path: page, rest: rest.join("/"), query: new URLSearchParams(query) };
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

export function linkTo(path: string, query: Record<string, string> = {}): string {
  const pairs = new URLSearchParams(Object.entries(query).filter(([, value]) => value));
  return `#/${path}${pairs.size ? `?${pairs}` : ""}`;
}

/** The address of a service port's page; the key has slashes and a colon, which may stay as they are. */
export function linkToService(key: string): string {
  return `#/service/${key.split("/").map(encodeURIComponent).join("/").replaceAll("%3A", ":")}`;
}

/** Changes the query without a new entry in the browser's history. */
export function replaceQuery(path: string, query: Record<string, string>): void {
  window.history.replaceState(null, "", linkTo(path, query));
}

export function useRoute(): Route {
  const [route, setRoute] = useState(() => parseRoute(window.location.hash));
  useEffect(() => {
    const change = () => setRoute(parseRoute(window.location.hash));
    window.addEventListener("hashchange", change);
    return () => window.removeEventListener("hashchange", change);
  }, []);
  return route;
}
