// The reference page of rights and profiles, made from their tables. `node tools/rights-reference.ts` writes it.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { PROFILES, RIGHTS, SYSCALLS } from "@ergos/kernel";

export const RIGHTS_FILE: string = join(import.meta.dirname, "../docs/reference/rights.md");

/** The text of the page. */
export function rightsReference(): string {
  const callsOf = (right: string): string =>
    Object.entries(SYSCALLS)
      .flatMap(([name, row]) => (row.right === right ? [`\`${name}\``] : []))
      .join(" ");
  return [
    "# Rights",
    "",
    "A grant is `[ask | deny] right[:resource] [; limit]...`. Without a resource it is about every one; `*` stands for a part of a segment and",
    "`**` for any number of segments. A right ending in `.*` covers its family, `*` everything. In the rights of one process a matching `deny` wins",
    "over `ask`, and `ask` over `allow`; over its ancestors, all must allow. Limits: `uses=N`, `until=INSTANT`, and `arg.NAME` with `=` or `!=` and",
    "a glob, or `<` `<=` `>` `>=` and a number. How they are used is told in [the guide](../guide/rights.md).",
    "",
    "| right | resource | calls |",
    "| --- | --- | --- |",
    ...Object.entries(RIGHTS).map(([right, resource]) => `| \`${right}\` | ${resource} | ${callsOf(right)} |`),
    "",
    "## Profiles",
    "",
    "A profile stands for its grants wherever grants are written, also after `ask` and `deny`. `tool:NAME` takes the name of a tool.",
    "",
    "| profile | stands for |",
    "| --- | --- |",
    ...Object.entries(PROFILES).map(
      ([name, grants]) => `| \`${name}\` | ${grants.map((grant) => `\`${grant}\``).join(" ")} |`,
    ),
    "",
  ].join("\n");
}

if (import.meta.main) writeFileSync(RIGHTS_FILE, rightsReference());
