// What to do about an error, a notice or a reason: one sentence for texts that the mesh is known to say.

interface Rule {
  pattern: RegExp;
  advice: string;
}

/** Reasons of responses that the mesh gives because somebody asked for them: redirects, and answers to preflights. */
const INTENDED = ["the request is redirected", "a preflight request of a page"];

export function isIntended(reason: string): boolean {
  return INTENDED.includes(reason);
}

const RULES: Rule[] = [
  {
    pattern: /no usable server|no server is ready|no ready server|has no ready/i,
    advice:
      "No pod behind the service is ready. Check the pods and their readiness probes, and whether the selector and targetPort of the Service match them.",
  },
  {
    pattern: /circuit breaker is open/i,
    advice:
      "The servers failed too often, so requests are stopped for a while. Look at the servers below and at their logs; the breaker closes by itself when they recover.",
  },
  {
    pattern: /rate limit|too many requests/i,
    advice:
      "Clients send more than the annotation ratelimit-average allows. Raise the limit, or find the client below.",
  },
  {
    pattern: /path is ambiguous/i,
    advice:
      "The path can be read in several ways (for example with %2F or //), so rules for paths cannot be applied safely. Change the client.",
  },
  {
    pattern: /allows this request of the client/i,
    advice:
      "A TrafficTarget allows these clients, but not these requests. Open “Why?” to see the rule that decides, and extend its HTTPRouteGroup if the requests should be allowed.",
  },
  {
    pattern: /access is no longer allowed|not allowed|denied|no TrafficTarget|may not/i,
    advice:
      "Access control refuses these clients. Open “Why?” to see the rule that decides, and add a TrafficTarget if they should be allowed.",
  },
  {
    pattern: /connecting to the upstream timed out/i,
    advice: "A server accepts no connection. Check network policies, the port, and whether the pod is overloaded.",
  },
  {
    pattern: /cannot connect to the upstream|refused/i,
    advice:
      "A server refuses connections. Check that the program listens on targetPort, and on all addresses of the pod.",
  },
  {
    pattern: /did not respond in time/i,
    advice: "A server is slower than --response-timeout. Look at the upstream percentiles of each server.",
  },
  {
    pattern: /closed the connection|upstream was lost|reset the request/i,
    advice:
      "A server closes connections before it answers. It may restart, crash, or have a shorter keep-alive than the mesh.",
  },
  {
    pattern: /only the server .* answers/i,
    advice: "The other servers are fine, so the cause is in this pod. Read its log, and compare it with the others.",
  },
  {
    pattern: /the servers answer/i,
    advice:
      "The mesh passes on what the servers answer. Tap the service to see which requests fail, and read the logs.",
  },
  {
    pattern: /does not speak HTTP\/2|switched to a protocol/i,
    advice:
      "The scheme of the service does not fit the server. Check the annotation scheme and the port's appProtocol.",
  },
  {
    pattern: /no service of the mesh has this host/i,
    advice: "A client uses a name that the mesh does not serve. Names are service.namespace.maesh.",
  },
  {
    pattern: /no enabled plugin|plugin \S+ is off/i,
    advice: "Enable the plugin with its flag on the controller and the proxies, or remove the annotation.",
  },
  { pattern: /did you mean/i, advice: "This is probably a spelling mistake; correct the object and apply it again." },
  {
    pattern: /there is no service|no service \S+ in namespace/i,
    advice: "An object names a service that does not exist. Create it, or correct the name or the namespace.",
  },
  {
    pattern: /has no rules, so it allows/i,
    advice:
      "This is valid, but few TrafficTargets need to allow every request. Add rules to limit what clients may send.",
  },
  {
    pattern: /no (free )?entrypoint|entrypoints are/i,
    advice:
      "All entrypoints of this traffic type are used. Raise --limit-tcp-port or --limit-http-port, or remove unused services.",
  },
  {
    pattern: /did not arrive in time|body is too large/i,
    advice: "The client is too slow or sends too much; --head-timeout, --body-timeout and --body-limit set the limits.",
  },
  { pattern: /annotation/i, advice: "Correct the annotation; docs/annotations.md lists the names and values." },
];

/** Advice for a text of the mesh; empty if there is none. */
export function findAdvice(text: string): string {
  return RULES.find((rule) => rule.pattern.test(text))?.advice ?? "";
}
