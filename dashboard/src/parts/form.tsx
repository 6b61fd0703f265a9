// What the forms of the pages have in common: a labelled field, and the names of services to choose from.

import { useStore } from "./hooks";
import type { ServiceReport } from "../logic/model";

const NAMES_LIMIT = 500;

interface FieldProps<Name extends string> {
  label: string;
  name: Name;
  values: Record<Name, string>;
  change: (changed: Partial<Record<Name, string>>) => void;
  size?: "small" | "wide";
  placeholder?: string;
  list?: string;
  required?: boolean;
  isNumber?: boolean;
}

/** A field of a form whose values are in one object. */
export function Field<Name extends string>({ label, name, values, change, size, isNumber, ...more }: FieldProps<Name>) {
  return (
    <label class={size}>
      {label}
      <input
        {...more}
        {...(isNumber ? { inputMode: "numeric", pattern: "[0-9]*" } : {})}
        value={values[name]}
        onInput={(event) => change({ [name]: event.currentTarget.value } as Partial<Record<Name, string>>)}
        autocomplete="off"
        spellcheck={false}
      />
    </label>
  );
}

/** The names of services, for the fields with this `list`. */
export function ServiceNames({ id, spell }: { id: string; spell: (service: ServiceReport) => string }) {
  const [{ services }] = useStore();
  return <Choices id={id} names={(services ?? []).slice(0, NAMES_LIMIT).map(spell)} />;
}

export function Choices({ id, names }: { id: string; names: string[] }) {
  return (
    <datalist id={id}>
      {names.map((each) => (
        <option key={each} value={each} />
      ))}
    </datalist>
  );
}

/** What went wrong with a form's request; nothing if the text is empty. */
export function Trouble({ text }: { text: string }) {
  return text ? (
    <div class="remark error">
      <p>{text}</p>
    </div>
  ) : null;
}
