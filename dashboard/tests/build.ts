// Documents of the API for tests: plausible where nothing else is said.

import type {
  BranchTraffic,
  EdgeTraffic,
  ServerTraffic,
  ServiceReport,
  ServiceTraffic,
  TopologyService,
  TrafficReport,
  Window,
} from "../src/logic/model";
import { EMPTY_WINDOW } from "../src/logic/model";

export function windowOf(changes: Partial<Window> = {}): Window {
  return { ...EMPTY_WINDOW, seconds: 60, ...changes };
}

export function service(name: string, changes: Partial<ServiceReport> = {}): ServiceReport {
  const ports = [{ port: 80, protocol: "TCP", entrypoint: 5000 }];
  return {
    namespace: "shop",
    name,
    host: `${name}.shop.maesh`,
    trafficType: "http",
    ports,
    errors: [],
    notices: [],
    ...changes,
  };
}

export function traffic(name: string, changes: Partial<ServiceTraffic> = {}): ServiceTraffic {
  return {
    key: `shop/${name}:80`,
    namespace: "shop",
    name,
    port: "80",
    trafficType: "http",
    last: windowOf(),
    total: windowOf(),
    branches: [],
    servers: [],
    callers: [],
    openBreakers: 0,
    errors: [],
    notices: [],
    ...changes,
  };
}

export function report(...services: ServiceTraffic[]): TrafficReport {
  return { at: "2026-01-01T00:00:00Z", intervalS: 60, nodes: [], services, refused: {} };
}

export function edge(caller: string, to: string, changes: Partial<EdgeTraffic> = {}): EdgeTraffic {
  return { caller, account: "", pods: [], addresses: [], service: to, last: windowOf(), total: windowOf(), ...changes };
}

export function server(name: string, changes: Partial<ServerTraffic> = {}): ServerTraffic {
  return { server: name, pod: "", node: "", last: windowOf(), total: windowOf(), isSetAside: false, ...changes };
}

export function branch(destination: string, weight: number | null, last: Window = windowOf()): BranchTraffic {
  return { destination, weight, last, total: windowOf() };
}

export function topologyService(changes: Partial<TopologyService>): TopologyService {
  return {
    name: "",
    namespace: "",
    annotations: {},
    pods: [],
    trafficTargets: [],
    trafficSplits: [],
    additions: {},
    ...changes,
  };
}
