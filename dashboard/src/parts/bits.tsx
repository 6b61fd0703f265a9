// Small pieces that several pages show.

import type { ComponentChildren } from "preact";
import { findAdvice } from "../logic/advice";
import type { Health } from "../logic/rows";

export const HEALTH_WORDS: Record<Health, string> = {
  failing: "failing",
  degraded: "degraded",
  remarked: "notice",
  fine: "healthy",
  idle: "no traffic",
};

const SIGNS: Record<Health, string> = { failing: "✕", degraded: "!", remarked: "i", fine: "✓", idle: "·" };

/** A health as colour, sign and word: the colour alone would say nothing to many. */
export function HealthMark({ health, isShort = false }: { health: Health; isShort?: boolean }) {
  return (
    <span class={`mark ${health}`} title={HEALTH_WORDS[health]}>
      <b aria-hidden="true">{SIGNS[health]}</b>
      <span class={isShort ? "unseen" : ""}>{HEALTH_WORDS[health]}</span>
    </span>
  );
}

export function Lock({ title }: { title: string }) {
  return (
    <svg class="lock" viewBox="0 0 16 16" width="14" height="14" role="img" aria-label={title}>
      <title>{title}</title>
      <path d="M4 7V5a4 4 0 0 1 8 0v2h1v7H3V7zm2 0h4V5a2 2 0 0 0-4 0z" />
    </svg>
  );
}

export const SHIELD = "M8 1l6 2v5c0 3.5-2.5 6-6 7-3.5-1-6-3.5-6-7V3z";

export function Shield({ title }: { title: string }) {
  return (
    <svg viewBox="0 0 16 16" width="14" height="14" role="img" aria-label={title}>
      <title>{title}</title>
      <path d={SHIELD} />
    </svg>
  );
}

export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <h2>{title}</h2>
      {children}
    </div>
  );
}

export function Loading({ what }: { what: string }) {
  return (
    <div class="empty" role="status">
      <p class="busy">Loading {what} …</p>
    </div>
  );
}

export function Remark({ kind, text, origin = "" }: { kind: "error" | "notice"; text: string; origin?: string }) {
  const advice = findAdvice(text);
  return (
    <div class={`remark ${kind}`}>
      <p>
        <strong>{kind === "error" ? "Error" : "Notice"}</strong>
        {origin && <span class="quiet"> {origin}</span>} {text}
      </p>
      {advice && <p class="advice">{advice}</p>}
    </div>
  );
}

export function Section({ title, note, children }: { title: string; note?: string; children: ComponentChildren }) {
  return (
    <section class="card">
      <h2>
        {title}
        {note && <small>{note}</small>}
      </h2>
      {children}
    </section>
  );
}

/** A table that scrolls sideways on a narrow screen. */
export function Table({ head, children, label }: { head: string[]; children: ComponentChildren; label: string }) {
  return (
    <div class="scroll" tabIndex={0} role="group" aria-label={label}>
      <table>
        <thead>
          <tr>
            {head.map((title) => (
              <th key={title} scope="col">
                {title}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>{children}</tbody>
      </table>
    </div>
  );
}

export function Figure({ label, value, tone = "" }: { label: string; value: string; tone?: string }) {
  return (
    <div class={`figure ${tone}`}>
      <dt>{label}</dt>
      <dd>{value}</dd>
    </div>
  );
}
