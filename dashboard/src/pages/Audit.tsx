// Who is, or would be, denied by access control, with the TrafficTargets that would allow it. It applies nothing.

import { useCallback, useEffect, useState } from "preact/hooks";
import type { AuditDocument, Pair } from "../logic/audit";
import { describeReason, describeRequest, filterPairs, groupPairs, joinYaml } from "../logic/audit";
import { formatAge, formatCount } from "../logic/format";
import { ApiError, fetchJson } from "../logic/store";
import { Empty, Figure, Loading, Remark, Section, Table } from "../parts/bits";
import { useTitle } from "../parts/hooks";
import { linkToService, replaceQuery } from "../parts/route";

const REFRESH_MS = 15_000;
const PAIRS_SHOWN = 100;
const REQUESTS_SHOWN = 20;

export function AuditPage({ query }: { query: URLSearchParams }) {
  const [filter, setFilter] = useState(query.get("filter") ?? "");
  const [withDenied, setWithDenied] = useState(query.get("denied") === "true");
  const [found, setFound] = useState<AuditDocument | null>(null);
  const [error, setError] = useState<ApiError | null>(null);
  useTitle("Audit");

  const load = useCallback(
    async (signal?: AbortSignal) => {
      try {
        setFound(await fetchJson<AuditDocument>(`api/acl/suggestions?denied=${withDenied}`, signal));
        setError(null);
      } catch (problem) {
        if (!signal?.aborted) setError(problem instanceof ApiError ? problem : new ApiError(0, String(problem)));
      }
    },
    [withDenied],
  );
  useEffect(() => {
    const stopper = new AbortController();
    void load(stopper.signal);
    const timer = window.setInterval(() => document.hidden || void load(stopper.signal), REFRESH_MS);
    return () => (stopper.abort(), window.clearInterval(timer));
  }, [load]);
  useEffect(() => replaceQuery("audit", { filter, denied: withDenied ? "true" : "" }), [filter, withDenied]);

  if (error?.status === 404)
    return (
      <Empty title="Access control is disabled">
        <p>
          Enable the plugin acl with <code>--acl --set acl.mode=audit</code>: then nothing is denied, and this page
          shows who would be.
        </p>
      </Empty>
    );
  if (!found) return error ? <Empty title={error.message} /> : <Loading what="denials" />;
  const denials = found.report.denials.filter((each) => withDenied || each.mode === "audit");
  const all = groupPairs({ ...found, report: { ...found.report, denials } });
  const pairs = filterPairs(all, filter);
  const silent = found.report.nodes.filter((node) => node.error);
  return (
    <div class="page">
      <h1>Who would be denied?</h1>
      {error && <Remark kind="error" text={`${error.message}; the page shows older data`} />}
      {silent.map((node) => (
        <Remark
          key={node.name}
          kind="notice"
          text={`its latest denials are missing: ${node.error}`}
          origin={`${node.name}:`}
        />
      ))}
      {!found.report.complete && !silent.length && (
        <Remark kind="notice" text="The proxies have recorded more than they keep, so denials are missing." />
      )}
      <dl class="figures">
        <Figure label="Recorded since" value={age(found.report.since)} />
        {found.report.keptSince && <Figure label="Kept of ended proxies since" value={age(found.report.keptSince)} />}
        <Figure label="Clients and services" value={formatCount(all.length)} />
        <Figure label="Requests" value={formatCount(all.reduce((sum, pair) => sum + pair.count, 0))} />
      </dl>
      <div class="tools">
        <input
          type="search"
          placeholder="Filter by client, service or path"
          aria-label="Filter denials"
          value={filter}
          onInput={(event) => setFilter(event.currentTarget.value)}
        />
        <label class="choice">
          <input type="checkbox" checked={withDenied} onInput={(event) => setWithDenied(event.currentTarget.checked)} />{" "}
          with requests that were denied
        </label>
        <CopyButton text={joinYaml(pairs)} label="Copy all rules" />
      </div>
      {pairs.slice(0, PAIRS_SHOWN).map((pair) => (
        <PairCard key={pair.key} pair={pair} />
      ))}
      {pairs.length > PAIRS_SHOWN && (
        <p class="quiet">and {pairs.length - PAIRS_SHOWN} more: filter them, or use maesh acl suggest</p>
      )}
      {found.more > 0 && (
        <p class="quiet">
          {found.more} rare denials and their rules are not shown: <code>maesh acl suggest</code> prints all rules
        </p>
      )}
      {!pairs.length && (
        <Empty title={all.length ? "Nothing matches" : "Nobody would be denied"}>
          {all.length ? <button onClick={() => setFilter("")}>Show all</button> : <p>No denial has been recorded.</p>}
        </Empty>
      )}
      {found.leftOut.length > 0 && (
        <Section title="Without a rule" note="what no rule can allow, and why">
          {found.leftOut.map((each) => (
            <Remark
              key={each.reason}
              kind="notice"
              text={`${formatCount(each.count)} times: ${each.reason}; for example ${each.example}`}
            />
          ))}
        </Section>
      )}
    </div>
  );
}

function PairCard({ pair }: { pair: Pair }) {
  const shown = pair.denials.slice(0, REQUESTS_SHOWN);
  return (
    <section class="card">
      <h2>
        {pair.client} → <a href={linkToService(pair.service)}>{pair.service}</a>
        <small>
          {pair.isDenied ? "denied" : "would be denied"} {formatCount(pair.count)} times, first {age(pair.first)}, last{" "}
          {age(pair.last)}
        </small>
      </h2>
      <Table head={["Request", "Times", "Last", "Why"]} label={`Requests of ${pair.client} to ${pair.service}`}>
        {shown.map((denial, index) => (
          <tr key={index}>
            <th scope="row">
              <code>{describeRequest(denial)}</code>
            </th>
            <td class="number">{formatCount(denial.count)}</td>
            <td>{age(denial.last)}</td>
            <td>{describeReason(denial)}</td>
          </tr>
        ))}
      </Table>
      {pair.denials.length > shown.length && <p class="quiet">and {pair.denials.length - shown.length} more</p>}
      {pair.suggestions.map((each) => (
        <details key={each.name}>
          <summary>
            TrafficTarget <code>{each.name}</code> would allow it
          </summary>
          {each.notes.map((note) => (
            <Remark key={note} kind="notice" text={note} />
          ))}
          <pre tabIndex={0}>
            <code>{each.yaml}</code>
          </pre>
          <CopyButton text={each.yaml} label="Copy" />
        </details>
      ))}
    </section>
  );
}

/** A button that copies text; a browser refuses that to pages without TLS that are not on this machine. */
function CopyButton({ text, label }: { text: string; label: string }) {
  const [state, setState] = useState("");
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setState("Copied");
    } catch {
      setState("The browser does not allow it: select the text");
    }
  };
  return (
    <button disabled={!text} onClick={() => void copy()}>
      <span aria-live="polite">{state || label}</span>
    </button>
  );
}

function age(time: string): string {
  return formatAge((Date.now() - Date.parse(time)) / 1000);
}
