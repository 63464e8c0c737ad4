// Journal records as lines for people.

import type { Seq } from "../base/id.ts";
import type { JournalRecord } from "./record.ts";

export function formatRecord(record: JournalRecord & { readonly seq: Seq }): string {
  return `${String(record.seq).padStart(8)} ${new Date(record.at).toISOString()} ${summary(record)}`;
}

/** A name as one line of text: it may be data, of a model perhaps. */
export const printable = (name: string): string =>
  name.replaceAll(/\p{Cc}/gu, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`);

function summary(given: JournalRecord): string {
  const record = "p" in given && given.p !== undefined ? { ...given, p: printable(given.p) } : given;
  switch (record.t) {
    case "start":
      return `start   ${record.program} ${record.revision.slice(0, 12)}`;
    case "resume":
      return `resume  ${record.revision.slice(0, 12)}`;
    case "intent":
      return `intent  ${record.p}`;
    case "lost":
      return `lost    ${record.p}: ${record.error.message}`;
    case "release":
      return `release ${record.p}: ${record.error.message}`;
    case "step": {
      const used =
        record.use === undefined
          ? ""
          : ` ${record.use.tool ?? `${record.use.model} in=${record.use.tokensIn} out=${record.use.tokensOut}`}`;
      const time = record.ms === undefined ? "" : ` ${record.ms} ms`;
      return record.error === undefined
        ? `step    ${record.p}${time}${used}`
        : `failed  ${record.p}: ${record.error.message}`;
    }
    case "attempt":
      return `attempt ${record.attempt} of ${record.p} failed, the next at ${new Date(record.until).toISOString()}: ${record.why}`;
    case "skip":
      return `skip    ${record.p}: ${record.why}`;
    case "retry":
    case "alive":
      return record.t;
    case "restart":
      return `restart${record.fresh === true ? " from the start" : ""}${record.error === undefined ? "" : `: ${record.error.message}`}`;
    case "renew":
      return "renew   as new, with another input";
    case "outdated":
      return `changed ${record.places.length} outcomes no longer count`;
    case "log":
      return `log     ${record.level} ${record.text}`;
    case "exit":
      return `exit    code=${record.code}${record.signal === undefined ? "" : ` signal=${record.signal}`}`;
    default:
      // A newer program may have written types that this one does not know.
      return String((record as { t?: unknown }).t);
  }
}
