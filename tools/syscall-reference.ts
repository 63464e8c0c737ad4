// The reference page of the system calls, made from the table. `node tools/syscall-reference.ts` writes it.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { SYSCALLS } from "@ergos/kernel";

export const REFERENCE_FILE: string = join(import.meta.dirname, "../docs/reference/syscalls.md");

/** The text of the page. */
export function syscallReference(): string {
  const rows = Object.entries(SYSCALLS).map(([name, row]) => {
    const required = new Set("required" in row.schema ? row.schema.required : []);
    const args = Object.keys(row.schema.properties ?? {}).map((key) => `\`${key}${required.has(key) ? "" : "?"}\``);
    return `| \`${name}\` | \`${row.right}\` | ${row.kind} | ${args.join(" ")} | ${row.summary} |`;
  });
  return [
    "# System calls",
    "",
    "One table: the typed methods of `os`, the wire and the rights are derived from it. Every call has the process that makes it as its caller,",
    "needs its right on the canonical path or name that it acts on, and is refused without it (`EACCES`, with the missing grant).",
    "",
    "| call | right | kind | arguments | what it does |",
    "| --- | --- | --- | --- | --- |",
    ...rows,
    "",
  ].join("\n");
}

if (import.meta.main) writeFileSync(REFERENCE_FILE, syscallReference());
