// `ergos audit`: who did what, and whether anybody has changed the record of it.

import { type ShownRecord } from "@ergos/kernel";
import {
  type Command,
  EXIT_FAILED,
  EXIT_OK,
  listOption,
  openDirectory,
  required,
  limitOption,
  textOption,
  UsageError,
} from "../command.ts";
import { type Output, formatCount, table } from "../terminal.ts";

const PAGE = 1000;

export const auditCommand: Command = {
  name: "audit",
  needsData: true,
  arguments: 1,
  summary: "show, verify, export, redact or trim the record of every change and denial",
  usage: "log [--limit N] | verify | export | redact --id ID... --why TEXT | trim --before DATE --why TEXT",
  examples: [
    "ergos audit log --limit 20",
    "ergos audit verify",
    "ergos audit export > trail.jsonl",
    "ergos audit redact --id 3-17 --why 'asked to be forgotten'",
    "ergos audit trim --before 2026-01-01 --why retention",
  ],
  options: {
    limit: { type: "string" },
    id: { type: "string", multiple: true },
    why: { type: "string" },
    before: { type: "string" },
  },
  run: async (invocation) => {
    const what = required(invocation, 0, "what to do: log, verify, export, redact or trim");
    const { out } = invocation;
    await using os = await openDirectory(invocation);
    switch (what) {
      case "log": {
        const limit = limitOption(invocation, 50);
        const records = await os.call("auditLog", { limit });
        out.answer(records, (list) =>
          list.length === 0 ? "nothing was changed yet" : table(list.map((record) => rowOf(record, out))),
        );
        return EXIT_OK;
      }
      case "verify": {
        const report = await os.call("auditVerify", {});
        out.answer(report, ({ records, seals, signed, redacted, fault }) => {
          const held = `${formatCount(records)} records in ${formatCount(seals)} seals, ${formatCount(signed)} of them signed${redacted === 0 ? "" : `, ${formatCount(redacted)} redacted`}`;
          if (fault === undefined) return `${out.style("green", "whole")}: ${held}`;
          return `${out.style("red", fault.what)}: ${fault.record}: ${fault.detail}; before it ${held}`;
        });
        return report.fault === undefined ? EXIT_OK : EXIT_FAILED;
      }
      case "export": {
        for (let after = 0; ;) {
          const page = await os.call("auditLog", { after, limit: PAGE });
          for (const record of page) process.stdout.write(`${JSON.stringify(record)}\n`);
          const last = page.at(-1);
          if (last === undefined) return EXIT_OK;
          after = last.seq;
        }
      }
      case "redact": {
        const ids = listOption(invocation, "id");
        if (ids.length === 0) throw new UsageError("--id names the records; `ergos audit log` shows them");
        const removed = await os.call("auditRedact", { ids, why: reason(textOption(invocation, "why")) });
        out.answer(
          { removed },
          () => `what ${removed} ${removed === 1 ? "record was" : "records were"} about is removed`,
        );
        return EXIT_OK;
      }
      case "trim": {
        const before = Date.parse(textOption(invocation, "before") ?? "");
        if (!Number.isFinite(before)) throw new UsageError("--before takes a date such as 2026-01-01");
        const cut = await os.call("auditTrim", { before, why: reason(textOption(invocation, "why")) });
        out.answer(cut ?? null, (found) =>
          found === null ? "nothing is that old" : `records up to position ${found.through} are forgotten`,
        );
        return EXIT_OK;
      }
      default:
        throw new UsageError(`audit takes log, verify, export, redact or trim; found ${what}`);
    }
  },
};

function reason(why: string | undefined): string {
  if (why === undefined || why.trim() === "") throw new UsageError("--why says why: it stays in the trail");
  return why;
}

function rowOf(record: ShownRecord, out: Output): readonly string[] {
  const { id, at, pid, user, call, outcome, code, count, on, hash, payload } = record;
  const colour = outcome === "ok" ? "green" : outcome === "denied" ? "red" : "yellow";
  const about = payload === undefined ? (hash === undefined ? (on ?? "") : "(redacted)") : payload.resource;
  const args =
    payload?.args === undefined || JSON.stringify(payload.args) === "{}" ? "" : ` ${JSON.stringify(payload.args)}`;
  return [
    id,
    new Date(at).toISOString(),
    `${pid}`,
    user,
    call,
    out.style(colour, `${outcome}${code === undefined ? "" : ` ${code}`}${count === undefined ? "" : ` ×${count}`}`),
    `${about}${args}`,
  ];
}
