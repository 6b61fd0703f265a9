// Why a request is allowed or refused: the verdict of `maesh explain`, with each rule on the way.

import { useEffect, useState } from "preact/hooks";
import { formatShare } from "../logic/format";
import type { Explanation } from "../logic/model";
import { describeDestination } from "../logic/routes";
import { fetchJson } from "../logic/store";
import { Remark } from "../parts/bits";
import { Choices, Field, ServiceNames, Trouble } from "../parts/form";
import { useTitle } from "../parts/hooks";
import { linkToService, replaceQuery } from "../parts/route";

const METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
const FIELDS = ["client", "service", "port", "method", "path", "header"] as const;

type Question = Record<(typeof FIELDS)[number], string>;

function readQuestion(query: URLSearchParams): Question {
  const read = (name: string, fallback = "") => query.get(name) ?? fallback;
  return {
    client: read("client"),
    service: read("service"),
    port: read("port"),
    method: read("method", "GET"),
    path: read("path", "/"),
    header: query.getAll("header").join("\n"),
  };
}

/** The parameters of /api/explain: each line of the header field is one header. */
export function buildQuery(question: Question): string {
  const query = new URLSearchParams();
  for (const name of FIELDS) {
    const values = name === "header" ? question.header.split("\n") : [question[name]];
    for (const value of values) if (value.trim()) query.append(name, value.trim());
  }
  return query.toString();
}

export function WhyPage({ query }: { query: URLSearchParams }) {
  const [question, setQuestion] = useState(() => readQuestion(query));
  const [answer, setAnswer] = useState<Explanation | null>(null);
  const [error, setError] = useState("");
  const [isBusy, setIsBusy] = useState(false);
  useTitle("Why?");

  const ask = async (asked: Question) => {
    setIsBusy(true);
    setError("");
    try {
      setAnswer(await fetchJson<Explanation>(`api/explain?${buildQuery(asked)}`));
      replaceQuery("why", Object.fromEntries(new URLSearchParams(buildQuery({ ...asked, header: "" }))));
    } catch (problem) {
      setAnswer(null);
      setError(problem instanceof Error ? problem.message : String(problem));
    } finally {
      setIsBusy(false);
    }
  };
  useEffect(() => {
    if (question.client && question.service) void ask(question);
  }, []);

  const change = (changed: Partial<Question>) => setQuestion({ ...question, ...changed });
  const form = { values: question, change };
  return (
    <div class="page">
      <h1>Why is a request allowed or refused?</h1>
      <form
        class="card form"
        onSubmit={(event) => {
          event.preventDefault();
          void ask(question);
        }}
      >
        <Field label="Client" name="client" required placeholder="pod.namespace or address" {...form} />
        <Field label="Service" name="service" required placeholder="service.namespace" list="services" {...form} />
        <ServiceNames id="services" spell={(each) => `${each.name}.${each.namespace}`} />
        <Field label="Port" name="port" size="small" placeholder="first" isNumber {...form} />
        <Field label="Method" name="method" size="small" list="methods" {...form} />
        <Choices id="methods" names={METHODS} />
        <Field label="Path" name="path" size="wide" {...form} />
        <label class="wide">
          Headers, one on each line
          <textarea
            rows={1}
            value={question.header}
            onInput={(event) => change({ header: event.currentTarget.value })}
            placeholder="X-Group: beta"
            spellcheck={false}
          />
        </label>
        <button class="primary" disabled={isBusy}>
          {isBusy ? "Asking …" : "Explain"}
        </button>
      </form>
      <div aria-live="polite">
        <Trouble text={error} />
        {answer && <Answer answer={answer} />}
      </div>
    </div>
  );
}

function Answer({ answer }: { answer: Explanation }) {
  const refused = answer.status
    ? `refused with ${answer.status}`
    : "refused: the connection is closed, or the datagram dropped";
  const undecided = answer.undecided ?? [];
  return (
    <section class={`card verdict ${answer.isAdmitted ? "fine" : "failing"}`}>
      <h2>
        {answer.isAdmitted ? "✓ Allowed" : `✕ ${refused[0]?.toUpperCase()}${refused.slice(1)}`}
        {answer.isAdmitted && undecided.length > 0 && <small>unless {undecided.join(" or ")} refuses it</small>}
      </h2>
      <ol class="steps">
        {answer.steps.map((step, index) => (
          <li key={index} class={/^(denied|closed)/.test(step) ? "text failing" : ""}>
            {step}
          </li>
        ))}
      </ol>
      {answer.isAdmitted && (
        <table>
          <thead>
            <tr>
              <th scope="col">Goes to</th>
              <th scope="col">Share</th>
              <th scope="col">Servers</th>
            </tr>
          </thead>
          <tbody>
            {(answer.destinations ?? []).map((each, index) => (
              <tr key={index}>
                <th scope="row">{each.service}</th>
                <td class="number">{formatShare(each.share)}</td>
                <td>
                  {describeDestination(each)} {each.scheme && <span class="quiet">{each.scheme}</span>}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      {(answer.objects ?? []).flatMap((each) => {
        const name = `${each.kind} ${each.namespace}/${each.name}:`;
        return [
          ...(each.errors ?? []).map((text) => (
            <Remark key={`e${name}${text}`} kind="error" text={text} origin={name} />
          )),
          ...(each.notices ?? []).map((text) => (
            <Remark key={`n${name}${text}`} kind="notice" text={text} origin={name} />
          )),
        ];
      })}
      {Object.entries(answer.problems ?? {}).map(([origin, text]) => (
        <Remark key={origin} kind="notice" text={text} origin={`not read, and therefore ignored: ${origin}:`} />
      ))}
      <p>
        <a href={linkToService(`${answer.service}:${answer.port}`)}>About service {answer.service}</a>
      </p>
    </section>
  );
}
